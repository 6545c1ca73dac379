//! The checker: what one client received on one channel, held against everything that was ever published there.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tidegate_core::message::{Gap, GapReason, Recovery, ServerMessage, Since};
use tidegate_core::session::Transmit;
use tidegate_core::{Body, ChannelKind, Position, Publication};

use crate::broker::Log;

/// What is wrong with what a client received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Messages were skipped without a word.
    Lost(String),
    /// A message came again, or after one that follows it.
    Repeated(String),
    /// A message that was never published there.
    Phantom(String),
    /// A gap that is not as it says, or that nothing explains.
    WrongGap(String),
    /// What was said about the subscription is not true.
    WrongAnswer(String),
    /// A state that is not the channel's.
    Divergent(String),
}

/// Every life of a channel, the last one current.
#[derive(Debug)]
pub(crate) struct Truth {
    pub(crate) kind: ChannelKind,
    pub(crate) lives: Vec<Log>,
    /// On event channels: what was handed to the session.
    pub(crate) events: VecDeque<Event>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Message(u64),
    Lost,
}

impl Truth {
    pub(crate) fn current(&self) -> &Log {
        self.lives.last().unwrap()
    }

    pub(crate) fn current_mut(&mut self) -> &mut Log {
        self.lives.last_mut().unwrap()
    }

    fn life(&self, position: Position) -> Option<&Log> {
        self.lives.iter().find(|log| log.epoch == position.epoch)
    }

    /// The first message after the position.
    fn next(&self, position: Position) -> Option<&Arc<Publication>> {
        self.life(position)?.all.iter().find(|message| message.offset() > position.offset)
    }

    fn between(&self, from: Position, to: u64) -> u64 {
        let inside = |message: &&Arc<Publication>| message.offset() > from.offset && message.offset() <= to;
        self.life(from).map_or(0, |log| log.all.iter().filter(inside).count() as u64)
    }

    fn is_published(&self, publication: &Publication) -> bool {
        let Some(position) = publication.position else { return false };
        self.life(position).is_some_and(|log| log.all.iter().any(|message| **message == *publication))
    }
}

/// What a client knows of one channel. It survives its connections.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    /// Where it stands.
    pub(crate) cursor: Option<Position>,
    pub(crate) stage: Stage,
    /// The end of the log when it asked: everything after `live` is later than this.
    asked_at: Option<Position>,
    asked: Option<Since>,
    live: bool,
    values: BTreeMap<Box<str>, Body>,
    pieces: Option<(Position, BTreeMap<Box<str>, Body>)>,
    /// Whether the bus has lost something since the last event, and whether that was told. One word may stand for several losses.
    bus_lost: bool,
    bus_told: bool,
    /// Oldest position when `earliest` was asked for: where it may begin.
    begins_after: Option<Position>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    #[default]
    Away,
    Asked,
    /// `subscribed` was said, with a gap to come at once.
    AwaitsGap,
    /// A snapshot is to come before anything else.
    AwaitsSnapshot,
    Streaming,
}

type Verdict = Result<(), Fault>;

impl Witness {
    /// The client subscribes.
    pub(crate) fn asks(&mut self, truth: &Truth, since: Option<Since>) {
        let log = truth.current();
        (self.stage, self.asked, self.live) = (Stage::Asked, since, false);
        self.asked_at = Some(log.top());
        self.begins_after = Some(log.oldest());
        self.pieces = None;
        (self.bus_lost, self.bus_told) = (false, false);
    }

    /// The connection or the subscription has ended; cursor and values stay.
    pub(crate) fn leaves(&mut self) {
        self.stage = Stage::Away;
        self.pieces = None;
    }

    pub(crate) fn receives(&mut self, truth: &mut Truth, transmit: &Transmit) -> Verdict {
        match transmit {
            Transmit::Publication(publication) if truth.kind == ChannelKind::Event => self.event(truth, publication),
            Transmit::Publication(publication) => self.message(truth, publication),
            Transmit::Message(message) => match &**message {
                ServerMessage::Subscribed { position, recovery, .. } => self.subscribed(truth, *position, *recovery),
                ServerMessage::Live { offset, .. } => self.live(truth, *offset),
                ServerMessage::Gap(gap) if truth.kind == ChannelKind::Event => self.event_gap(truth, gap),
                ServerMessage::Gap(gap) => self.gap(truth, gap),
                ServerMessage::Snapshot { position, entries, more, .. } => self.snapshot(truth, *position, entries, *more),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Nothing is on its way any more: it must be where its channel is.
    pub(crate) fn ends(&self, truth: &Truth) -> Verdict {
        if self.stage != Stage::Streaming || !self.live {
            return Err(Fault::WrongAnswer(format!("not live at the end: {:?}", self.stage)));
        }
        match truth.kind {
            ChannelKind::Event => match truth.events.front() {
                Some(left) => Err(Fault::Lost(format!("{left:?} and what follows it"))),
                None if self.bus_lost && !self.bus_told => Err(Fault::Lost("a loss on the bus was never told".into())),
                None => Ok(()),
            },
            ChannelKind::Log => {
                let cursor = self.cursor.unwrap();
                match truth.next(cursor) {
                    Some(next) => Err(Fault::Lost(format!("{} never came", next.offset()))),
                    None if cursor.epoch != truth.current().epoch => Err(Fault::Lost("a new epoch never came".into())),
                    None => Ok(()),
                }
            }
            ChannelKind::State => self.is_state_at(&self.values, truth, truth.current().top()),
        }
    }

    fn subscribed(&mut self, truth: &Truth, position: Option<Position>, recovery: Recovery) -> Verdict {
        if self.stage != Stage::Asked {
            return Err(Fault::WrongAnswer(format!("subscribed in {:?}", self.stage)));
        }
        self.stage = match (truth.kind, self.asked, recovery) {
            (ChannelKind::Event, None, Recovery::None) => Stage::Streaming,
            (ChannelKind::Log, None, Recovery::None) => {
                self.cursor = position;
                Stage::Streaming
            }
            (ChannelKind::Log, Some(Since::Position(cursor)), Recovery::Complete | Recovery::Gap) => {
                self.cursor = Some(cursor);
                if recovery == Recovery::Gap { Stage::AwaitsGap } else { Stage::Streaming }
            }
            (ChannelKind::Log, Some(_), Recovery::Complete) => {
                self.cursor = None;
                let epoch = position.map(|position| position.epoch);
                self.begins_after = self.begins_after.filter(|begins| Some(begins.epoch) == epoch).or(epoch.map(Position::start));
                Stage::Streaming
            }
            (ChannelKind::State, Some(Since::Position(_)), Recovery::Complete) => Stage::Streaming,
            (ChannelKind::State, None, Recovery::None) | (ChannelKind::State, Some(_), Recovery::Snapshot) => Stage::AwaitsSnapshot,
            other => return Err(Fault::WrongAnswer(format!("{other:?}"))),
        };
        Ok(())
    }

    fn live(&mut self, truth: &Truth, offset: Option<u64>) -> Verdict {
        if self.stage != Stage::Streaming || std::mem::replace(&mut self.live, true) {
            return Err(Fault::WrongAnswer(format!("live, again or too early: {:?}", self.stage)));
        }
        let (Some(offset), Some(cursor), Some(asked_at)) = (offset, self.cursor, self.asked_at) else { return Ok(()) };
        if cursor.epoch == asked_at.epoch && offset < asked_at.offset {
            return Err(Fault::WrongAnswer(format!("live at {offset}, and {} was there before it asked", asked_at.offset)));
        }
        match truth.next(cursor) {
            Some(next) if truth.kind == ChannelKind::Log && next.offset() <= offset => {
                Err(Fault::Lost(format!("live at {offset} without {}", next.offset())))
            }
            _ => Ok(()),
        }
    }

    fn message(&mut self, truth: &Truth, publication: &Arc<Publication>) -> Verdict {
        let position = publication.position.unwrap();
        if self.stage != Stage::Streaming {
            return Err(Fault::WrongAnswer(format!("a message in {:?}", self.stage)));
        }
        if !truth.is_published(publication) {
            return Err(Fault::Phantom(format!("{position:?}")));
        }
        let cursor = match self.cursor {
            Some(cursor) => cursor,
            None => self.beginning(truth, position)?,
        };
        if cursor.epoch != position.epoch {
            return Err(Fault::Lost(format!("another epoch at {} without a word", position.offset)));
        }
        if position.offset <= cursor.offset {
            return Err(Fault::Repeated(format!("{} after {}", position.offset, cursor.offset)));
        }
        let skipped = truth.between(cursor, position.offset - 1);
        if truth.kind == ChannelKind::Log && skipped > 0 {
            return Err(Fault::Lost(format!("{skipped} between {} and {}", cursor.offset, position.offset)));
        }
        if truth.kind == ChannelKind::State {
            self.change(publication);
        }
        self.cursor = Some(position);
        Ok(())
    }

    /// Who asked for the earliest begins at the oldest, which may have moved since; who asked for the last few, not before it.
    fn beginning(&self, truth: &Truth, position: Position) -> Result<Position, Fault> {
        let log = truth.life(position).unwrap();
        let before = log.all.iter().rev().find(|message| message.offset() < position.offset).map_or(0, |message| message.offset());
        let start = Position { epoch: position.epoch, offset: before };
        let begins_after = self.begins_after.filter(|begins| begins.epoch == position.epoch);
        let allowed = match self.asked {
            Some(Since::Earliest) => begins_after.map_or(0, |begins| begins.offset)..=log.oldest().offset,
            _ => begins_after.map_or(0, |begins| begins.offset)..=u64::MAX,
        };
        if allowed.contains(&before) { Ok(start) } else { Err(Fault::Lost(format!("it begins at {}", position.offset))) }
    }

    fn gap(&mut self, truth: &Truth, gap: &Gap) -> Verdict {
        let wrong = || Err(Fault::WrongGap(format!("{gap:?} at {:?}", self.cursor)));
        self.cursor = match (gap.reason, gap.range, gap.position) {
            (GapReason::Retention, Some((from, to)), None) => {
                let Some(cursor) = self.cursor.or(self.begins_before(from)) else { return wrong() };
                let is_exact = from == cursor.offset + 1 && gap.missed == Some(truth.between(cursor, to)) && to > cursor.offset;
                let is_gone = truth.life(cursor).is_some_and(|log| to <= log.oldest().offset);
                if !is_exact || !is_gone {
                    return wrong();
                }
                Some(Position { offset: to, ..cursor })
            }
            (GapReason::Epoch, None, Some(position)) if gap.missed.is_none() => {
                if truth.life(position).is_none() || self.cursor.is_some_and(|cursor| cursor.epoch == position.epoch) {
                    return wrong();
                }
                // What a client holds of a state channel is void until it has the snapshot, and so is a cursor to it.
                (truth.kind == ChannelKind::Log).then_some(position)
            }
            _ => return wrong(),
        };
        self.stage = match truth.kind {
            ChannelKind::State => Stage::AwaitsSnapshot,
            ChannelKind::Event | ChannelKind::Log => Stage::Streaming,
        };
        Ok(())
    }

    /// Who asked for the earliest or the last few and has got nothing yet stands where what it gets or misses begins.
    fn begins_before(&self, from: u64) -> Option<Position> {
        self.begins_after.filter(|begins| begins.offset < from).map(|begins| Position { offset: from - 1, ..begins })
    }

    fn snapshot(&mut self, truth: &Truth, position: Position, entries: &[Arc<Publication>], more: bool) -> Verdict {
        if !matches!(self.stage, Stage::AwaitsSnapshot | Stage::Streaming) {
            return Err(Fault::WrongAnswer(format!("a snapshot in {:?}", self.stage)));
        }
        let (_, mut pieces) = self.pieces.take().filter(|(begun, _)| *begun == position).unwrap_or((position, BTreeMap::new()));
        pieces.extend(entries.iter().map(|entry| (entry.key.clone().unwrap(), entry.body.clone())));
        if more {
            self.pieces = Some((position, pieces));
            return Ok(());
        }
        self.is_state_at(&pieces, truth, position)?;
        (self.values, self.cursor, self.stage) = (pieces, Some(position), Stage::Streaming);
        Ok(())
    }

    fn is_state_at(&self, values: &BTreeMap<Box<str>, Body>, truth: &Truth, position: Position) -> Verdict {
        let Some(log) = truth.life(position) else { return Err(Fault::Phantom(format!("{position:?}"))) };
        let mut real = BTreeMap::new();
        for message in log.all.iter().filter(|message| message.offset() <= position.offset) {
            match &message.body {
                Body::Deleted => real.remove(message.key.as_ref().unwrap()),
                data @ Body::Data(_) => real.insert(message.key.clone().unwrap(), data.clone()),
            };
        }
        if *values == real { Ok(()) } else { Err(Fault::Divergent(format!("at {position:?}: {values:?} is really {real:?}"))) }
    }

    fn change(&mut self, publication: &Publication) {
        let key = publication.key.clone().unwrap();
        match &publication.body {
            Body::Deleted => self.values.remove(&key),
            data @ Body::Data(_) => self.values.insert(key, data.clone()),
        };
    }

    fn event(&mut self, truth: &mut Truth, publication: &Publication) -> Verdict {
        self.pass_losses(truth);
        if self.bus_lost && !self.bus_told {
            return Err(Fault::Lost("a loss on the bus was not told before what follows it".into()));
        }
        (self.bus_lost, self.bus_told) = (false, false);
        let number = match &publication.body {
            Body::Data(data) => std::str::from_utf8(data).unwrap().parse().unwrap(),
            Body::Deleted => return Err(Fault::Phantom("a deletion of an event".into())),
        };
        match truth.events.pop_front() {
            Some(Event::Message(next)) if next == number => Ok(()),
            Some(Event::Message(next)) if next < number => Err(Fault::Lost(format!("event {next}"))),
            other => Err(Fault::Repeated(format!("event {number} where {other:?} was due"))),
        }
    }

    fn event_gap(&mut self, truth: &mut Truth, gap: &Gap) -> Verdict {
        match (gap.reason, gap.missed) {
            (GapReason::Slow, Some(missed)) => {
                for _ in 0..missed {
                    self.pass_losses(truth);
                    if truth.events.pop_front().is_none() {
                        return Err(Fault::WrongGap(format!("{missed} events, more than there were")));
                    }
                }
                Ok(())
            }
            (GapReason::Bus, None) => {
                self.pass_losses(truth);
                self.bus_told = true;
                if self.bus_lost { Ok(()) } else { Err(Fault::WrongGap("nothing was lost on the bus".into())) }
            }
            _ => Err(Fault::WrongGap(format!("{gap:?}"))),
        }
    }

    fn pass_losses(&mut self, truth: &mut Truth) {
        while truth.events.front() == Some(&Event::Lost) {
            truth.events.pop_front();
            self.bus_lost = true;
        }
    }
}
