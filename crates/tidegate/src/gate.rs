//! The gate: everything an embedder holds in its hand.

use std::future::Future;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::Request as HttpRequest;
use axum::routing::{MethodRouter, any};
use tidegate_core::broker::{Broker, BrokerError, HistoryError, Page, PageLimit, Snapshot};
use tidegate_core::message::Since;
use tidegate_core::session::Input;
use tidegate_core::{ChannelKind, ChannelName, ChannelRule, CloseCode, ConnectionId, Pattern};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::auth::Authenticate;
use crate::broker::{Embedded, EmbeddedSettings, OpenError};
use crate::budget::Budget;
use crate::clock::Clock;
use crate::connection::{Alarms, Neighbours, RawSocket};
use crate::connections::{ConnectionFilter, ConnectionPage, Connections, MAX_PAGE};
use crate::drain::{Drained, Lifecycle, Phase};
use crate::hub::{FanOut, Hub, Lines, Replay, Subscribing, shed_when_over};
use crate::listener::{Direct, Listener};
use crate::metrics::Metrics;
use crate::publish::{PublishError, Publisher};
use crate::request::HandleRequest;
use crate::settings::Config;
use crate::upgrade::{self, ServeRaw};

/// The channel that a readiness probe reads.
const PROBE: &str = "tidegate-readiness-probe";

/// A WebSocket gate. Clones are handles to the same one.
#[derive(Clone)]
pub struct Gate {
    hub: Arc<Hub>,
}

/// What a gate is made from.
pub struct Builder {
    config: Config,
    broker: Option<Arc<dyn Broker>>,
    authenticate: Option<Arc<dyn Authenticate>>,
    requests: Option<Arc<dyn HandleRequest>>,
    metrics: Metrics,
}

/// Why a gate can't be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The default broker can't be started.
    #[error(transparent)]
    Broker(#[from] OpenError),
}

impl Builder {
    /// Who says who clients are. Without one, the Tidegate protocol has nobody to let in, and raw endpoints are open.
    #[must_use]
    pub fn authenticate(mut self, authenticate: impl Authenticate) -> Self {
        self.authenticate = Some(Arc::new(authenticate));
        self
    }

    /// Who answers clients' `request`s.
    #[must_use]
    pub fn on_request(mut self, handler: impl HandleRequest) -> Self {
        self.requests = Some(Arc::new(handler));
        self
    }

    /// Where messages are kept and passed on: an embedded log, its counters among the metrics.
    #[must_use]
    pub fn embedded(mut self, broker: Embedded) -> Self {
        self.metrics.include(Arc::clone(broker.stats()));
        self.broker = Some(Arc::new(broker));
        self
    }

    /// Where messages are kept and passed on, whatever it is. Without any: in this process's memory.
    #[must_use]
    pub fn broker(mut self, broker: Arc<dyn Broker>) -> Self {
        self.broker = Some(broker);
        self
    }

    /// Builds it. Its fan-outs run on the runtime that this is called on, which needs timers; connections on the one on which their server is
    /// polled. Where these are two, as in the gateway, no crowd that comes or is cut stands in front of a fan-out.
    ///
    /// # Errors
    /// The default broker can't be started.
    pub async fn build(self) -> Result<Gate, BuildError> {
        let Self { mut config, broker, authenticate, requests, mut metrics } = self;
        let broker = match broker {
            Some(broker) => broker,
            None => {
                let broker = Embedded::open(EmbeddedSettings::default())?;
                metrics.include(Arc::clone(broker.stats()));
                Arc::new(broker)
            }
        };
        if config.session.node.is_empty() {
            Arc::make_mut(&mut config.session).node = ConnectionId::new(rand::random()).to_string().into();
        }
        let metrics = Arc::new(metrics);
        let clock = Clock::start();
        let budget = Arc::new(Budget::new(config.outbound_memory, metrics.outbound_bytes.clone()));
        let fanout = FanOut::new(Arc::clone(&metrics), Arc::clone(&budget), clock, Handle::current());
        broker.attach(Arc::clone(&fanout) as _);
        let concurrency = config.concurrency;
        let config = Arc::new(ArcSwap::from_pointee(config));
        let publisher = Publisher::new(Arc::clone(&broker), Arc::clone(&fanout), Arc::clone(&metrics), Arc::clone(&config));
        let hub = Arc::new(Hub {
            broker,
            fanout,
            connections: Connections::new(),
            metrics,
            clock,
            budget,
            config,
            authenticate,
            requests,
            publisher,
            reads: Semaphore::new(concurrency.reads),
            replay: Replay::default(),
            commands: Arc::new(Semaphore::new(concurrency.commands)),
            lines: Lines::default(),
            alarms: Arc::new(Alarms::new(clock, Handle::current())),
            neighbours: Neighbours::default(),
            teardown: Arc::default(),
            subscribing: Subscribing::new(),
            admission: Arc::default(),
            lifecycle: Lifecycle::default(),
        });
        tokio::spawn(shed_when_over(Arc::downgrade(&hub)));
        Ok(Gate { hub })
    }
}

#[cfg(test)]
impl Gate {
    pub(crate) const fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }
}

/// Building and mounting.
impl Gate {
    /// Begins to build a gate.
    pub fn builder(config: Config) -> Builder {
        Builder { config, broker: None, authenticate: None, requests: None, metrics: Metrics::new() }
    }

    /// The endpoint of the Tidegate protocol, for a router. Servers other than [`Gate::serve`] have to tell the peer's address
    /// (`into_make_service_with_connect_info::<SocketAddr>()`), or `limits.per_address` can't count.
    pub fn route<S: Clone + Send + Sync + 'static>(&self) -> MethodRouter<S> {
        self.endpoint(None)
    }

    /// An endpoint for a team's own messages: guarded by the same heartbeats, outbox, stall, idle stop and drain. The function
    /// runs in a task of its own per connection, and the connection ends with it.
    pub fn raw<S, H, F>(&self, handler: H) -> MethodRouter<S>
    where
        S: Clone + Send + Sync + 'static,
        H: Fn(RawSocket) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let metrics = Arc::clone(&self.hub.metrics);
        self.endpoint(Some(Arc::new(move |socket| {
            let (served, fuse) = (handler(socket), PanicCount(Arc::clone(&metrics)));
            tokio::spawn(async move {
                let _fuse = fuse;
                served.await;
            });
        })))
    }

    fn endpoint<S: Clone + Send + Sync + 'static>(&self, raw: Option<ServeRaw>) -> MethodRouter<S> {
        let hub = Arc::clone(&self.hub);
        any(move |request: HttpRequest| upgrade::answer(Arc::clone(&hub), raw.clone(), request))
    }

    /// Serves a router with the gate's own accept loop until the future is dropped; open connections are not concerned. They stay on the
    /// runtime on which this is polled.
    pub async fn serve(&self, listener: Listener, app: Router) {
        listener.serve(app, None, Arc::clone(&self.hub.metrics)).await;
    }

    /// The same with the endpoint of the Tidegate protocol on this path, which the router must not have. A usual upgrade request
    /// for it never meets the HTTP server.
    pub async fn serve_at(&self, path: &str, listener: Listener, app: Router) {
        let direct = Direct { path: path.into(), hub: Arc::clone(&self.hub) };
        listener.serve(app.route(path, self.route()), Some(direct), Arc::clone(&self.hub.metrics)).await;
    }
}

/// Counts the panic that drops it.
struct PanicCount(Arc<Metrics>);

impl Drop for PanicCount {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.panic.inc();
        }
    }
}

/// Publishing and reading.
impl Gate {
    /// The way in for messages.
    pub fn publisher(&self) -> Publisher {
        self.hub.publisher.clone()
    }

    /// A page of a channel's history.
    ///
    /// # Errors
    /// The channel is unknown, or what is asked for is no longer kept, or the broker failed.
    pub async fn history(&self, channel: &str, since: Since, limit: PageLimit) -> Result<Result<Page, HistoryError>, PublishError> {
        let (channel, session) = (ChannelName::new(channel)?, Arc::clone(&self.hub.config.load().session));
        let rule = session.rule(&channel).ok_or_else(|| PublishError::UnknownChannel(channel.clone()))?;
        Ok(self.hub.broker.history(rule, &channel, since, limit).await)
    }

    /// All entries of a `state` channel.
    ///
    /// # Errors
    /// The channel is unknown, or the broker failed.
    pub async fn snapshot(&self, channel: &str) -> Result<Arc<Snapshot>, PublishError> {
        let (channel, session) = (ChannelName::new(channel)?, Arc::clone(&self.hub.config.load().session));
        let rule = session.rule(&channel).ok_or_else(|| PublishError::UnknownChannel(channel.clone()))?;
        Ok(self.hub.broker.snapshot(rule, &channel).await?)
    }
}

/// Operating.
impl Gate {
    /// Everything counted.
    pub fn metrics(&self) -> &Metrics {
        &self.hub.metrics
    }

    /// Where the node is in its life.
    pub fn phase(&self) -> Phase {
        self.hub.lifecycle.phase()
    }

    /// Whether the broker answers, for a readiness probe: asks it for the history of a channel that nobody publishes to.
    ///
    /// # Errors
    /// It does not, or says why it can't.
    pub async fn broker_answers(&self) -> Result<(), BrokerError> {
        let (Ok(channel), Ok(pattern)) = (ChannelName::new(PROBE), Pattern::new(PROBE)) else { return Ok(()) };
        let rule = ChannelRule::new(pattern, ChannelKind::Log);
        match self.hub.broker.history(&rule, &channel, Since::Earliest, PageLimit { messages: 1, bytes: 1 }).await {
            Err(HistoryError::Broker(error)) => Err(error),
            Ok(_) | Err(HistoryError::Retention { .. } | HistoryError::Epoch { .. }) => Ok(()),
        }
    }

    /// How it behaves now.
    pub fn config(&self) -> Arc<Config> {
        self.hub.config.load_full()
    }

    /// Changes how it behaves. Connections that are open keep the settings they began with; `outbound_memory` and
    /// `concurrency` stay what they were at the start.
    pub fn reconfigure(&self, mut config: Config) {
        if config.session.node.is_empty() {
            Arc::make_mut(&mut config.session).node = self.hub.config.load().session.node.clone();
        }
        self.hub.config.store(Arc::new(config));
    }

    /// How many connections are open.
    pub fn connection_count(&self) -> usize {
        self.hub.connections.count()
    }

    /// A page of the open connections.
    pub fn connections(&self, filter: &ConnectionFilter) -> ConnectionPage {
        let limit = filter.limit.clamp(1, MAX_PAGE);
        let is_wanted_user = |port: &crate::connection::Port| {
            filter.user.as_deref().is_none_or(|user| port.identity().is_some_and(|identity| identity.user.as_deref() == Some(user)))
        };
        let ports = match &filter.channel {
            None => self.hub.connections.after(filter.after, limit, is_wanted_user),
            Some(channel) => {
                let subscribers = self.hub.fanout.registry.members(channel);
                let mut ports: Vec<_> = subscribers.iter().map(|member| Arc::clone(&member.port)).collect();
                ports.retain(|port| filter.after.is_none_or(|after| port.id() > after) && is_wanted_user(port));
                ports.sort_unstable_by_key(|port| port.id());
                ports.truncate(limit + 1);
                ports
            }
        };
        ConnectionPage::of(ports, limit, &self.hub.config.load().session.node, self.hub.clock.now())
    }

    /// Closes a connection with this code and reason text. What waits for it is not sent any more: a peer that reads late still gets
    /// what the kernel holds, what TLS has encrypted, and the end of a message that had begun. Says whether there was one.
    pub fn close(&self, id: ConnectionId, code: CloseCode, reason: Option<&str>) -> bool {
        let port = self.hub.connections.get(id);
        if let Some(port) = &port {
            port.tell(self.hub.clock.now(), Input::Close { code, retry_ms: None, reason: reason.map(Into::into) });
        }
        port.is_some()
    }

    /// Waits for the signal, then sends everybody away: announced, evenly spread, and cut only at the deadline.
    pub async fn drain_on(&self, signal: impl Future<Output = ()>) -> Drained {
        signal.await;
        self.hub.lifecycle.drain(&self.hub).await
    }

    /// Skips a drain to its end, as a second signal does.
    pub fn hurry(&self) {
        self.hub.lifecycle.hurry();
    }
}
