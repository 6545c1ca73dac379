//! From the broker to the sockets: batches of a channel's messages, handed to its subscribers by one task, and what became of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_core::broker::Sink;
use tidegate_core::session::{Input, Push};
use tidegate_core::{ChannelName, ChannelRule, Dialect, Position, Publication};
use tokio::runtime::Handle;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::pending::{Item, Items};
use super::registry::{Member, Registry, Step};
use crate::budget::Budget;
use crate::clock::Clock;
use crate::connection::{Batch, Port, Route, publication_frame};
use crate::metrics::Metrics;

/// Items of a channel that may be pending before its publishers wait for their answers: two batches, so that one fills while the
/// other goes out. What is pending is bounded by it and by what publishers may have under way.
const PENDING: usize = 64;

/// Subscribers written to in a row before other tasks get their turn: about a millisecond.
const WRITTEN_IN_A_ROW: usize = 128;

/// Subscribers in a row for whom a message is only queued, which takes less than half of that.
const QUEUED_IN_A_ROW: usize = 1024;

/// Of a crowd so many are looked at to see whether it is at rest, evenly spread: drivers write in the order in which they were woken.
const LOOKED_AT: usize = 16;

/// Of those so many may be at work in a crowd that counts as at rest: a few always have something to do.
const AWAKE_AT_MOST: usize = LOOKED_AT / 4;

/// A crowd that is huge: others would wait for 60 ms and more until all of its drivers have written.
const HUGE: usize = 8192;

/// Turns that a fan-out gives the drivers of a huge crowd. They need some twenty; a subscriber that is never at rest because it has so
/// much to say holds up no other.
const TURNS_AT_MOST: usize = 256;

/// The receiver of everything that the broker publishes on subscribed channels.
#[derive(Debug)]
pub(crate) struct FanOut {
    own: Weak<FanOut>,
    pub(crate) registry: Registry,
    pub(super) metrics: Arc<Metrics>,
    budget: Arc<Budget>,
    clock: Clock,
    /// Where the work is done, whoever publishes.
    runtime: Handle,
    /// Channels that are being handed out.
    pub(super) busy: AtomicUsize,
    /// Subscribers of `pause` channels that were full when last delivered to.
    full: Mutex<HashMap<ChannelName, Vec<Arc<Port>>>>,
}

/// Messages on their way to a channel's subscribers.
struct Delivery {
    rule: Arc<ChannelRule>,
    channel: ChannelName,
    members: Arc<Vec<Member>>,
    batch: Batch,
    first: u64,
}

/// What a delivery came to.
#[derive(Default)]
struct Tally {
    reached: u64,
    dropped: u64,
    full: Vec<Arc<Port>>,
    most_buffered: usize,
}

impl FanOut {
    pub(crate) fn new(metrics: Arc<Metrics>, budget: Arc<Budget>, clock: Clock, runtime: Handle) -> Arc<Self> {
        Arc::new_cyclic(|own| Self {
            own: Weak::clone(own),
            registry: Registry::new(),
            metrics,
            budget,
            clock,
            runtime,
            busy: AtomicUsize::new(0),
            full: Mutex::default(),
        })
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

    /// Waits, after a publish, until not too much of the channel is pending; if it pauses its publishers, until all is handed out,
    /// so that who is full is known. Not before the publish: who waited could be overtaken.
    pub(crate) async fn keep_pace(&self, channel: &ChannelName, pauses: bool) {
        while let Some(room) = self.registry.wait_for_room(channel, if pauses { 0 } else { PENDING }) {
            room.await;
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

    fn put(&self, channel: &ChannelName, item: Item) {
        if let Some(rule) = self.registry.put(channel, item) {
            self.begin(channel.clone(), rule.flush_window);
        }
    }

    fn begin(&self, channel: ChannelName, flush_window: Duration) {
        if let Some(fanout) = self.own.upgrade() {
            self.busy.fetch_add(1, Ordering::Relaxed);
            self.runtime.spawn(Turn { fanout, channel, flush_window, ended: false }.run());
        }
    }

    fn count(&self, delivery: &Delivery, tally: Tally) {
        let Delivery { rule, channel, .. } = delivery;
        self.metrics.delivered(rule.kind, tally.reached);
        self.metrics.buffered(tally.most_buffered);
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
        if self.registry.has_members(&publication.channel) {
            self.put(&publication.channel, Item::Message(self.charged(publication)));
        }
    }

    fn lost(&self, channel: &ChannelName, position: Option<Position>) {
        self.metrics.bus_lost.inc();
        self.put(channel, Item::Lost(position));
    }
}

/// A channel's turn: the one task that hands out what is pending, so that its order is kept.
struct Turn {
    fanout: Arc<FanOut>,
    channel: ChannelName,
    flush_window: Duration,
    ended: bool,
}

impl Turn {
    async fn run(mut self) {
        // Publishers that are ready go first: what they have to say shares the write.
        yield_now().await;
        self.gather().await;
        while let Some(step) = self.fanout.registry.take(&self.channel) {
            self.hand_out(step).await;
            self.gather().await;
        }
        self.ended = true;
    }

    /// Lets messages wait for each other, if the channel's rule says so, and no longer than until they fill a write.
    async fn gather(&self) {
        if self.flush_window.is_zero() {
            return;
        }
        if let Some(enough) = self.fanout.registry.wait_for_batch(&self.channel) {
            // Either way it is time to write.
            let _ = timeout(self.flush_window, enough).await;
        }
    }

    async fn hand_out(&self, step: Step) {
        let Step { rule, members, items, first } = step;
        match items {
            Items::Messages(messages) => {
                let batch = Batch::new(messages, |frames| self.fanout.budget.charge(frames, 0));
                let delivery = Delivery { rule, channel: self.channel.clone(), members, batch, first };
                self.fanout.deliver_all(delivery).await;
            }
            Items::Lost(position) => {
                let now = self.fanout.clock.now();
                for member in members.iter().filter(|member| member.skips(first) == 0) {
                    member.port.tell(now, Input::Lost(member.subscription, position));
                }
            }
        }
    }
}

impl Drop for Turn {
    /// However it ends: after a panic another task goes on, and subscribers learn that there is a hole.
    fn drop(&mut self) {
        self.fanout.busy.fetch_sub(1, Ordering::Relaxed);
        if !self.ended && std::thread::panicking() {
            self.fanout.metrics.panic.inc();
            self.fanout.registry.interrupted(&self.channel);
            self.fanout.begin(self.channel.clone(), self.flush_window);
        }
    }
}

impl FanOut {
    /// Hands a batch to every subscriber, in one of two ways. To *write* to each at once is the shortest way for what comes by itself.
    /// To *queue* for all, and let their drivers write, is the cheapest where messages come faster than they go out: what is published
    /// meanwhile joins what waits, in one write.
    async fn deliver_all(&self, delivery: Delivery) {
        let mut tally = Tally::default();
        let is_single = delivery.batch.messages().len() == 1;
        let mut left = &delivery.members[..];
        // So few can't be enough to queue for: they need no look.
        let mut writes = !is_single || left.len() <= AWAKE_AT_MOST || awake_in(left) <= AWAKE_AT_MOST;
        while !left.is_empty() {
            let in_a_row = if writes { WRITTEN_IN_A_ROW } else { QUEUED_IN_A_ROW };
            let (chunk, later) = left.split_at(left.len().min(in_a_row));
            self.deliver_to(chunk, &delivery, if writes { self.route() } else { Route::Queue }, &mut tally);
            if chunk.len() == in_a_row {
                yield_now().await;
                if delivery.members.len() > HUGE {
                    wait_for_drivers(chunk).await;
                }
                writes = writes && !(is_single && self.registry.has_pending(&delivery.channel));
            }
            left = later;
        }
        self.count(&delivery, tally);
    }

    /// From other channels under way a subscriber may be about to get more: its driver gathers that into one write.
    fn route(&self) -> Route {
        if self.busy.load(Ordering::Relaxed) > 1 { Route::WriteToSingle } else { Route::Write }
    }

    fn deliver_to(&self, members: &[Member], delivery: &Delivery, route: Route, tally: &mut Tally) {
        let now = self.clock.now();
        for member in members {
            let Member { port, subscription, .. } = member;
            let mut pushed = |push| tally.add(push, port);
            let buffered = port.deliver(now, *subscription, &delivery.batch, member.skips(delivery.first), route, &mut pushed);
            tally.most_buffered = tally.most_buffered.max(buffered);
        }
    }
}

/// Of the members looked at, those whose drivers have not yet done what they were last woken for.
fn awake_in(crowd: &[Member]) -> usize {
    let spread = (crowd.len() / LOOKED_AT).max(1);
    crowd.iter().step_by(spread).filter(|member| !member.port.is_at_rest()).count()
}

/// Gives way until the drivers that were woken have written. Were the next ones woken before that, all of them would soon stand in the
/// run queue, in front of what everybody else has to do.
async fn wait_for_drivers(woken: &[Member]) {
    for _ in 0..TURNS_AT_MOST {
        if awake_in(woken) == 0 {
            return;
        }
        yield_now().await;
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
