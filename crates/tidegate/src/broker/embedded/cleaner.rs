//! Giving back disk space: the oldest segment is read through, what is still needed is written once more at the end, and the file goes.
//!
//! A message that is moved keeps its offset and time. Since segments go strictly from the oldest, whatever replaced or deleted a
//! message is always in the log for longer than the message itself: nothing comes back to life when the log is opened.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use tidegate_core::ChannelName;

use super::channel::{Channel, Content};
use super::channels::Channels;
use super::files::{Place, Reader};
use super::groups::group_of;
use super::log::Stretch;
use super::memory::Memory;
use super::read::places;
use super::record::{BATCH_HEADER, BatchHeader, Record, RecordKind, SEGMENT_HEADER};
use super::store::Store;

/// Bytes of the old segment that are looked at per batch: what is moved with it delays the batch by about a millisecond.
const STEP_BYTES: u32 = 256 * 1024;

/// Works through the oldest segment, a step per batch.
#[derive(Default)]
pub(super) struct Cleaner {
    under_way: Option<Pass>,
}

/// One segment's.
struct Pass {
    segment: u32,
    len: u32,
    /// How far it got.
    at: u32,
    /// Where the batch that `at` is in ends.
    batch_end: u32,
    /// Channels whose last offset was written again.
    tops: HashSet<ChannelName>,
}

/// What a step added to the batch, to be taken in once that is synced.
#[derive(Default)]
pub(super) struct Moves {
    groups: Vec<(Arc<Channel>, MovedGroup)>,
    entries: Vec<(Arc<Channel>, MovedEntry)>,
    tops: Vec<ChannelName>,
    pub(super) records: usize,
    at: u32,
    batch_end: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct MovedGroup {
    epoch: u64,
    number: u64,
    run: Place,
    run_len: u32,
    last: u64,
}

#[derive(Clone, Copy)]
struct MovedEntry {
    epoch: u64,
    offset: u64,
    from: Place,
    to: Place,
}

/// Whether the log takes more than twice what is needed, and two segments for what the newest ones will yet turn out to hold. With a
/// full disk, whether anything can be had at all.
pub(super) fn is_worth_it(store: &Store, memory: &Memory, disk_full: bool) -> bool {
    let total = store.stats.disk_bytes.load(std::sync::atomic::Ordering::Relaxed);
    let needed = memory.disk_needed();
    if disk_full { total > needed + needed / 8 } else { total > 2 * needed + 2 * u64::from(store.segment_bytes) }
}

impl Cleaner {
    /// Appends to the batch what a step has to save. `start` is where the first record of the batch will be.
    pub(super) fn step(&mut self, store: &Store, channels: &Channels, batch: &mut Vec<u8>, start: Place) -> io::Result<Option<Moves>> {
        let Some((segment, file)) = store.oldest() else { return Ok(None) };
        if self.under_way.as_ref().is_none_or(|pass| pass.segment != segment) {
            let len = u32::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
            let at = SEGMENT_HEADER as u32;
            self.under_way = Some(Pass { segment, len, at, batch_end: at, tops: HashSet::new() });
        }
        let Some(pass) = &self.under_way else { return Ok(None) };
        let mut step = Step {
            pass,
            channels,
            scan: Reader::forwards(store.files.load_full()),
            fetch: Reader::backwards(store.files.load_full()),
            moves: Moves { at: pass.at, batch_end: pass.batch_end, ..Moves::default() },
            batch,
            start,
        };
        step.run()?;
        Ok(Some(step.moves))
    }

    /// The batch with these moves is synced. Says whether the segment can go now.
    pub(super) fn done(&mut self, moves: Moves, memory: &Memory) -> Option<u32> {
        for (channel, moved) in moves.groups {
            let mut state = channel.state.lock();
            if state.epoch.as_u64() == moved.epoch
                && let Content::Log(log) = &mut state.content
                && let Some(groups) = &mut log.groups
            {
                groups.moved(moved.number, moved.run, moved.run_len, moved.last);
            }
            memory.settle(&mut state);
        }
        for (channel, moved) in moves.entries {
            let mut state = channel.state.lock();
            if state.epoch.as_u64() == moved.epoch
                && let Content::Table(table) = &mut state.content
                && table.get(moved.offset).is_some_and(|entry| entry.place == moved.from)
            {
                table.moved(moved.offset, moved.to);
            }
        }
        let pass = self.under_way.as_mut()?;
        (pass.at, pass.batch_end) = (moves.at, moves.batch_end);
        pass.tops.extend(moves.tops);
        (pass.at >= pass.len).then_some(pass.segment)
    }

    /// The log began anew.
    pub(super) fn reset(&mut self) {
        self.under_way = None;
    }
}

struct Step<'a> {
    pass: &'a Pass,
    channels: &'a Channels,
    scan: Reader,
    fetch: Reader,
    moves: Moves,
    batch: &'a mut Vec<u8>,
    start: Place,
}

/// What is to be done about a record.
enum Need {
    Nothing,
    Group(u64, Stretch),
    Entry { floor: u64 },
    Top { top: u64, floor: u64 },
}

impl Step<'_> {
    fn run(&mut self) -> io::Result<()> {
        let end = self.pass.len.min(self.pass.at.saturating_add(STEP_BYTES));
        while self.moves.at < end {
            let place = Place { segment: self.pass.segment, at: self.moves.at };
            if self.moves.at == self.moves.batch_end {
                let header = self.scan.bytes(place, BATCH_HEADER)?;
                let header = BatchHeader::decode(header).ok_or_else(|| super::files::damaged(place))?;
                self.moves.at += BATCH_HEADER as u32;
                self.moves.batch_end = self.moves.at + header.bytes;
                continue;
            }
            self.moves.at += self.record(place)?;
        }
        Ok(())
    }

    /// Looks at a record and gives its length.
    fn record(&mut self, place: Place) -> io::Result<u32> {
        let record = self.scan.record(place)?;
        let len = record.len() as u32;
        let Some(channel) = ChannelName::new(record.channel).ok().and_then(|name| self.channels.get(&name)) else { return Ok(len) };
        match need(&channel, &record, place) {
            Need::Nothing => {}
            Need::Group(number, stretch) => self.move_group(channel, number, &stretch)?,
            Need::Entry { floor } => {
                let moved = Record { moved: true, link: floor, ..record };
                let entry = MovedEntry { epoch: moved.epoch, offset: moved.offset, from: place, to: at(self.start, self.batch) };
                moved.encode(self.batch);
                self.moves.records += 1;
                self.moves.entries.push((channel, entry));
            }
            Need::Top { top, floor } => {
                if !self.pass.tops.contains(&channel.name) && !self.moves.tops.contains(&channel.name) {
                    let kept =
                        Record { kind: RecordKind::Top, offset: top, link: floor, id: None, drawn: false, key: None, data: &[], ..record };
                    kept.encode(self.batch);
                    self.moves.records += 1;
                    self.moves.tops.push(channel.name.clone());
                }
            }
        }
        Ok(len)
    }

    fn move_group(&mut self, channel: Arc<Channel>, number: u64, stretch: &Stretch) -> io::Result<()> {
        if self.moves.groups.iter().any(|(other, moved)| moved.number == number && Arc::ptr_eq(other, &channel)) {
            return Ok(());
        }
        let (run, before) = (at(self.start, self.batch), self.batch.len());
        let mut epoch = 0;
        for place in places(&mut self.fetch, stretch)? {
            let record = Record { moved: true, link: 0, ..self.fetch.record(place)? };
            epoch = record.epoch;
            record.encode(self.batch);
            self.moves.records += 1;
        }
        let run_len = (self.batch.len() - before) as u32;
        self.moves.groups.push((channel, MovedGroup { epoch, number, run, run_len, last: stretch.to }));
        Ok(())
    }
}

/// Where the next record of the batch will be.
fn at(start: Place, batch: &[u8]) -> Place {
    start.plus((batch.len() - BATCH_HEADER) as u32)
}

fn need(channel: &Channel, record: &Record<'_>, place: Place) -> Need {
    let state = channel.state.lock();
    if state.forgotten || state.epoch.as_u64() != record.epoch {
        return Need::Nothing;
    }
    let top = state.top;
    match &state.content {
        Content::Log(log) => match record.kind {
            RecordKind::Log if !log.is_empty(top) => {
                log.movable(record.offset, place, top).map_or(Need::Nothing, |stretch| Need::Group(group_of(record.offset), stretch))
            }
            _ if log.is_empty(top) => Need::Top { top, floor: 0 },
            _ => Need::Nothing,
        },
        Content::Table(table) => {
            let floor = table.floor;
            match table.get(record.offset) {
                Some(entry) if entry.place == place => Need::Entry { floor },
                // A later record of the channel may not say the floor yet.
                _ if floor > 0 || table.is_empty() => Need::Top { top, floor },
                _ => Need::Nothing,
            }
        }
        Content::Nothing => Need::Top { top, floor: 0 },
    }
}
