//! A subscription's lane: what of its channel waits for the socket, and how it stands to its channel.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::budget::Budget;
use super::event::EventLane;
use super::log::LogLane;
use super::state::StateLane;
use crate::broker::{BrokerError, PageLimit};
use crate::message::{CommandId, Gap, GapReason, Recovery, ServerMessage, Since};
use crate::session::SubscriptionId;
use crate::{ChannelKind, ChannelName, ChannelRule, Epoch, Moment, Position, Publication};

/// A subscription and its lane.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) id: SubscriptionId,
    /// Whether it stands in the list of lanes that have something to write.
    pub(super) listed: bool,
    /// Whether it read from history when the outbox last looked.
    pub(super) was_behind: bool,
    pub(super) channel: ChannelName,
    pub(super) rule: Arc<ChannelRule>,
    pub(super) stage: Stage,
    pub(super) queue: Queue,
}

/// What waits, by the kind of the channel.
#[derive(Debug)]
pub(super) enum Queue {
    Event(EventLane),
    Log(Box<LogLane>),
    State(Box<StateLane>),
}

/// How the lane stands to its channel.
#[derive(Debug)]
pub(super) enum Stage {
    /// Hub and broker have been asked.
    Attaching(Box<Attaching>),
    /// Every message goes straight into the queue.
    Current,
    /// What is missing is read from history.
    Behind(Box<Behind>),
}

/// A `subscribe` that has not been answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opening {
    pub(super) command: CommandId,
    pub(super) since: Option<Since>,
}

#[derive(Debug)]
pub(super) struct Attaching {
    pub(super) opening: Opening,
    /// The last position seen meanwhile.
    pub(super) head: Option<Position>,
    /// The broker may have lost messages meanwhile.
    pub(super) lost: bool,
}

/// A lane that reads from history.
#[derive(Debug)]
pub(super) struct Behind {
    pub(super) opening: Option<Opening>,
    /// `live` has still to be said.
    pub(super) announce: bool,
    pub(super) want: Want,
    pub(super) request: Asked,
    /// Stands in the list of lanes that want something from history.
    pub(super) listed: bool,
    /// The last position that is known to exist.
    pub(super) head: Option<Position>,
    /// What `head` was when the request was made: an answer that does not reach it is not the end.
    pub(super) base: Option<Position>,
    /// Something happened since the request that its answer may not contain.
    pub(super) again: bool,
    /// The lane went back since the request: its answer does not fit any more.
    pub(super) stale: bool,
    /// Every message since the request has been kept, and will be put behind its answer.
    pub(super) splicing: bool,
    pub(super) splice: VecDeque<Arc<Publication>>,
    /// Answers in a row that were no messages.
    setbacks: u8,
    failing: Option<Failing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    Page,
    Snapshot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// To be asked when there is room.
    Due,
    /// Asked, with so much room set aside.
    UnderWay(PageLimit),
    /// To be asked again then.
    Later(Moment),
}

#[derive(Clone, Copy, Debug)]
struct Failing {
    since: Moment,
    pause: Duration,
}

/// The pauses between tries of a history that fails, doubling from the first to the longest, and how long it is tried.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const TRY_FOR: Duration = Duration::from_secs(30);

/// What an answer meant for the subscription.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::session) enum Settled {
    Nothing,
    /// Its `subscribe` has been answered.
    Answered,
    /// It can't go on.
    Failed(BrokerError),
}

impl Lane {
    pub(super) fn new(id: SubscriptionId, channel: ChannelName, rule: Arc<ChannelRule>, opening: Opening) -> Self {
        let queue = match rule.kind {
            ChannelKind::Event => Queue::Event(EventLane::default()),
            ChannelKind::Log => Queue::Log(Box::new(LogLane::new())),
            ChannelKind::State => Queue::State(Box::new(StateLane::new())),
        };
        let stage = Stage::Attaching(Box::new(Attaching { opening, head: None, lost: false }));
        Self { id, listed: false, was_behind: false, channel, rule, stage, queue }
    }

    pub(super) fn has_next(&self) -> bool {
        match &self.queue {
            Queue::Event(lane) => lane.has_next(),
            Queue::Log(lane) => lane.has_next(),
            Queue::State(lane) => lane.has_next(),
        }
    }

    /// Whether it reads from history.
    pub(super) const fn is_behind(&self) -> bool {
        matches!(self.stage, Stage::Behind(_))
    }

    /// Keeps no memory for the next message, where none waits. (What a `state` lane keeps is the order of its keys.)
    pub(super) fn shrink(&mut self) {
        match &mut self.queue {
            Queue::Event(lane) => lane.shrink(),
            Queue::Log(lane) => lane.shrink(),
            Queue::State(_) => {}
        }
    }

    /// The `subscribe` that has not been answered, if it is so.
    pub(super) fn unanswered(&self) -> Option<CommandId> {
        match &self.stage {
            Stage::Attaching(attaching) => Some(attaching.opening.command),
            Stage::Current => None,
            Stage::Behind(behind) => behind.opening.map(|opening| opening.command),
        }
    }

    /// From where the next page is to be read, and where the queue ends; the same unless nothing has been read yet.
    pub(super) fn cursors(&self) -> (Since, Position) {
        let tail = match &self.queue {
            Queue::Event(_) => Position::start(Epoch::UNKNOWN),
            Queue::Log(lane) => lane.tail(),
            Queue::State(lane) => lane.tail(),
        };
        let asked = match &self.stage {
            Stage::Behind(behind) => behind.opening.and_then(|opening| opening.since),
            Stage::Attaching(_) | Stage::Current => None,
        };
        (asked.unwrap_or(Since::Position(tail)), tail)
    }

    /// Gives back everything it holds of the budget.
    pub(super) fn release(&mut self, budget: &mut Budget) {
        if let Stage::Behind(behind) = &mut self.stage {
            behind.drop_splice(budget);
            if let Asked::UnderWay(limit) = behind.request {
                budget.release(limit);
            }
        }
        match &mut self.queue {
            Queue::Event(lane) => lane.release(budget),
            Queue::Log(lane) => lane.release(budget),
            Queue::State(lane) => lane.release(budget),
        }
    }
}

impl Attaching {
    pub(super) fn lost(&mut self, position: Option<Position>) {
        self.lost = true;
        position.into_iter().for_each(|position| self.see(position));
    }

    /// Remembers the highest position; what is before it will be read from history.
    pub(super) fn see(&mut self, position: Position) {
        if self.head.is_none_or(|head| head.epoch != position.epoch || head.offset < position.offset) {
            self.head = Some(position);
        }
    }
}

impl Behind {
    pub(super) fn new(want: Want, head: Option<Position>) -> Self {
        Self {
            opening: None,
            announce: false,
            want,
            request: Asked::Due,
            listed: false,
            head,
            base: None,
            again: false,
            stale: false,
            splicing: false,
            splice: VecDeque::new(),
            setbacks: 0,
            failing: None,
        }
    }

    pub(super) fn opening(opening: Opening, want: Want, head: Option<Position>) -> Self {
        Self { opening: Some(opening), ..Self::new(want, head) }
    }

    /// Notes a live message. Whether it is new and follows what was seen before; if it is of another epoch, what was kept
    /// since the request can't be spliced.
    pub(super) fn see(&mut self, position: Position) -> Seen {
        match self.head {
            Some(head) if head.epoch != position.epoch => {
                self.head = Some(position);
                Seen::OtherEpoch
            }
            Some(head) if position.offset <= head.offset => Seen::Before,
            _ => {
                self.head = Some(position);
                Seen::Next
            }
        }
    }

    pub(super) fn drop_splice(&mut self, budget: &mut Budget) {
        self.splicing = false;
        for publication in std::mem::take(&mut self.splice) {
            budget.remove(publication.cost());
        }
    }

    /// Messages of the channel may have been lost; an answer under way may be older than they are.
    pub(super) fn lost(&mut self, position: Option<Position>) {
        self.again = true;
        if position.is_some() {
            self.head = position;
        }
    }

    /// The request is made. What comes from now on is kept if the end of the log seems to be within its reach.
    pub(super) fn ask(&mut self, limit: PageLimit, tail: Position) {
        self.request = Asked::UnderWay(limit);
        if self.head.is_none() && self.opening.is_none() && self.want == Want::Page {
            self.head = Some(tail);
        }
        self.base = self.head;
        self.again = false;
        let reach = limit.messages.try_into().unwrap_or(u64::MAX);
        self.splicing = self.opening.is_some()
            || self.want == Want::Snapshot
            || self.head.is_none_or(|head| head.epoch == tail.epoch && head.offset.saturating_sub(tail.offset) <= reach);
    }

    /// Whether an answer that reads to `end` leaves nothing out: everything after it has been kept, or nothing came after it.
    pub(super) fn reaches(&self, end: Position) -> bool {
        let Some(head) = self.head.filter(|_| !self.again) else { return !self.again };
        if head.epoch != end.epoch {
            // If the broker has read in this epoch after a message of another was seen, that one was late: its epoch is over.
            return self.base.is_some_and(|base| base.epoch == head.epoch);
        }
        let target = if self.splicing { self.base } else { Some(head) };
        target.is_none_or(|target| target.epoch != end.epoch || target.offset <= end.offset)
    }

    /// Where a lane stands that has caught up to `end` and takes what was kept since.
    pub(super) fn caught_up(&self, end: Position) -> Position {
        self.head.filter(|head| head.epoch == end.epoch && head.offset > end.offset).unwrap_or(end)
    }

    /// An answer with messages: asks for the next at once.
    pub(super) fn go_on(&mut self) {
        self.setbacks = 0;
        self.failing = None;
        self.request = Asked::Due;
    }

    /// An answer that brought nothing. The first is followed by another request at once, the next ones after a pause.
    pub(super) fn set_back(&mut self, now: Moment, error: impl FnOnce() -> BrokerError) -> Settled {
        self.setbacks = self.setbacks.saturating_add(1);
        self.request = Asked::Due;
        if self.setbacks > 1 { self.pause(now, error()) } else { Settled::Nothing }
    }

    /// The broker failed. A `subscribe` is refused for it; a subscription that runs tries again for a while.
    pub(super) fn pause(&mut self, now: Moment, error: BrokerError) -> Settled {
        let failing = self.failing.get_or_insert(Failing { since: now, pause: FIRST_PAUSE });
        if self.opening.is_some() || now.since(failing.since) >= TRY_FOR {
            return Settled::Failed(error);
        }
        self.request = Asked::Later(now + failing.pause);
        failing.pause = (failing.pause * 2).min(LONGEST_PAUSE);
        Settled::Nothing
    }
}

/// How a live message stands to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Next,
    Before,
    OtherEpoch,
}

pub(super) fn subscribed(
    channel: &ChannelName,
    kind: ChannelKind,
    opening: Opening,
    position: Option<Position>,
    recovery: Recovery,
) -> Box<ServerMessage> {
    Box::new(ServerMessage::Subscribed { id: opening.command, channel: channel.clone(), kind, position, recovery })
}

pub(super) fn live(channel: &ChannelName, offset: Option<u64>) -> Box<ServerMessage> {
    Box::new(ServerMessage::Live { channel: channel.clone(), offset })
}

/// A gap of which neither number nor range is known, or only the number.
pub(super) fn gap(channel: &ChannelName, missed: Option<u64>, reason: GapReason) -> Gap {
    Gap { channel: channel.clone(), missed, range: None, reason, position: None }
}
