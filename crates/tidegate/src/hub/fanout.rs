//! From the broker to the sockets: batches of a channel's messages, handed to each of its subscribers, and what became of them.

use std::sync::{Arc, Weak};

use tidegate_core::broker::Sink;
use tidegate_core::session::{Input, Push};
use tidegate_core::{ChannelName, Dialect, Position, Publication};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::busy::Busy;
use super::crowd::{Crowd, List, Member};
use super::full::Full;
use super::homes::Homes;
use super::pending::Item;
use super::registry::Registry;
use super::small::{FEW, Small};
use super::stint::{Load, QUEUED_IN_A_ROW, Stint, WRITTEN_IN_A_ROW, Woken, give_way, is_at_rest};
use super::turn::Turn;
use crate::budget::Budget;
use crate::clock::Clock;
use crate::connection::{Batch, Port, Route, publication_frame};
use crate::metrics::Metrics;

/// Items of a channel that may be unfinished before its publishers wait for their answers: three batches, one that goes out, one that
/// is ready then, and one that fills. What is pending is bounded by it and by what publishers may have under way.
const UNFINISHED: usize = 96;

/// Items of a channel that may be unfinished before publishes of sessions don't begin: else what is pending would have no bound but all
/// sessions times their commands in flight. It is 32 batches, far more than sharing writes asks for, and 64 MiB of the largest messages.
pub(super) const BACKLOG: usize = 1024;

/// The receiver of everything that the broker publishes on subscribed channels.
#[derive(Debug)]
pub(crate) struct FanOut {
    own: Weak<FanOut>,
    pub(crate) registry: Registry,
    pub(super) metrics: Arc<Metrics>,
    pub(super) budget: Arc<Budget>,
    clock: Clock,
    /// Where the work is done, whoever publishes.
    pub(super) homes: Homes,
    /// Channels that are being handed out.
    pub(super) busy: Busy,
    pub(super) full: Full,
    pub(super) small: Small,
}

/// Messages on their way to a channel's subscribers.
pub(super) struct Delivery {
    pub(super) crowd: Arc<Crowd>,
    pub(super) members: Arc<List>,
    pub(super) batch: Batch,
    pub(super) first: u64,
}

/// What a delivery came to. It is counted when this goes, be it in a panic.
struct Tally<'d> {
    fanout: &'d FanOut,
    delivery: &'d Delivery,
    reached: u64,
    dropped: u64,
    full: Vec<Member>,
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
            small: Small::new(runtime.metrics().num_workers()),
            homes: Homes::new(runtime),
            busy: Busy::default(),
            full: Full::default(),
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
        while let Some(port) = self.full.any(channel) {
            port.wait_for_room().await;
        }
    }

    /// Whether no subscriber of a `pause` channel is full.
    pub(crate) fn has_room(&self, channel: &ChannelName) -> bool {
        self.full.any(channel).is_none()
    }

    /// Waits until of what the channel has been given so far at most so many items are unfinished. What others publish meanwhile does not
    /// prolong it.
    pub(super) async fn catch_up(&self, channel: &ChannelName, most: usize) {
        if let Some(less) = self.registry.find(channel).and_then(|crowd| crowd.wait_for_pace(most)) {
            // Its end is all that is waited for.
            let _ = less.await;
        }
    }

    /// Whether too much is unfinished.
    pub(super) fn is_behind(&self, channel: &ChannelName) -> bool {
        self.registry.find(channel).is_some_and(|crowd| crowd.is_behind(BACKLOG))
    }

    /// What a publisher waits for after a publish: that of what the channel has been given so far not too much is unfinished; if it
    /// pauses its publishers nothing, so that who is full is known. Not before the publish: who waited could be overtaken.
    pub(crate) fn pace(&self, channel: &ChannelName, pauses: bool) -> Option<oneshot::Receiver<()>> {
        self.registry.find(channel)?.wait_for_pace(if pauses { 0 } else { UNFINISHED })
    }

    /// A connection is opened on the runtime of the caller.
    pub(crate) fn note_connections(&self) {
        self.homes.note_connections(Handle::current);
    }

    fn put(&self, crowd: Arc<Crowd>, item: Item) {
        let Some(members) = crowd.put(item) else { return };
        self.busy.begin();
        let is_small = members <= FEW && crowd.rule.flush_window.is_zero();
        let begins = if is_small { self.small.enter(crowd) } else { Some(crowd) };
        if let Some(crowd) = begins {
            self.begin(crowd, is_small);
        }
    }

    pub(super) fn begin(&self, crowd: Arc<Crowd>, is_small: bool) {
        if let Some(fanout) = self.own.upgrade() {
            self.homes.fanouts().spawn(Turn::new(fanout, crowd, is_small).run());
        }
    }

    fn count(&self, tally: &Tally<'_>) {
        let crowd = &tally.delivery.crowd;
        let rule = &crowd.rule;
        self.metrics.delivered(rule.kind, tally.reached);
        self.metrics.buffered(tally.most_buffered);
        if tally.dropped > 0 {
            self.metrics.dropped(rule.kind, rule.overflow, tally.dropped);
        }
        if !tally.full.is_empty() {
            self.note_full(crowd, &tally.full);
        }
    }

    /// Publishers wait for these. Who has left since it was delivered to is found by looking after the noting: who leaves later than that is
    /// forgotten as it leaves.
    pub(super) fn note_full(&self, crowd: &Crowd, full: &[Member]) {
        self.full.note(&crowd.channel, full.iter().map(|member| Arc::clone(&member.port)));
        for member in full.iter().filter(|member| !crowd.has(member)) {
            self.full.forget(&crowd.channel, &member.port);
        }
    }
}

impl Sink for FanOut {
    fn deliver(&self, publication: &Arc<Publication>) {
        if let Some(crowd) = self.registry.find(&publication.channel) {
            self.put(crowd, Item::Message(self.charged(publication)));
        }
    }

    fn lost(&self, channel: &ChannelName, position: Option<Position>) {
        self.metrics.bus_lost.inc();
        if let Some(crowd) = self.registry.find(channel) {
            self.put(crowd, Item::Lost(position));
        }
    }
}

impl FanOut {
    /// Hands a batch to every subscriber, in one of two ways. To *write* to each at once is the shortest way for what comes by itself.
    /// To *queue* for all, and let their drivers write, is the cheapest where messages come faster than they go out: what is published
    /// meanwhile joins what waits, in one write.
    pub(super) async fn deliver_all(&self, delivery: Delivery, stint: &mut Stint) {
        let mut tally = Tally::new(self, &delivery);
        let each = Load { messages: delivery.batch.messages().len(), bytes: delivery.batch.frames().len() };
        let is_alone = each.messages == 1;
        let mut left = &delivery.members[..];
        let mut writes = !is_alone || is_at_rest(left);
        while !left.is_empty() {
            let in_a_row = if writes { WRITTEN_IN_A_ROW } else { QUEUED_IN_A_ROW };
            let (chunk, later) = stint.split(left, in_a_row);
            let queued = self.deliver_to(chunk, if writes { self.route() } else { Route::Queue }, &mut tally);
            if stint.add(chunk, each, in_a_row) {
                give_way(&self.homes, Woken { chunk, queued, crowd: delivery.members.len() }).await;
                writes = writes && !(is_alone && delivery.crowd.has_pending());
            }
            left = later;
        }
    }

    /// Every subscriber that was there learns that messages may be missing.
    pub(super) async fn tell_of_loss(&self, members: &[Member], first: u64, position: Option<Position>, stint: &mut Stint) {
        let mut left = members;
        while !left.is_empty() {
            let (chunk, later) = stint.split(left, QUEUED_IN_A_ROW);
            let now = self.clock.now();
            for Member { port, subscription, .. } in chunk.iter().filter(|member| member.skips(first) == 0) {
                or_cut(port, || port.tell(now, Input::Lost(*subscription, position)));
            }
            if stint.add(chunk, Load::WORD, QUEUED_IN_A_ROW) {
                give_way(&self.homes, Woken { chunk, queued: chunk.len(), crowd: members.len() }).await;
            }
            left = later;
        }
    }

    /// From other channels under way a subscriber may be about to get more: its driver gathers that into one write.
    fn route(&self) -> Route {
        if self.busy.channels() > 1 { Route::WriteToSingle } else { Route::Write }
    }

    /// Says for how many it was queued.
    fn deliver_to(&self, members: &[Member], route: Route, tally: &mut Tally<'_>) -> usize {
        let (now, delivery) = (self.clock.now(), tally.delivery);
        let mut queued = 0;
        for member in members {
            let Member { port, subscription, .. } = member;
            let from = member.skips(delivery.first);
            or_cut(port, || {
                let buffered = port.deliver(now, *subscription, &delivery.batch, from, route, |push| tally.add(push, member));
                tally.most_buffered = tally.most_buffered.max(buffered);
                queued += usize::from(buffered > 0);
            });
        }
        queued
    }
}

/// Does something with a connection. If that panics the connection ends, so that nobody else has to do without what comes next.
fn or_cut(port: &Arc<Port>, work: impl FnOnce()) {
    struct Cut<'p>(&'p Port);
    impl Drop for Cut<'_> {
        fn drop(&mut self) {
            self.0.cut();
        }
    }
    let cut = Cut(port);
    work();
    std::mem::forget(cut);
}

impl<'d> Tally<'d> {
    const fn new(fanout: &'d FanOut, delivery: &'d Delivery) -> Self {
        Self { fanout, delivery, reached: 0, dropped: 0, full: Vec::new(), most_buffered: 0 }
    }

    fn add(&mut self, push: Push, member: &Member) {
        match push {
            Push::Queued | Push::Conflated | Push::Parked => self.reached += 1,
            Push::Full => {
                self.reached += 1;
                // Once, though it may be told of each message of a batch.
                if self.full.last().is_none_or(|last| !Arc::ptr_eq(&last.port, &member.port)) {
                    self.full.push(member.clone());
                }
            }
            Push::Dropped(messages) => {
                self.reached += 1;
                self.dropped += u64::from(messages);
            }
            Push::Refused(messages) => self.dropped += u64::from(messages),
            Push::Disconnected => self.dropped += 1,
            Push::Ignored => {}
        }
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.fanout.count(self);
    }
}
