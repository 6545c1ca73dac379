//! A `state` lane: snapshot pages, then the set of changed keys, always at their latest value.

use std::collections::VecDeque;
use std::sync::Arc;

use super::budget::Budget;
use super::dirty::Dirty;
use super::lane::{Asked, Behind, Opening, Seen, Settled, Stage, Want, gap, live, subscribed};
use crate::broker::{BrokerError, HistoryError, Page, Snapshot};
use crate::message::{Gap, GapReason, Recovery, ServerMessage, Since};
use crate::session::{Push, Transmit};
use crate::{ChannelKind, ChannelName, Epoch, Moment, Position, Publication};

/// A snapshot goes out in pieces of about this size: large enough that their envelopes don't matter, small enough that a control
/// message never waits long behind one.
const SNAPSHOT_BYTES: usize = 16 * 1024;
const SNAPSHOT_ENTRIES: usize = 64;

/// What waits. Written in the order of its fields.
#[derive(Debug)]
pub(super) struct StateLane {
    notices: VecDeque<Box<ServerMessage>>,
    /// A snapshot, and how many of its entries are written. Shared, so it is not charged.
    snapshot: Option<(Arc<Snapshot>, usize)>,
    /// Changed keys. Those after `tail` were kept while history is read, and may not go out before it.
    dirty: Dirty,
    /// `live` is said as soon as everything up to this offset is written.
    live_at: Option<u64>,
    /// Up to here every key that changed is in `dirty` or was sent.
    tail: Position,
    /// Up to here every key that changed was sent; nowhere before the first snapshot was.
    sent: Position,
}

const NOWHERE: Position = Position::start(Epoch::UNKNOWN);

impl StateLane {
    pub(super) fn new() -> Self {
        Self { notices: VecDeque::new(), snapshot: None, dirty: Dirty::default(), live_at: None, tail: NOWHERE, sent: NOWHERE }
    }

    pub(super) const fn tail(&self) -> Position {
        self.tail
    }

    /// The broker is subscribed from `top` on; what comes first is read after that, so nothing seen or lost before matters.
    pub(super) fn attached(stage: &mut Stage, opening: Opening, top: Position) {
        let want = if matches!(opening.since, Some(Since::Position(_))) { Want::Page } else { Want::Snapshot };
        *stage = Stage::Behind(Box::new(Behind::opening(opening, want, Some(top))));
    }

    pub(super) fn push(&mut self, stage: &mut Stage, budget: &mut Budget, position: Position, publication: &Arc<Publication>) -> Push {
        let is_old = position.epoch == self.tail.epoch && position.offset <= self.tail.offset;
        match stage {
            Stage::Attaching(attaching) => {
                attaching.see(position);
                Push::Ignored
            }
            _ if is_old => Push::Ignored,
            Stage::Current if position.epoch == self.tail.epoch => match self.conflate(budget, publication) {
                Some(push) => {
                    self.tail = position;
                    push
                }
                None => {
                    self.clear(budget);
                    self.tail = self.restart();
                    *stage = Stage::Behind(Box::new(Behind::new(Want::Page, Some(position))));
                    Push::Parked
                }
            },
            Stage::Current => {
                *stage = Stage::Behind(Box::new(Behind::new(Want::Page, Some(position))));
                Push::Parked
            }
            Stage::Behind(behind) => {
                match behind.see(position) {
                    Seen::Before => return Push::Ignored,
                    Seen::Next if behind.splicing && self.conflate(budget, publication).is_some() => {}
                    Seen::Next | Seen::OtherEpoch => self.drop_splice(behind, budget),
                }
                Push::Parked
            }
        }
    }

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
            Err(HistoryError::Retention { .. } | HistoryError::Epoch { .. }) => {
                // The delta is gone; the whole is not.
                behind.splicing = false;
                self.clear(budget);
                self.tail = NOWHERE;
                behind.want = Want::Snapshot;
                behind.head = None;
                behind.set_back(now, || BrokerError::Unavailable("changes go faster than they can be read".into()))
            }
            Err(HistoryError::Broker(error)) => {
                self.drop_splice(behind, budget);
                behind.pause(now, error)
            }
        }
    }

    pub(super) fn snapshot_taken(
        &mut self,
        stage: &mut Stage,
        channel: &ChannelName,
        budget: &mut Budget,
        now: Moment,
        result: Result<Arc<Snapshot>, BrokerError>,
    ) -> Settled {
        let Stage::Behind(behind) = stage else { return Settled::Nothing };
        let snapshot = match result {
            Ok(snapshot) => snapshot,
            Err(error) => {
                self.drop_splice(behind, budget);
                return behind.pause(now, error);
            }
        };
        let settled = self.begin_snapshot(behind, channel, &snapshot);
        if behind.reaches(snapshot.position) && behind.head.is_none_or(|head| head.epoch == snapshot.position.epoch) {
            self.drop_until(budget, snapshot.position.offset);
        } else {
            behind.splicing = false;
            self.clear(budget);
        }
        self.tail = snapshot.position;
        self.snapshot = Some((snapshot, 0));
        self.finish(stage, budget);
        settled
    }

    /// The broker may have lost messages: reads the delta.
    pub(super) fn lost(&mut self, stage: &mut Stage, budget: &mut Budget, position: Option<Position>) {
        match stage {
            Stage::Attaching(attaching) => attaching.lost(position),
            Stage::Current => *stage = Stage::Behind(Box::new(Behind::new(Want::Page, position))),
            Stage::Behind(behind) => {
                self.drop_splice(behind, budget);
                behind.lost(position);
            }
        }
    }

    /// Gives up the changes that wait, and reads them again from what was sent.
    pub(super) fn shed(&mut self, stage: &mut Stage, budget: &mut Budget) {
        if self.dirty.first().is_none() {
            return;
        }
        let head = Some(self.tail);
        self.clear(budget);
        match stage {
            Stage::Behind(behind) => {
                behind.splicing = false;
                if behind.opening.is_none() && behind.want == Want::Page {
                    behind.stale = matches!(behind.request, Asked::UnderWay(_));
                    self.tail = self.restart();
                }
            }
            Stage::Attaching(_) | Stage::Current => {
                self.tail = self.restart();
                *stage = Stage::Behind(Box::new(Behind::new(Want::Page, head)));
            }
        }
    }

    pub(super) fn release(&mut self, budget: &mut Budget) {
        self.clear(budget);
    }

    pub(super) fn has_next(&self) -> bool {
        !self.notices.is_empty()
            || self.snapshot.is_some()
            || self.is_live_due()
            || self.dirty.first().is_some_and(|first| first <= self.tail.offset)
    }

    pub(super) fn next(&mut self, channel: &ChannelName, budget: &mut Budget) -> Option<Transmit> {
        if let Some(notice) = self.notices.pop_front() {
            return Some(Transmit::Message(notice));
        }
        if let Some((snapshot, written)) = self.snapshot.take() {
            return Some(Transmit::Message(Box::new(self.page(channel, snapshot, written))));
        }
        if self.is_live_due() {
            return Some(Transmit::Message(live(channel, self.live_at.take())));
        }
        self.dirty.first().filter(|&first| first <= self.tail.offset)?;
        let publication = self.dirty.pop_first()?;
        budget.remove(publication.cost());
        self.sent.offset = publication.offset();
        Some(Transmit::Publication(publication))
    }

    /// What changed after this has to be read again if `dirty` is given up.
    fn restart(&self) -> Position {
        self.snapshot.as_ref().map_or(self.sent, |(snapshot, _)| snapshot.position)
    }

    fn is_live_due(&self) -> bool {
        self.live_at.is_some_and(|at| self.tail.offset >= at && self.dirty.first().is_none_or(|first| first > at))
    }

    /// The next piece of a snapshot, of which so many entries are written.
    fn page(&mut self, channel: &ChannelName, snapshot: Arc<Snapshot>, written: usize) -> ServerMessage {
        let mut bytes = 0;
        let entries: Vec<_> = snapshot.entries[written..]
            .iter()
            .take(SNAPSHOT_ENTRIES)
            .take_while(|entry| {
                let begun = bytes;
                bytes += entry.cost();
                begun == 0 || bytes <= SNAPSHOT_BYTES
            })
            .cloned()
            .collect();
        let (position, written) = (snapshot.position, written + entries.len());
        let more = written < snapshot.entries.len();
        if more {
            self.snapshot = Some((snapshot, written));
        } else {
            self.sent = position;
        }
        ServerMessage::Snapshot { channel: channel.clone(), position, entries, more }
    }

    /// Puts in a change, if it replaces another of its key or there is room for one more.
    fn conflate(&mut self, budget: &mut Budget, publication: &Arc<Publication>) -> Option<Push> {
        let conflates = self.dirty.has_key_of(publication);
        if !conflates && !budget.fits(publication.cost()) {
            return None;
        }
        self.put(budget, publication.clone());
        Some(if conflates { Push::Conflated } else { Push::Queued })
    }

    fn put(&mut self, budget: &mut Budget, publication: Arc<Publication>) {
        budget.add(publication.cost());
        if let Some(replaced) = self.dirty.put(publication) {
            budget.remove(replaced.cost());
        }
    }

    /// Takes in a page of the delta.
    fn take(&mut self, stage: &mut Stage, channel: &ChannelName, budget: &mut Budget, now: Moment, page: Page) -> Settled {
        let Stage::Behind(behind) = stage else { return Settled::Nothing };
        let mut settled = Settled::Nothing;
        if let Some(opening) = behind.opening.take() {
            if behind.head.is_some_and(|head| head.epoch != page.start.epoch) {
                behind.splicing = false;
                self.clear(budget);
            }
            (self.tail, self.sent) = (page.start, page.start);
            self.notices.push_back(subscribed(channel, ChannelKind::State, opening, Some(page.top), Recovery::Complete));
            behind.announce = true;
            settled = Settled::Answered;
        }
        let brought_nothing = page.messages.is_empty();
        for publication in page.messages {
            if let Some(position) = publication.position
                && position.epoch == self.tail.epoch
                && position.offset > self.tail.offset
            {
                self.put(budget, publication);
                self.tail = position;
            }
        }
        if page.more {
            self.drop_splice(behind, budget);
        } else {
            if page.top.epoch == self.tail.epoch {
                self.tail.offset = self.tail.offset.max(page.top.offset);
            }
            if std::mem::take(&mut behind.announce) {
                self.live_at = Some(self.tail.offset);
            }
            if self.finish(stage, budget) {
                return settled;
            }
        }
        let Stage::Behind(behind) = stage else { return settled };
        if brought_nothing && !behind.again {
            let late = behind.set_back(now, || BrokerError::Unavailable("history does not reach what was published".into()));
            return if settled == Settled::Answered { settled } else { late };
        }
        behind.go_on();
        settled
    }

    /// What is said before a snapshot.
    fn begin_snapshot(&mut self, behind: &mut Behind, channel: &ChannelName, snapshot: &Snapshot) -> Settled {
        let position = Some(snapshot.position);
        let Some(opening) = behind.opening.take() else {
            self.notices.retain(|notice| !matches!(**notice, ServerMessage::Gap(_)));
            if self.sent.epoch != snapshot.position.epoch && self.sent != NOWHERE {
                let gap = Gap { position, ..gap(channel, None, GapReason::Epoch) };
                self.notices.push_back(Box::new(ServerMessage::Gap(Box::new(gap))));
            }
            if std::mem::take(&mut behind.announce) || self.live_at.is_some() {
                self.live_at = Some(snapshot.position.offset);
            }
            return Settled::Nothing;
        };
        let recovery = if opening.since.is_some() { Recovery::Snapshot } else { Recovery::None };
        self.notices.push_back(subscribed(channel, ChannelKind::State, opening, position, recovery));
        self.live_at = Some(snapshot.position.offset);
        Settled::Answered
    }

    /// After an answer that reads to `tail`: goes live with what was kept since it was asked for, or drops that and asks on.
    fn finish(&mut self, stage: &mut Stage, budget: &mut Budget) -> bool {
        let Stage::Behind(behind) = stage else { return false };
        if behind.reaches(self.tail) {
            self.tail = behind.caught_up(self.tail);
            *stage = Stage::Current;
            return true;
        }
        self.drop_splice(behind, budget);
        behind.want = Want::Page;
        behind.go_on();
        false
    }

    fn drop_splice(&mut self, behind: &mut Behind, budget: &mut Budget) {
        if std::mem::take(&mut behind.splicing) {
            while let Some(publication) = self.dirty.pop_last_after(self.tail.offset) {
                budget.remove(publication.cost());
            }
        }
    }

    fn drop_until(&mut self, budget: &mut Budget, offset: u64) {
        while self.dirty.first().is_some_and(|first| first <= offset)
            && let Some(publication) = self.dirty.pop_first()
        {
            budget.remove(publication.cost());
        }
    }

    fn clear(&mut self, budget: &mut Budget) {
        self.drop_until(budget, u64::MAX);
    }
}
