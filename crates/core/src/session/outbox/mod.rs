//! The outbox: the one queue between a session's channels and its socket.
//!
//! A control lane that always goes first, and a lane per subscription, served round robin, that share one budget. Nothing is
//! dropped here that is not told: in the value that [`Outbox::push`] gives, and to the subscriber in its stream.

mod budget;
mod control;
mod dirty;
mod event;
mod lane;
mod log;
mod pass;
mod places;
mod requests;
mod state;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use self::budget::Budget;
use self::control::Control;
pub(super) use self::lane::Settled;
use self::lane::{Asked, Lane, Opening, Queue, Stage, Want};
use self::log::LogLane;
pub(super) use self::requests::Request;
use self::state::StateLane;
use super::{Push, SubscriptionId, Transmit};
use crate::broker::{BrokerError, HistoryError, Page, Snapshot};
use crate::message::{CommandId, Since};
use crate::{ChannelName, ChannelRule, Moment, OutboxSettings, Position, Publication};

/// Everything that waits for the socket.
#[derive(Debug)]
pub(super) struct Outbox {
    pub(super) control: Control,
    budget: Budget,
    /// Sorted by id.
    lanes: Vec<Lane>,
    last_id: u32,
    /// Whether any lane is behind its channel: asked at each wake, where hundreds of lanes are not to be looked at.
    some_behind: bool,
    /// Lanes that have something to write, in the order in which they are served.
    ready: VecDeque<SubscriptionId>,
    /// Lanes that want something from history, in the order in which they are.
    #[expect(clippy::box_collection, reason = "only sessions with a lane behind have one, and each has room for this field")]
    due: Option<Box<VecDeque<SubscriptionId>>>,
    /// When the next pause of a failing history is over.
    retry_at: Moment,
    #[expect(clippy::box_collection, reason = "only raw sessions have one, and each has room for this field")]
    raw: Option<Box<VecDeque<(bool, Bytes)>>>,
    /// Lanes have gone back to their cursors for want of memory: they stay there until the socket takes something.
    held: bool,
}

impl Outbox {
    pub(super) fn new(settings: OutboxSettings) -> Self {
        Self {
            control: Control::new(),
            budget: Budget::new(settings),
            lanes: Vec::new(),
            last_id: 0,
            some_behind: false,
            ready: VecDeque::new(),
            due: None,
            retry_at: Moment::NEVER,
            raw: None,
            held: false,
        }
    }

    /// Adds a lane for a subscription that is about to be attached.
    pub(super) fn open(
        &mut self,
        channel: ChannelName,
        rule: Arc<ChannelRule>,
        command: CommandId,
        since: Option<Since>,
    ) -> SubscriptionId {
        self.last_id += 1;
        let id = SubscriptionId(self.last_id);
        if self.lanes.is_empty() {
            // Most sessions have one subscription: no room for more before a second comes.
            self.lanes.reserve_exact(1);
        }
        self.lanes.push(Lane::new(id, channel, rule, Opening { command, since }));
        id
    }

    /// Takes a lane away; gives its channel and the `subscribe` that has not been answered.
    pub(super) fn remove(&mut self, id: SubscriptionId) -> Option<(ChannelName, Option<CommandId>)> {
        let mut lane = self.lanes.remove(self.place(id)?);
        self.some_behind = self.some_behind && self.count_behind() > 0;
        lane.release(&mut self.budget);
        self.ready.retain(|&ready| ready != id);
        self.due.iter_mut().for_each(|due| due.retain(|&due| due != id));
        Some((lane.channel.clone(), lane.unanswered()))
    }

    /// Exchanges a lane's copy of its channel's name.
    pub(super) fn share_name(&mut self, id: SubscriptionId, name: &ChannelName) {
        if let Some(at) = self.place(id)
            && self.lanes[at].channel == *name
        {
            self.lanes[at].channel = name.clone();
        }
    }

    /// The subscription of a channel.
    pub(super) fn find(&self, channel: &ChannelName) -> Option<SubscriptionId> {
        self.lanes.iter().find(|lane| lane.channel == *channel).map(|lane| lane.id)
    }

    /// The subscriptions whose channel it holds for.
    pub(super) fn channels_where(&self, holds: impl Fn(&ChannelName) -> bool) -> Vec<(SubscriptionId, ChannelName)> {
        self.lanes.iter().filter(|lane| holds(&lane.channel)).map(|lane| (lane.id, lane.channel.clone())).collect()
    }

    pub(super) fn subscriptions(&self) -> usize {
        self.lanes.len()
    }

    /// The broker is subscribed; from `top` on every message is pushed.
    pub(super) fn attached(&mut self, id: SubscriptionId, top: Option<Position>) -> Settled {
        let Some(at) = self.place(id) else { return Settled::Nothing };
        let lane = &mut self.lanes[at];
        let Stage::Attaching(attaching) = &lane.stage else { return Settled::Nothing };
        let opening = attaching.opening;
        let settled = match (&mut lane.queue, top) {
            (Queue::Event(queue), _) => {
                queue.open(&lane.channel, opening);
                lane.stage = Stage::Current;
                Settled::Answered
            }
            (Queue::Log(queue), Some(top)) => queue.attached(&mut lane.stage, &lane.channel, top),
            (Queue::State(_), Some(top)) => {
                StateLane::attached(&mut lane.stage, opening, top);
                Settled::Nothing
            }
            (Queue::Log(_) | Queue::State(_), None) => Settled::Failed(BrokerError::Unavailable("the broker named no position".into())),
        };
        self.list(at);
        settled
    }

    /// Takes in a message of a lane's channel. Allocates nothing when there is room.
    pub(super) fn push(&mut self, id: SubscriptionId, publication: &Arc<Publication>) -> Push {
        let Some(at) = self.place(id) else { return Push::Ignored };
        let Lane { stage, queue, rule, .. } = &mut self.lanes[at];
        let push = match (queue, publication.position) {
            (Queue::Event(_), _) if !matches!(stage, Stage::Current) => Push::Ignored,
            (Queue::Event(lane), _) => lane.push(&mut self.budget, rule.overflow, publication),
            (Queue::Log(lane), Some(position)) => lane.push(stage, &mut self.budget, rule.overflow, position, publication),
            (Queue::State(lane), Some(position)) => lane.push(stage, &mut self.budget, position, publication),
            (Queue::Log(_) | Queue::State(_), None) => Push::Ignored,
        };
        if !matches!(push, Push::Ignored | Push::Disconnected) {
            self.list(at);
        }
        push
    }

    pub(super) fn fetched(&mut self, now: Moment, id: SubscriptionId, result: Result<Page, HistoryError>) -> Settled {
        let Some(at) = self.answered(id, Want::Page) else { return Settled::Nothing };
        let Lane { stage, queue, channel, .. } = &mut self.lanes[at];
        let settled = match queue {
            Queue::Event(_) => Settled::Nothing,
            Queue::Log(lane) => lane.fetched(stage, channel, &mut self.budget, now, result),
            Queue::State(lane) => lane.fetched(stage, channel, &mut self.budget, now, result),
        };
        self.list(at);
        settled
    }

    pub(super) fn snapshot_taken(&mut self, now: Moment, id: SubscriptionId, result: Result<Arc<Snapshot>, BrokerError>) -> Settled {
        let Some(at) = self.answered(id, Want::Snapshot) else { return Settled::Nothing };
        let Lane { stage, queue, channel, .. } = &mut self.lanes[at];
        let settled = match queue {
            Queue::Event(_) | Queue::Log(_) => Settled::Nothing,
            Queue::State(lane) => lane.snapshot_taken(stage, channel, &mut self.budget, now, result),
        };
        self.list(at);
        settled
    }

    /// The broker may have lost messages of the lane's channel.
    pub(super) fn lost(&mut self, id: SubscriptionId, position: Option<Position>) {
        let Some(at) = self.place(id) else { return };
        let Lane { stage, queue, .. } = &mut self.lanes[at];
        match queue {
            Queue::Event(lane) if matches!(stage, Stage::Current) => lane.lost(),
            Queue::Event(_) => {}
            Queue::Log(_) => LogLane::lost(stage, &mut self.budget, position),
            Queue::State(lane) => lane.lost(stage, &mut self.budget, position),
        }
        self.list(at);
    }

    /// Drops what waits in event lanes; says how many of which rule.
    pub(super) fn shed_events(&mut self) -> Vec<(Arc<ChannelRule>, u32)> {
        let mut shed = Vec::new();
        for lane in &mut self.lanes {
            let Queue::Event(queue) = &mut lane.queue else { continue };
            let dropped = queue.shed(&mut self.budget);
            if dropped > 0 {
                shed.push((lane.rule.clone(), dropped));
            }
        }
        shed
    }

    /// Lets log and state lanes go back to their cursors.
    pub(super) fn shed_cursors(&mut self) {
        for at in 0..self.lanes.len() {
            let Lane { stage, queue, .. } = &mut self.lanes[at];
            match queue {
                Queue::Event(_) => continue,
                Queue::Log(lane) => lane.shed(stage, &mut self.budget),
                Queue::State(lane) => lane.shed(stage, &mut self.budget),
            }
            self.list(at);
        }
        self.held = self.due.as_ref().is_some_and(|due| !due.is_empty());
    }

    /// What is next for the socket. Only what is not asked for can still be conflated, dropped or overtaken.
    pub(super) fn next(&mut self) -> Option<Transmit> {
        self.held = false;
        if let Some(payload) = self.control.take_pong() {
            return Some(Transmit::Pong(payload));
        }
        if let Some(message) = self.control.next() {
            return Some(Transmit::Message(message));
        }
        while let Some(id) = self.ready.pop_front() {
            let Some(at) = self.place(id) else { continue };
            let lane = &mut self.lanes[at];
            lane.listed = false;
            let next = match &mut lane.queue {
                Queue::Event(queue) => queue.next(&lane.channel, &mut self.budget),
                Queue::Log(queue) => queue.next(&mut self.budget),
                Queue::State(queue) => queue.next(&lane.channel, &mut self.budget),
            };
            if next.is_some() {
                self.list(at);
                if matches!(next, Some(Transmit::Message(_))) {
                    places::give_back(&mut self.ready);
                }
                return next;
            }
        }
        let (text, data) = self.raw.as_mut()?.pop_front()?;
        self.budget.remove(data.len());
        Some(Transmit::Raw { text, data })
    }

    pub(super) fn has_next(&self) -> bool {
        self.control.has_next() || !self.ready.is_empty() || self.raw.as_ref().is_some_and(|raw| !raw.is_empty()) || self.held
    }

    /// Keeps no memory for the next message: the session has been quiet for a while. Where nothing came since the last time, the
    /// lanes are not even looked at: what lies idle is not in the processor's caches.
    pub(super) fn shrink(&mut self) {
        if self.ready.is_empty() && self.ready.capacity() > 0 {
            places::give_back(&mut self.ready);
            self.lanes.iter_mut().for_each(Lane::shrink);
        }
    }

    pub(super) fn push_raw(&mut self, text: bool, data: Bytes) {
        self.budget.add(data.len());
        self.raw.get_or_insert_default().push_back((text, data));
    }

    pub(super) fn has_room_for(&self, bytes: usize) -> bool {
        self.budget.fits(bytes)
    }

    pub(super) fn is_low(&self) -> bool {
        self.budget.is_low()
    }

    pub(super) const fn bytes(&self) -> usize {
        self.budget.bytes()
    }

    pub(super) fn lanes_behind(&self) -> usize {
        if self.some_behind { self.count_behind() } else { 0 }
    }

    fn count_behind(&self) -> usize {
        self.lanes.iter().filter(|lane| lane.is_behind()).count()
    }

    fn place(&self, id: SubscriptionId) -> Option<usize> {
        self.lanes.binary_search_by_key(&id, |lane| lane.id).ok()
    }

    /// The place of a lane whose request is answered; the room set aside is free again. `None` if the answer does not fit any more.
    fn answered(&mut self, id: SubscriptionId, want: Want) -> Option<usize> {
        let at = self.place(id)?;
        let Stage::Behind(behind) = &mut self.lanes[at].stage else { return None };
        let Asked::UnderWay(limit) = behind.request else { return None };
        if behind.want != want {
            return None;
        }
        self.budget.release(limit);
        behind.request = Asked::Due;
        if std::mem::take(&mut behind.stale) {
            self.list(at);
            return None;
        }
        Some(at)
    }

    /// Enters a lane in the lists in which it belongs now.
    fn list(&mut self, at: usize) {
        self.note_behind(at);
        let lane = &mut self.lanes[at];
        if !lane.listed && lane.has_next() {
            lane.listed = true;
            self.ready.push_back(lane.id);
        }
        if let Stage::Behind(behind) = &mut lane.stage {
            match behind.request {
                Asked::Due if !behind.listed => {
                    behind.listed = true;
                    self.due.get_or_insert_default().push_back(lane.id);
                }
                Asked::Later(then) => self.retry_at = self.retry_at.min(then),
                Asked::Due | Asked::UnderWay(_) => {}
            }
        }
    }

    fn note_behind(&mut self, at: usize) {
        let lane = &mut self.lanes[at];
        let is_behind = lane.is_behind();
        if std::mem::replace(&mut lane.was_behind, is_behind) != is_behind {
            // It may have been the last.
            self.some_behind = is_behind || self.count_behind() > 0;
        }
        debug_assert_eq!(self.some_behind, self.count_behind() > 0);
    }
}

/// What a subscription takes of memory besides its channel's name, as long as nothing waits.
#[cfg(test)]
pub(super) const LANE_BYTES: usize = size_of::<Lane>();

#[cfg(test)]
mod tests;
