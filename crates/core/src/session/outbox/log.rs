//! A `log` lane: a short queue in front of a cursor. It loses nothing: what has no room is read from history later.

use std::collections::VecDeque;
use std::sync::Arc;

use super::budget::Budget;
use super::lane::{Asked, Attaching, Behind, Opening, Seen, Settled, Stage, Want, gap, live, subscribed};
use super::places::{self, KEPT};
use crate::broker::{BrokerError, HistoryError, Page};
use crate::message::{Gap, GapReason, Recovery, ServerMessage, Since};
use crate::session::{Push, Transmit};
use crate::{ChannelKind, ChannelName, Epoch, Moment, Overflow, Position, Publication};

/// What waits, and the places on either side of it.
#[derive(Debug)]
pub(super) struct LogLane {
    queue: VecDeque<Item>,
    /// The end of the queue: what follows has still to be pushed or read.
    tail: Position,
    /// The front of the queue: what the socket was given.
    sent: Position,
}

#[derive(Debug)]
enum Item {
    Publication(Arc<Publication>),
    /// `subscribed` or `live`.
    Notice(Box<ServerMessage>),
    /// A gap, and where it ends.
    Gap(Box<(Gap, Position)>),
}

impl LogLane {
    pub(super) const fn new() -> Self {
        let nowhere = Position::start(Epoch::UNKNOWN);
        Self { queue: VecDeque::new(), tail: nowhere, sent: nowhere }
    }

    pub(super) const fn tail(&self) -> Position {
        self.tail
    }

    /// The broker is subscribed from `top` on. Whether the `subscribe` is answered.
    pub(super) fn attached(&mut self, stage: &mut Stage, channel: &ChannelName, top: Position) -> Settled {
        let Stage::Attaching(attaching) = stage else { return Settled::Nothing };
        let Attaching { opening, head, lost } = **attaching;
        if opening.since.is_some() {
            *stage = Stage::Behind(Box::new(Behind::opening(opening, Want::Page, head.or(Some(top)))));
            return Settled::Nothing;
        }
        (self.tail, self.sent) = (top, top);
        self.queue.push_back(Item::Notice(subscribed(channel, ChannelKind::Log, opening, Some(top), Recovery::None)));
        self.queue.push_back(Item::Notice(live(channel, Some(top.offset))));
        // What was pushed before this answer was not kept, and what was lost was not even pushed.
        let is_behind = lost || head.is_some_and(|head| head.epoch != top.epoch || head.offset > top.offset);
        *stage = if is_behind { Stage::Behind(Box::new(Behind::new(Want::Page, head))) } else { Stage::Current };
        Settled::Answered
    }

    pub(super) fn push(
        &mut self,
        stage: &mut Stage,
        budget: &mut Budget,
        overflow: Overflow,
        position: Position,
        publication: &Arc<Publication>,
    ) -> Push {
        let is_old = position.epoch == self.tail.epoch && position.offset <= self.tail.offset;
        match stage {
            Stage::Attaching(attaching) => {
                attaching.see(position);
                Push::Ignored
            }
            _ if is_old => Push::Ignored,
            Stage::Current if position.epoch == self.tail.epoch && budget.fits(publication.cost()) => {
                budget.add(publication.cost());
                self.append(publication.clone(), position);
                Push::Queued
            }
            Stage::Current if position.epoch == self.tail.epoch && overflow == Overflow::Disconnect => Push::Disconnected,
            Stage::Current => {
                *stage = Stage::Behind(Box::new(Behind::new(Want::Page, Some(position))));
                Push::Parked
            }
            Stage::Behind(behind) => {
                match behind.see(position) {
                    Seen::Before => return Push::Ignored,
                    Seen::Next if behind.splicing && budget.fits(publication.cost()) => {
                        budget.add(publication.cost());
                        behind.splice.push_back(publication.clone());
                    }
                    Seen::Next | Seen::OtherEpoch => behind.drop_splice(budget),
                }
                Push::Parked
            }
        }
    }

    /// Takes the lane past messages that are sent without it, if nothing waits and each follows the one before.
    pub(super) fn pass(&mut self, publications: &[Arc<Publication>]) -> bool {
        let mut tail = self.tail;
        for publication in publications {
            match publication.position {
                Some(position) if position.epoch == tail.epoch && position.offset > tail.offset => tail = position,
                _ => return false,
            }
        }
        let passes = self.queue.is_empty();
        if passes {
            (self.tail, self.sent) = (tail, tail);
        }
        passes
    }

    /// An answer of history. The room set aside for it has been given back.
    pub(super) fn fetched(
        &mut self,
        stage: &mut Stage,
        channel: &ChannelName,
        budget: &mut Budget,
        now: Moment,
        result: Result<Page, HistoryError>,
    ) -> Settled {
        let Stage::Behind(behind) = stage else { return Settled::Nothing };
        match result {
            Ok(page) => self.take(stage, channel, budget, now, page),
            Err(HistoryError::Retention { oldest, top, missed }) => {
                behind.drop_splice(budget);
                let from = self.start_of_gap(behind, oldest).map(|from| from.offset + 1);
                let range = from.map(|from| (from, oldest.offset));
                let gap = Gap { missed, range, ..gap(channel, None, GapReason::Retention) };
                self.skip(behind, channel, now, gap, from.is_some(), oldest, top)
            }
            Err(HistoryError::Epoch { oldest, top }) => {
                behind.drop_splice(budget);
                let told = self.start_of_gap(behind, oldest).is_some();
                let gap = Gap { position: Some(oldest), ..gap(channel, None, GapReason::Epoch) };
                self.skip(behind, channel, now, gap, told, oldest, top)
            }
            Err(HistoryError::Broker(error)) => {
                behind.drop_splice(budget);
                behind.pause(now, error)
            }
        }
    }

    /// Messages may have been lost on the way: reads them from where the queue ends.
    pub(super) fn lost(stage: &mut Stage, budget: &mut Budget, position: Option<Position>) {
        match stage {
            Stage::Attaching(attaching) => attaching.lost(position),
            Stage::Current => *stage = Stage::Behind(Box::new(Behind::new(Want::Page, position))),
            Stage::Behind(behind) => {
                behind.drop_splice(budget);
                behind.lost(position);
            }
        }
    }

    /// Gives up what waits, and reads it again from what was sent. Only `subscribed` and a `live` before any message stay.
    pub(super) fn shed(&mut self, stage: &mut Stage, budget: &mut Budget) {
        if let Stage::Behind(behind) = stage {
            behind.drop_splice(budget);
        }
        let Some(first) = self.queue.iter().position(|item| !matches!(item, Item::Notice(_))) else { return };
        let mut announce = false;
        for item in self.queue.drain(first..) {
            match item {
                Item::Publication(publication) => budget.remove(publication.cost()),
                Item::Notice(_) => announce = true,
                Item::Gap(_) => {}
            }
        }
        let head = Some(self.tail);
        self.tail = self.sent;
        match stage {
            Stage::Behind(behind) => {
                behind.stale = matches!(behind.request, Asked::UnderWay(_));
                behind.announce |= announce;
            }
            Stage::Attaching(_) | Stage::Current => {
                let mut behind = Behind::new(Want::Page, head);
                behind.announce = announce;
                *stage = Stage::Behind(Box::new(behind));
            }
        }
    }

    pub(super) fn release(&mut self, budget: &mut Budget) {
        for item in self.queue.drain(..) {
            if let Item::Publication(publication) = item {
                budget.remove(publication.cost());
            }
        }
    }

    pub(super) fn has_next(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Places that it keeps, taken or not.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.queue.capacity()
    }

    pub(super) fn shrink(&mut self) {
        places::give_back(&mut self.queue);
    }

    pub(super) fn next(&mut self, budget: &mut Budget) -> Option<Transmit> {
        let item = self.queue.pop_front()?;
        if self.queue.capacity() > KEPT || matches!(item, Item::Notice(_)) {
            self.shrink();
        }
        Some(match item {
            Item::Publication(publication) => {
                budget.remove(publication.cost());
                self.sent = publication.position.unwrap_or(self.sent);
                Transmit::Publication(publication)
            }
            Item::Notice(message) => Transmit::Message(message),
            Item::Gap(gap) => {
                let (gap, end) = *gap;
                self.sent = end;
                Transmit::Message(Box::new(ServerMessage::Gap(Box::new(gap))))
            }
        })
    }

    fn append(&mut self, publication: Arc<Publication>, position: Position) {
        self.queue.push_back(Item::Publication(publication));
        self.tail = position;
    }

    /// Takes in a page, and what was kept since it was asked for if the two fit together.
    fn take(&mut self, stage: &mut Stage, channel: &ChannelName, budget: &mut Budget, now: Moment, page: Page) -> Settled {
        let Stage::Behind(behind) = stage else { return Settled::Nothing };
        let mut settled = Settled::Nothing;
        if let Some(opening) = behind.opening.take() {
            (self.tail, self.sent) = (page.start, page.start);
            self.queue.push_back(Item::Notice(subscribed(channel, ChannelKind::Log, opening, Some(page.top), Recovery::Complete)));
            behind.announce = true;
            settled = Settled::Answered;
        }
        let brought_nothing = page.messages.is_empty();
        for publication in page.messages {
            self.append_next(budget, publication);
        }
        if !page.more {
            if page.top.epoch == self.tail.epoch {
                self.tail.offset = self.tail.offset.max(page.top.offset);
            }
            if std::mem::take(&mut behind.announce) {
                self.queue.push_back(Item::Notice(live(channel, Some(self.tail.offset))));
            }
            if behind.reaches(self.tail) {
                for publication in std::mem::take(&mut behind.splice) {
                    budget.remove(publication.cost());
                    self.append_next(budget, publication);
                }
                *stage = Stage::Current;
                return settled;
            }
        }
        behind.drop_splice(budget);
        if brought_nothing && !behind.again {
            // There is more, and history does not show it yet.
            let late = behind.set_back(now, || BrokerError::Unavailable("history does not reach what was published".into()));
            return if settled == Settled::Answered { settled } else { late };
        }
        behind.go_on();
        settled
    }

    /// Appends what follows the tail; what was there before, or is of another epoch, is not taken.
    fn append_next(&mut self, budget: &mut Budget, publication: Arc<Publication>) {
        if let Some(position) = publication.position
            && position.epoch == self.tail.epoch
            && position.offset > self.tail.offset
        {
            budget.add(publication.cost());
            self.append(publication, position);
        }
    }

    /// From where messages are missing. Who asked for the earliest, or for the last few, misses nothing.
    fn start_of_gap(&self, behind: &Behind, oldest: Position) -> Option<Position> {
        match behind.opening {
            None => Some(self.tail),
            Some(Opening { since: Some(Since::Position(position)), .. }) => Some(position),
            Some(_) => {
                debug_assert!(oldest.epoch != Epoch::UNKNOWN, "a broker names an epoch");
                None
            }
        }
    }

    /// Goes on after `oldest`, saying what is missing.
    #[allow(clippy::too_many_arguments, reason = "the parts of one answer")]
    fn skip(
        &mut self,
        behind: &mut Behind,
        channel: &ChannelName,
        now: Moment,
        gap: Gap,
        told: bool,
        oldest: Position,
        top: Position,
    ) -> Settled {
        let mut settled = Settled::Nothing;
        if let Some(opening) = behind.opening.take() {
            let recovery = if told { Recovery::Gap } else { Recovery::Complete };
            self.queue.push_back(Item::Notice(subscribed(channel, ChannelKind::Log, opening, Some(top), recovery)));
            self.sent = match opening.since {
                Some(Since::Position(position)) => position,
                _ => oldest,
            };
            behind.announce = true;
            settled = Settled::Answered;
        }
        if told {
            self.queue.push_back(Item::Gap(Box::new((gap, oldest))));
        }
        self.tail = oldest;
        behind.head = behind.head.filter(|head| head.epoch == oldest.epoch);
        let late = behind.set_back(now, || BrokerError::Unavailable("history goes faster than it can be read".into()));
        if settled == Settled::Answered { settled } else { late }
    }
}
