//! A channel with subscribers and without sockets, for the count of what a fan-out and a subscription take. Not part of the library's promises.

use std::io;
use std::sync::Arc;

use tidegate_core::broker::Sink;
use tidegate_core::message::ClientMessage;
use tidegate_core::session::{Input, Mode, Opening, Output, Session, SubscriptionId};
use tidegate_core::{ChannelName, ChannelRule, ConnectionId, Grants, Identity, Moment, OutboxSettings, Publication, SessionSettings};
use tokio::runtime::{Builder, Runtime};

use crate::admission::{Admission, AdmissionSettings};
use crate::budget::Budget;
use crate::clock::Clock;
use crate::connection::{Facts, Hints, Port};
use crate::hub::{FanOut, Member};
use crate::metrics::Metrics;
use crate::settings::OutboundMemory;

/// So much that no outbox and no node is ever full: what is counted is the way in.
const PLENTY: usize = 1 << 40;

/// A subscription that no session has given out.
const FURTHER: SubscriptionId = SubscriptionId(u32::MAX);

/// Subscribers of one `event` channel. What is published stays in their outboxes.
#[derive(Debug)]
pub struct Room {
    pub(crate) fanout: Arc<FanOut>,
    pub(crate) runtime: Runtime,
    pub(crate) ports: Vec<Arc<Port>>,
}

impl Room {
    /// So many connections, each with one subscription of this channel.
    ///
    /// # Errors
    /// The operating system has nothing left for a runtime.
    pub fn new(channel: &ChannelName, rule: &Arc<ChannelRule>, subscribers: u16) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let metrics = Arc::new(Metrics::new());
        let budget = Arc::new(Budget::new(OutboundMemory::Bytes(PLENTY as u64), metrics.outbound_bytes.clone()));
        let fanout = FanOut::new(metrics, budget, Clock::start(), runtime.handle().clone());
        let settings = Arc::new(SessionSettings {
            channels: vec![Arc::clone(rule)],
            outbox: OutboxSettings { bytes: PLENTY, messages: PLENTY, ..OutboxSettings::default() },
            ..SessionSettings::default()
        });
        let grants = Grants { subscribe: vec![rule.pattern.clone()], ..Grants::default() };
        let identity = Arc::new(Identity { grants, ..Identity::default() });
        let admission = Arc::new(Admission::default());
        let mut ports = Vec::new();
        for _ in 0..subscribers {
            let identity = Some(Arc::clone(&identity));
            let opening =
                Opening { mode: Mode::Tidegate, settings: Arc::clone(&settings), connection: ConnectionId::new(1), identity, seed: 1 };
            let mut session = Session::new(Moment::ZERO, opening);
            let Some(subscription) = subscribe(&mut session, channel) else { continue };
            let Ok(place) = admission.enter(&AdmissionSettings::default(), None) else { continue };
            let facts = Facts { address: [127, 0, 0, 1].into(), opened: Moment::ZERO, hints: Hints::default() };
            let port = Arc::new(Port::new(ConnectionId::new(rand::random()), facts, session, place, false));
            fanout.registry.join(channel, rule, Member::new(Arc::clone(&port), subscription));
            ports.push(port);
        }
        Ok(Self { fanout, runtime, ports })
    }

    /// What the broker does with a message, until it has been handed to everybody.
    pub fn publish(&self, publication: &Arc<Publication>) {
        self.fanout.deliver(publication);
        if let Some(all) = self.fanout.pace(&publication.channel, true) {
            // Its end is all that is waited for.
            let _ = self.runtime.block_on(all);
        }
    }

    /// A further subscription for each of these channels.
    pub fn open(&self, channels: &[ChannelName], rule: &Arc<ChannelRule>) {
        for (channel, port) in channels.iter().zip(self.ports.iter().cycle()) {
            self.fanout.registry.join(channel, rule, Member::new(Arc::clone(port), FURTHER));
        }
    }

    /// A further subscription of this channel comes and goes.
    pub fn come_and_go(&self, channel: &ChannelName, rule: &Arc<ChannelRule>) {
        if let Some(port) = self.ports.first() {
            self.fanout.registry.join(channel, rule, Member::new(Arc::clone(port), FURTHER));
            self.fanout.registry.leave(channel, port, FURTHER);
        }
    }

    /// Bytes in the emptiest of the outboxes.
    pub fn waiting_bytes(&self) -> usize {
        self.ports.iter().map(|port| port.outbox_bytes()).min().unwrap_or(0)
    }
}

/// Attaches the session to the channel, as far as the session is concerned.
pub(crate) fn subscribe(session: &mut Session, channel: &ChannelName) -> Option<SubscriptionId> {
    let subscribe = ClientMessage::Subscribe { id: 1, channel: channel.clone(), since: None };
    session.handle(Moment::ZERO, Input::Message(subscribe));
    let subscription = std::iter::from_fn(|| session.poll_output()).find_map(|output| match output {
        Output::Attach { subscription, .. } => Some(subscription),
        _ => None,
    })?;
    session.handle(Moment::ZERO, Input::Attached(subscription, Ok(None)));
    while session.poll_transmit(Moment::ZERO).is_some() {}
    Some(subscription)
}
