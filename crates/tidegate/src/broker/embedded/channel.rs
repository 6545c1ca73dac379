//! One channel: its place in time, the ids it remembers, and what is kept of it.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use parking_lot::Mutex;
use tidegate_core::broker::BrokerError;
use tidegate_core::message::Publish;
use tidegate_core::{Body, ChannelKind, ChannelName, Epoch, Position, Publication, Retention};

use super::dedup::Dedup;
use super::files::Place;
use super::given_keys::GivenKeys;
use super::groups::group_of;
use super::log::Log;
use super::memory::{Charged, Memory};
use super::record::{Record, RecordKind};
use super::ring::payload;
use super::table::{Entry, Table};
use super::terms::Terms;

/// A channel that somebody publishes on, subscribes to, or that has something left.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) name: ChannelName,
    /// Held from the moment a message gets its offset until the sink has it, where no single thread sees to the order.
    pub(super) order: Mutex<()>,
    pub(super) state: Mutex<State>,
    /// Where it is in the list of all.
    pub(super) index: AtomicUsize,
}

/// Everything about a channel that changes.
#[derive(Debug)]
pub(super) struct State {
    pub(super) epoch: Epoch,
    /// The last offset that was acknowledged.
    pub(super) top: u64,
    /// The last that was given out: above `top` while a batch is being written.
    pub(super) given: u64,
    /// Where the record of `given` will be.
    given_place: Place,
    given_keys: GivenKeys,
    pub(super) subscribed: bool,
    /// It was taken out of the map: whoever still has it must look again.
    pub(super) forgotten: bool,
    /// As the last rule said; before that, as the log says.
    pub(super) retention: Option<Retention>,
    /// The time of the last message: times never go back, whatever the clock does.
    pub(super) last_ms: u64,
    pub(super) dedup: Dedup,
    pub(super) content: Content,
    pub(super) charged: Charged,
}

/// What is kept.
#[derive(Debug)]
pub(super) enum Content {
    /// Nothing was published, or it is an `event` channel.
    Nothing,
    Log(Log),
    Table(Table),
}

/// What becomes of a publish.
pub(super) enum Verdict {
    /// It gets this offset.
    New(u64),
    /// It was published before, at this offset.
    Repeat(u64),
    /// The channel was forgotten meanwhile: it has to be looked up again.
    Gone,
}

impl Channel {
    pub(super) fn new(name: ChannelName, epoch: Epoch) -> Self {
        Self { name, order: Mutex::new(()), state: Mutex::new(State::new(epoch)), index: AtomicUsize::new(0) }
    }
}

impl State {
    pub(super) fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            top: 0,
            given: 0,
            given_place: Place::NOWHERE,
            given_keys: GivenKeys::default(),
            subscribed: false,
            forgotten: false,
            retention: None,
            last_ms: 0,
            dedup: Dedup::default(),
            content: Content::Nothing,
            charged: Charged::default(),
        }
    }

    /// Begins another life: what was kept is gone.
    pub(super) fn begin_epoch(&mut self, epoch: Epoch) {
        let (subscribed, charged, last_ms) = (self.subscribed, self.charged, self.last_ms);
        *self = Self { subscribed, charged, last_ms, ..Self::new(epoch) };
    }

    pub(super) const fn position(&self, offset: u64) -> Position {
        Position { epoch: self.epoch, offset }
    }

    /// Whether what is kept is of this kind, or could become so.
    pub(super) const fn fits(&self, kind: ChannelKind) -> bool {
        matches!(
            (&self.content, kind),
            (Content::Nothing, _) | (Content::Log(_), ChannelKind::Log) | (Content::Table(_), ChannelKind::State)
        )
    }

    /// Gives a message that was checked its offset, unless it is a repeat or one too many.
    pub(super) fn give(&mut self, terms: &Terms, publish: &Publish, id: Option<u128>, memory: &Memory) -> Result<Verdict, BrokerError> {
        if self.forgotten {
            return Ok(Verdict::Gone);
        }
        self.retention = Some(terms.retention);
        if let Some(offset) = id.and_then(|id| self.dedup.find(id)) {
            return Ok(Verdict::Repeat(offset));
        }
        if terms.kind == ChannelKind::State {
            self.check_room(&terms.retention, publish, memory)?;
        }
        self.given += 1;
        if let Some(id) = id {
            self.dedup.remember(id, self.given, self.last_ms);
        }
        Ok(Verdict::New(self.given))
    }

    fn check_room(&mut self, retention: &Retention, publish: &Publish, memory: &Memory) -> Result<(), BrokerError> {
        let (Body::Data(data), Some(key)) = (&publish.body, &publish.key) else { return Ok(()) };
        let table = match &self.content {
            Content::Table(table) => Some(table),
            Content::Log(_) | Content::Nothing => None,
        };
        let has = |key: &str| table.is_some_and(|table| table.has(key));
        let (keys, others) = table.map_or((0, 0), |table| (table.keys(), table.payload() - table.payload_of(key)));
        let (given, is_new) = (&self.given_keys, !has(key) && !self.given_keys.contains(key));
        // Those under way are counted one by one only where that decides.
        let is_full = |given: usize| (keys + given) as u64 >= retention.messages;
        if is_new && is_full(given.len()) && is_full(given.beyond(has)) {
            return Err(BrokerError::Limit(format!("the channel has its {} keys (retention.messages)", retention.messages).into()));
        }
        if others + (key.len() + data.len()) as u64 > retention.bytes {
            return Err(BrokerError::Limit(format!("the channel has its {} bytes (retention.bytes)", retention.bytes).into()));
        }
        if memory.is_full() && (is_new || !memory.on_disk) {
            return Err(BrokerError::Limit("state channels fill their part of broker.memory".into()));
        }
        self.given_keys.add(key);
        Ok(())
    }

    /// The record of the offset given last will be at this place. Gives its link.
    pub(super) fn place(&mut self, kind: ChannelKind, place: Place) -> u64 {
        let before = std::mem::replace(&mut self.given_place, place);
        match &self.content {
            Content::Table(table) => table.floor,
            Content::Log(_) | Content::Nothing if kind == ChannelKind::State => 0,
            _ if self.given > self.top + 1 && group_of(self.given - 1) == group_of(self.given) => before.as_u64(),
            Content::Log(Log { groups: Some(groups), .. }) => groups.link(self.given).as_u64(),
            Content::Log(_) | Content::Nothing => Place::NOWHERE.as_u64(),
        }
    }

    /// Takes back the offset given last.
    pub(super) fn take_back(&mut self, id: Option<u128>) {
        self.given = self.given.saturating_sub(1).max(self.top);
        self.given_keys.clear();
        if let Some(id) = id {
            self.dedup.take_back(id);
        }
    }

    /// A message that was given its offset is as durable as promised: everybody may see it.
    pub(super) fn commit(&mut self, terms: &Terms, publication: &Arc<Publication>, time_ms: u64, written: Option<(Place, Record<'_>)>) {
        if publication.position.is_some_and(|position| position.epoch != self.epoch) {
            return; // The channel has begun another life since the message was given its offset.
        }
        self.top = publication.offset();
        if terms.kind == ChannelKind::State {
            if let (Some(key), Body::Data(_)) = (&publication.key, &publication.body) {
                self.given_keys.shown(key);
            }
            let (place, disk) = written.map_or((Place::NOWHERE, 0), |(place, record)| (place, record.len() as u32));
            let entry = Entry {
                key: publication.key.as_deref().unwrap_or_default().into(),
                value: Some(publication.clone()),
                place,
                disk,
                payload: u32::try_from(payload(publication)).unwrap_or(u32::MAX),
                time_ms,
                deleted: publication.body == Body::Deleted,
            };
            self.table().set(publication.offset(), entry);
            return;
        }
        let top = self.top;
        let log = self.log(written.is_some());
        if log.is_empty(top - 1) {
            log.begin(top);
        }
        if let (Some(groups), Some((place, record))) = (&mut log.groups, &written) {
            groups.add(*place, record);
        }
        log.ring.push(publication.clone(), time_ms);
    }

    /// Takes in what was found when the log was opened.
    pub(super) fn found(&mut self, place: Place, record: &Record<'_>) {
        let epoch = Epoch::new(record.epoch);
        if epoch != self.epoch {
            self.begin_epoch(epoch);
        }
        self.last_ms = self.last_ms.max(record.time_ms);
        if record.offset >= self.top {
            (self.top, self.given) = (record.offset, record.offset);
            let age = std::time::Duration::from_secs(u64::from(record.keep_s));
            self.retention = Some(Retention { messages: u64::MAX, age, bytes: u64::MAX });
        }
        match record.kind {
            RecordKind::Log => {
                if let Some(groups) = &mut self.log(true).groups {
                    groups.add(place, record);
                }
            }
            RecordKind::Value | RecordKind::Deletion => self.found_entry(place, record),
            RecordKind::Top if record.link > 0 => self.table().raise_floor(record.link),
            RecordKind::Top | RecordKind::Generation => {}
        }
    }

    fn found_entry(&mut self, place: Place, record: &Record<'_>) {
        let entry = Entry {
            key: record.key.unwrap_or_default().into(),
            value: None,
            place,
            disk: record.len() as u32,
            payload: record.payload(),
            time_ms: record.time_ms,
            deleted: record.kind == RecordKind::Deletion,
        };
        let table = self.table();
        table.set(record.offset, entry);
        table.raise_floor(record.link);
    }

    /// The whole log was read: what is missing at its beginning had been let go.
    pub(super) fn found_all(&mut self) {
        let top = self.top;
        let Content::Log(log) = &mut self.content else { return };
        let Some(groups) = &mut log.groups else { return };
        let first = groups.first_whole(top);
        if first > top {
            groups.clear()
        } else {
            groups.drop_before(first)
        }
        log.begin(first);
    }

    /// Lets go of what the rule no longer keeps. Gives how many messages that were.
    pub(super) fn expire(&mut self, now_ms: u64) -> u64 {
        let (top, Some(retention)) = (self.top, &self.retention) else { return 0 };
        match &mut self.content {
            Content::Nothing => 0,
            Content::Log(log) => log.expire(top, retention, now_ms),
            Content::Table(table) => table.expire(retention, now_ms),
        }
    }

    /// The first message of a log that isn't too old is at this offset and from this time. Gives how many were before it.
    pub(super) fn trim(&mut self, first: u64, first_ms: Option<u64>) -> u64 {
        match &mut self.content {
            Content::Log(log) => log.trim(first.min(self.top + 1), first_ms),
            Content::Nothing | Content::Table(_) => 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match &self.content {
            Content::Nothing => true,
            Content::Log(log) => log.is_empty(self.top),
            Content::Table(table) => table.is_empty(),
        }
    }

    /// Bytes of the log that are needed. The last offset alone takes a record too.
    pub(super) fn disk(&self) -> u64 {
        const TOP_RECORD: u64 = 128;
        let content = match &self.content {
            Content::Log(Log { groups: Some(groups), .. }) => groups.disk(),
            Content::Table(table) => table.disk(),
            Content::Log(_) | Content::Nothing => 0,
        };
        if self.top > 0 { content + TOP_RECORD } else { 0 }
    }

    fn log(&mut self, on_disk: bool) -> &mut Log {
        if !matches!(self.content, Content::Log(_)) {
            self.content = Content::Log(Log::new(self.top, on_disk));
        }
        match &mut self.content {
            Content::Log(log) => log,
            Content::Nothing | Content::Table(_) => unreachable!("it was made a log"),
        }
    }

    fn table(&mut self) -> &mut Table {
        if !matches!(self.content, Content::Table(_)) {
            self.content = Content::Table(Table::new());
        }
        match &mut self.content {
            Content::Table(table) => table,
            Content::Nothing | Content::Log(_) => unreachable!("it was made a table"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_in_another_life_is_not_kept_in_this_one() {
        let retention = Retention { messages: 10, age: std::time::Duration::MAX, bytes: 1000 };
        let terms = Terms { kind: ChannelKind::Log, retention };
        let message = |epoch, offset| {
            let position = Some(Position { epoch: Epoch::new(epoch), offset });
            Arc::new(Publication::new(ChannelName::new("a").unwrap(), position, None, None, Body::Data(bytes::Bytes::new())))
        };
        let mut state = State::new(Epoch::new(1));
        state.commit(&terms, &message(1, 1), 0, None);
        assert_eq!((state.top, state.is_empty()), (1, false));
        state.begin_epoch(Epoch::new(2));
        state.commit(&terms, &message(1, 2), 0, None);
        assert_eq!((state.top, state.is_empty()), (0, true));
    }
}
