//! What sessions want done, done: each wish a task that answers through the session's port.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use tidegate_core::broker::{HistoryError, Page, PageLimit};
use tidegate_core::message::{CommandId, Credential, GapReason, Since};
use tidegate_core::session::{Ending, Input, Notice, Output, SubscriptionId};
use tidegate_core::{ChannelName, ChannelRule, CloseCode, ErrorCode};
use tokio::sync::OwnedSemaphorePermit;

use super::Hub;
use super::crowd::Member;
use super::line::Wish;
use crate::auth::Refused;
use crate::clock::Clock;
use crate::connection::{Alarms, Outside, Port, Teardown};
use crate::request::Request;

impl Outside for Hub {
    fn clock(&self) -> Clock {
        self.clock
    }

    fn alarms(&self) -> &Arc<Alarms> {
        &self.alarms
    }

    fn teardown(&self) -> &Arc<Teardown> {
        &self.teardown
    }

    fn perform(self: Arc<Self>, port: &Arc<Port>, output: Output) {
        let task = Task { hub: Arc::clone(&self), port: Arc::clone(port) };
        match output {
            Output::Attach { subscription, channel, rule } => {
                let member = Member::new(Arc::clone(port), subscription);
                let channel = self.fanout.registry.join(&channel, &rule, member);
                port.share_name(subscription, &channel);
                tokio::spawn(async move { task.attach(subscription, channel, rule).await });
            }
            Output::Fetch { subscription, channel, rule, since, limit } => {
                tokio::spawn(async move { task.fetch(subscription, channel, rule, since, limit).await });
            }
            Output::Snapshot { subscription, channel, rule } => {
                tokio::spawn(async move { task.snapshot(subscription, channel, rule).await });
            }
            Output::Publish { id, rule, publish } => {
                self.publish(port.id(), Wish { task, id, rule, publish });
            }
            Output::Request { id, method, data } => {
                tokio::spawn(async move { task.request(id, method, data).await });
            }
            Output::Authenticate { id, credential } => {
                tokio::spawn(async move { task.authenticate(id, credential).await });
            }
            // The driver's own: they never get here.
            Output::Detach { .. } | Output::MeasureUnsent | Output::Notice(_) | Output::Terminate(_) => {}
        }
    }

    fn detach(self: Arc<Self>, port: &Port, subscription: SubscriptionId, channel: &ChannelName) {
        let was_last = self.fanout.registry.leave(channel, port, subscription);
        self.fanout.full.forget(channel, port);
        if was_last {
            // Not on the runtime of the connection, which may be closing while the gate goes on.
            let (channel, home) = (channel.clone(), self.fanout.homes.fanouts().clone());
            home.spawn(async move { self.unsubscribe_unless_wanted(&channel).await });
        }
    }

    fn notice(&self, port: &Port, notice: Notice) {
        let metrics = &self.metrics;
        match notice {
            Notice::Closing { code, last_sent_ago, last_received_ago, pings_unanswered } => {
                metrics.closed(code);
                if code == CloseCode::HeartbeatTimeout {
                    self.log_silence(port, last_sent_ago, last_received_ago, pings_unanswered);
                } else {
                    tracing::debug!(connection = %port.id(), code = code.number(), "closing");
                }
            }
            Notice::ControlFramesEaten => {
                metrics.control_frames_eaten.inc();
                tracing::info!(connection = %port.id(), "the path eats control frames: application pings are answered, protocol pings are not");
            }
            Notice::AppPingUnanswered => {
                metrics.app_ping_unanswered.inc();
            }
            Notice::Refused(code) => metrics.refused(code),
            Notice::Shed { rule, dropped } => metrics.dropped(rule.kind, rule.overflow, dropped.into()),
        }
    }

    fn gap_sent(&self, reason: GapReason) {
        self.metrics.gap(reason);
    }

    fn buffered(&self, bytes: usize) {
        self.metrics.buffered(bytes);
    }

    fn lanes_behind(&self, change: i64) {
        if self.metrics.lanes_behind.inc_by(change) + change == 0 {
            self.replay.clear();
        }
    }

    fn ended(&self, port: &Port, age: Duration, ending: Ending) {
        let metrics = &self.metrics;
        self.connections.remove(port.id());
        metrics.connections_open.dec();
        if std::thread::panicking() {
            metrics.panic.inc();
        }
        match ending {
            Ending::Clean { ours: false, .. } => {
                metrics.connection_closed_by_peer.inc();
            }
            Ending::Clean { ours: true, .. } => {}
            Ending::Unanswered(_) => {
                metrics.connection_close_unanswered.inc();
            }
            Ending::Lost => metrics.lost(age),
        }
        tracing::debug!(connection = %port.id(), age_ms = age.as_millis() as u64, ?ending, "connection ended");
    }
}

/// What a reply takes besides its data.
const MESSAGE_BYTES: usize = 128;

/// A session's wish under way.
pub(super) struct Task {
    hub: Arc<Hub>,
    port: Arc<Port>,
}

impl Drop for Task {
    /// A panic leaves a command without its answer: the session can't go on, the others do.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.hub.metrics.panic.inc();
            self.answer(Input::Close { code: CloseCode::Internal, retry_ms: None, reason: None });
        }
    }
}

impl Task {
    fn answer(&self, input: Input) {
        self.port.tell(self.hub.clock.now(), input);
    }

    async fn attach(self, subscription: SubscriptionId, channel: ChannelName, rule: Arc<ChannelRule>) {
        let hub = &self.hub;
        let _permit = hub.commands.acquire().await;
        let _shared = hub.subscribing.of(&channel).read().await;
        if !hub.fanout.registry.has_members(&channel) {
            return; // It left meanwhile, and nobody is to be told.
        }
        let attached = hub.broker.subscribe(&rule, &channel).await;
        self.answer(Input::Attached(subscription, attached));
    }

    async fn fetch(self, subscription: SubscriptionId, channel: ChannelName, rule: Arc<ChannelRule>, since: Since, limit: PageLimit) {
        let hub = &self.hub;
        let _permit = hub.reads.acquire().await;
        let mut page: Result<Page, HistoryError> = hub.broker.history(&rule, &channel, since, limit).await;
        let turn = hub.replay.turn().await;
        let messages = page.as_ref().map_or(0, |page| page.messages.len());
        if let Ok(page) = &mut page {
            // Charged here, so that what waits for many slow readers counts as what it is.
            hub.replay.charge_page(page, &hub.fanout);
        }
        self.answer(Input::Fetched(subscription, page));
        if hub.metrics.lanes_behind.get() == 0 {
            hub.replay.clear();
        }
        hub.replay.rest(turn, messages, &hub.fanout).await;
    }

    async fn snapshot(self, subscription: SubscriptionId, channel: ChannelName, rule: Arc<ChannelRule>) {
        let hub = &self.hub;
        let _permit = hub.reads.acquire().await;
        let snapshot = hub.broker.snapshot(&rule, &channel).await;
        let turn = hub.replay.turn().await;
        let entries = snapshot.as_ref().map_or(0, |snapshot| snapshot.entries.len());
        let snapshot = snapshot.map(|snapshot| hub.replay.charge_snapshot(&snapshot, &hub.budget));
        self.answer(Input::SnapshotTaken(subscription, snapshot));
        hub.replay.rest(turn, entries, &hub.fanout).await;
    }

    async fn request(self, id: CommandId, method: Box<str>, data: Bytes) {
        let _permit = self.hub.commands.acquire().await;
        let response = match &self.hub.requests {
            Some(handler) => {
                let identity = self.port.identity().unwrap_or_default();
                handler.handle(Request { connection: self.port.id(), identity, method, data }).await
            }
            // Not `unavailable`, which invites a repetition: there will be no handler then either.
            None => Err((ErrorCode::UnknownType, "nothing here answers requests".into())),
        };
        let charged = response.map(|data| self.hub.budget.charge(data, MESSAGE_BYTES));
        self.answer(Input::Responded(id, charged));
    }

    async fn authenticate(self, id: CommandId, credential: Credential) {
        let _permit = self.hub.commands.acquire().await;
        let verified = match &self.hub.authenticate {
            Some(authenticate) => authenticate.verify(self.port.id(), credential).await,
            None => Err(Refused::Bad),
        };
        let limits = self.hub.config.load().admission;
        let input = match verified {
            Err(refused) => Input::Refused { id: Some(id), code: refused.code() },
            Ok(identity) => match self.port.with_place(|place| place.identify(&limits, identity.user.as_ref())) {
                Some(Err(_full)) => Input::Close { code: CloseCode::Quota, retry_ms: None, reason: None },
                Some(Ok(())) | None => Input::Authenticated { id: Some(id), identity },
            },
        };
        self.answer(input);
    }
}

impl Wish {
    /// Begins at once and goes on as a task: tasks begin in any order. Unconstrained, because a used-up budget would put the beginning
    /// off.
    pub(super) fn begin(self, permit: OwnedSemaphorePermit) {
        let mut work = Box::pin(tokio::task::unconstrained(self.publish(permit)));
        if work.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            tokio::spawn(work);
        }
    }

    /// The permit is for the broker's part: what everybody else wants must not wait for the subscribers of one channel.
    async fn publish(self, permit: OwnedSemaphorePermit) {
        let Self { task, id, rule, publish } = self;
        let stored = task.hub.publisher.store_by(&rule, publish).await;
        drop(permit);
        let published = match stored {
            Ok((published, pace)) => {
                pace.await;
                Ok(published)
            }
            Err(error) => Err(error),
        };
        task.answer(Input::Published(id, published));
    }
}

impl Hub {
    async fn unsubscribe_unless_wanted(&self, channel: &ChannelName) {
        let _alone = self.subscribing.of(channel).write().await;
        if self.fanout.registry.has_members(channel) {
            return;
        }
        if let Err(error) = self.broker.unsubscribe(channel).await {
            // Harmless: what still arrives finds no subscriber.
            tracing::debug!(%error, "unsubscribe failed");
        }
    }

    /// The one line that a lost peer gets: what an operator needs to find the middlebox that cut it.
    fn log_silence(&self, port: &Port, last_sent_ago: Option<Duration>, last_received_ago: Duration, pings_unanswered: u32) {
        let facts = port.facts();
        tracing::warn!(
            connection = %port.id(),
            age_ms = self.clock.now().since(facts.opened).as_millis() as u64,
            ping_ms = self.config.load().session.heartbeat.ping.as_millis() as u64,
            last_sent_ago_ms = last_sent_ago.map(|ago| ago.as_millis() as u64),
            last_received_ago_ms = last_received_ago.as_millis() as u64,
            pings_unanswered,
            via = facts.hints.via,
            forwarded = facts.hints.forwarded,
            agent = %String::from_utf8_lossy(&facts.hints.agent),
            "heartbeat timeout: the peer was not heard of"
        );
    }
}
