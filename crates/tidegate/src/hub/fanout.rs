//! From the broker to the outboxes: one pass over a channel's subscribers per message, and what became of it as numbers.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_core::broker::Sink;
use tidegate_core::session::{Input, Push};
use tidegate_core::{ChannelName, ChannelRule, Dialect, Position, Publication};

use super::registry::{Member, Registry};
use crate::budget::Budget;
use crate::clock::Clock;
use crate::connection::{Port, publication_frame};
use crate::metrics::Metrics;

/// The receiver of everything that the broker publishes on subscribed channels.
#[derive(Debug)]
pub(crate) struct FanOut {
    pub(crate) registry: Registry,
    metrics: Arc<Metrics>,
    budget: Arc<Budget>,
    clock: Clock,
    /// Subscribers of `pause` channels that were full when last delivered to.
    full: Mutex<HashMap<ChannelName, Vec<Arc<Port>>>>,
}

/// What one message's fan-out came to.
#[derive(Default)]
struct Tally {
    reached: u64,
    dropped: u64,
    full: Vec<Arc<Port>>,
}

impl FanOut {
    pub(crate) fn new(metrics: Arc<Metrics>, budget: Arc<Budget>, clock: Clock) -> Self {
        Self { registry: Registry::new(), metrics, budget, clock, full: Mutex::default() }
    }

    /// The message with its frame made and charged to the node's budget until nobody holds it any more. What has a position is
    /// in the broker's memory too, which is bounded by the broker: that one must not keep our frame alive, so ours is another.
    pub(crate) fn charged(&self, publication: &Arc<Publication>) -> Arc<Publication> {
        let ours = if publication.position.is_some() {
            let Publication { channel, position, id, key, body, .. } = &**publication;
            Arc::new(Publication::new(channel.clone(), *position, id.clone(), key.clone(), body.clone()))
        } else {
            Arc::clone(publication)
        };
        ours.frame(Dialect::Json, |publication| self.budget.charge(publication_frame(publication), publication.cost()));
        ours
    }

    /// Waits until no subscriber of a `pause` channel is full. A subscriber that stops reading is cut by its stall deadline, so
    /// this ends.
    pub(crate) async fn room_in(&self, channel: &ChannelName) {
        while let Some(port) = self.first_full(channel) {
            port.wait_for_room().await;
        }
    }

    fn first_full(&self, channel: &ChannelName) -> Option<Arc<Port>> {
        let mut full = self.full.lock();
        let ports = full.get_mut(channel)?;
        ports.retain(|port| port.is_full());
        let first = ports.first().cloned();
        if first.is_none() {
            full.remove(channel);
        }
        first
    }

    fn note_full(&self, channel: &ChannelName, found: Vec<Arc<Port>>) {
        let mut full = self.full.lock();
        let ports = full.entry(channel.clone()).or_default();
        for port in found {
            if !ports.iter().any(|known| Arc::ptr_eq(known, &port)) {
                ports.push(port);
            }
        }
    }

    fn count(&self, rule: &ChannelRule, channel: &ChannelName, tally: Tally) {
        self.metrics.delivered(rule.kind, tally.reached);
        if tally.dropped > 0 {
            self.metrics.dropped(rule.kind, rule.overflow, tally.dropped);
        }
        if !tally.full.is_empty() {
            self.note_full(channel, tally.full);
        }
    }
}

impl Sink for FanOut {
    fn deliver(&self, publication: &Arc<Publication>) {
        let Some((rule, members)) = self.registry.members(&publication.channel) else { return };
        let publication = &self.charged(publication);
        let now = self.clock.now();
        let mut tally = Tally::default();
        for Member { port, subscription } in members.iter() {
            let push = port.deliver(now, *subscription, publication);
            tally.add(push, port);
        }
        self.count(&rule, &publication.channel, tally);
    }

    fn lost(&self, channel: &ChannelName, position: Option<Position>) {
        self.metrics.bus_lost.inc();
        let Some((_, members)) = self.registry.members(channel) else { return };
        let now = self.clock.now();
        for Member { port, subscription } in members.iter() {
            port.tell(now, Input::Lost(*subscription, position));
        }
    }
}

impl Tally {
    fn add(&mut self, push: Push, port: &Arc<Port>) {
        match push {
            Push::Queued | Push::Conflated | Push::Parked => self.reached += 1,
            Push::Full => {
                self.reached += 1;
                self.full.push(Arc::clone(port));
            }
            Push::Dropped(messages) => {
                self.reached += 1;
                self.dropped += u64::from(messages);
            }
            Push::Disconnected => self.dropped += 1,
            Push::Ignored => {}
        }
    }
}
