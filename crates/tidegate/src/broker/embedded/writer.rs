//! Writes the log: gathers what waits into a batch, gives each message its offset, and puts the batch in line to be synced.
//!
//! Whatever is more than appending (a new segment, cleaning, a repair) waits until nothing is under way, and is done alone.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_core::Publication;
use tidegate_core::broker::{BrokerError, Published, Sequence};

use super::batch::{Answer, Batch, Fate, Given, record};
use super::channel::Verdict;
use super::cleaner::{self, Cleaner, Moves};
use super::files::Place;
use super::line::{Failed, Line, Written};
use super::record::{BATCH_HEADER, Record, RecordKind};
use super::request::{Message, Request, Wish};
use super::shared::Shared;
use super::stats::EmbeddedStats;
use super::store::Store;
use super::sweep::Sweep;
use super::terms::{Terms, check};

/// Time between looks at what has become too old.
const TICK: Duration = Duration::from_millis(500);
/// A buffer that one large batch made larger than this is not kept.
const BUFFER_KEPT: usize = 1024 * 1024;

/// Owns the store.
pub(super) struct Writer {
    shared: Arc<Shared>,
    line: Arc<Line>,
    store: Store,
    cleaner: Cleaner,
    sweep: Sweep,
    swept: Instant,
    /// Empty between turns: the queue and this one exchange their buffers.
    requests: Vec<Request>,
    batch: Vec<u8>,
    /// The generation that the log on disk knows.
    generation: u64,
    /// The last write failed: nothing is moved until one succeeds, and space is worth more.
    failing: bool,
}

/// What came of a turn.
pub(super) enum Turn {
    /// There is a batch to sync.
    Written(Written),
    Done,
    /// The queue is closed and empty.
    Closed,
}

/// Where a batch begins in the log, and when.
#[derive(Clone, Copy)]
struct Moment {
    start: Place,
    now_ms: u64,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, line: Arc<Line>, store: Store) -> Self {
        let generation = shared.channels.generation();
        Self {
            shared,
            line,
            store,
            cleaner: Cleaner::default(),
            sweep: Sweep::default(),
            swept: Instant::now(),
            requests: Vec::new(),
            batch: Vec::new(),
            generation,
            failing: false,
        }
    }

    /// Writes the next batch, and looks after what else there is to do.
    pub(super) fn turn(&mut self) -> Turn {
        let is_open = self.shared.queue.take(&mut self.requests, TICK, self.line.gather());
        if self.line.is_abandoned() {
            return Turn::Closed;
        }
        if self.line.has_failed() || self.store.is_torn() {
            self.repair();
        }
        if !is_open {
            return Turn::Closed;
        }
        let is_wanted = !self.requests.is_empty() || self.wants_batch();
        let written = if is_wanted { self.batch() } else { None };
        if self.swept.elapsed() >= TICK {
            self.sweep.step(&self.shared);
            self.swept = Instant::now();
        }
        if let Some(written) = written {
            return Turn::Written(written);
        }
        while self.may_clean() {
            self.batch();
        }
        Turn::Done
    }

    fn may_clean(&self) -> bool {
        let is_idle = self.shared.queue.is_empty() && !self.failing && !self.line.is_abandoned();
        is_idle && cleaner::is_worth_it(&self.store, &self.shared.memory, false)
    }

    /// Takes back what failed, on the disk too: it was refused, and must not be there when the log is opened again, though nothing may
    /// be published before.
    fn repair(&mut self) {
        self.settle(None);
        if let Err(error) = self.store.repair() {
            self.failed(&error);
        }
    }

    fn wants_batch(&self) -> bool {
        self.generation != self.shared.channels.generation() || cleaner::is_worth_it(&self.store, &self.shared.memory, self.failing)
    }

    /// Writes what was asked for and a step of cleaning. Gives the batch if it is still to be synced.
    fn batch(&mut self) -> Option<Written> {
        let begun = self.begin();
        let mut requests = std::mem::take(&mut self.requests);
        let batch = match begun {
            Ok(start) => {
                let (mut batch, now_ms) = (Batch::for_requests(&requests), self.shared.settings.clock.now_ms());
                for request in requests.drain(..) {
                    self.take(&mut batch, request, Moment { start, now_ms });
                }
                Some((batch, start))
            }
            Err(error) => {
                let error = self.failed(&error);
                requests.drain(..).for_each(|request| request.refuse(&error));
                None
            }
        };
        self.requests = requests;
        batch.and_then(|(batch, start)| self.write(batch, start))
    }

    fn begin(&mut self) -> io::Result<Place> {
        let is_there = self.store.is_there();
        if !is_there || !self.store.is_ready() {
            self.settle(None);
        }
        if !is_there {
            self.start_over()?;
        }
        let start = self.store.prepare(self.shared.channels.generation())?;
        self.batch.clear();
        self.batch.resize(BATCH_HEADER, 0);
        Ok(start)
    }

    /// Waits until nothing is under way. If something failed, takes that back, the newest first, and before it the batch that was
    /// given since: else that is given back.
    fn settle(&mut self, newer: Option<Batch>) -> Option<Batch> {
        let Some(Failed { error, batches }) = self.line.wait() else { return newer };
        let error = self.failed(&error);
        if let Some(first) = batches.first() {
            self.store.take_back(&first.unsynced);
        }
        let older = batches.into_iter().rev().map(|written| written.batch);
        newer.into_iter().chain(older).for_each(|batch| batch.take_back(&self.shared, &error));
        None
    }

    /// The log was deleted under us: what was published is lost, and everybody is told by another epoch.
    fn start_over(&mut self) -> io::Result<()> {
        tracing::error!(path = %self.store.directory.display(), "the log was deleted while it was open; beginning anew");
        let log = rand::random();
        self.store.start_over(log)?;
        self.cleaner.reset();
        self.shared.lose_everything(log);
        Ok(())
    }

    /// Puts what is asked for into the batch, or answers at once what can be.
    fn take(&mut self, batch: &mut Batch, Request { terms, wish }: Request, moment: Moment) {
        let answer = match wish {
            Wish::One(message, answer) => Answer::One(self.give(batch, &terms, message, moment), answer),
            Wish::All(messages, sequence, answer) => {
                let fates = messages.into_iter().map(|message| self.give_in(&sequence, batch, &terms, message, moment)).collect();
                Answer::All(fates, sequence, answer)
            }
        };
        batch.answer(answer);
    }

    /// Gives a message its offset, unless one before it in its sequence failed.
    fn give_in(&mut self, sequence: &Sequence, batch: &mut Batch, terms: &Terms, message: Message, moment: Moment) -> Fate {
        if sequence.is_broken() {
            return Fate::Known(Err(Sequence::refusal()));
        }
        if let Err(error) = check(terms.kind, &message.publish) {
            return Fate::Known(Err(error));
        }
        let fate = self.give(batch, terms, message, moment);
        if let Fate::Known(Err(BrokerError::Unavailable(_))) = fate {
            sequence.break_off();
        }
        fate
    }

    /// Gives a message its offset and puts it into the batch.
    fn give(&mut self, batch: &mut Batch, terms: &Terms, message: Message, moment: Moment) -> Fate {
        self.try_give(batch, terms, message, moment).unwrap_or_else(|error| Fate::Known(Err(error)))
    }

    fn try_give(&mut self, batch: &mut Batch, terms: &Terms, message: Message, moment: Moment) -> Result<Fate, BrokerError> {
        let Message { publish, channel, id } = message;
        let channel = match channel {
            Some(channel) => channel,
            None => self.shared.channels.get_or_begin(&publish.channel)?,
        };
        let (mut state, verdict) = self.shared.give(&channel, terms, &publish, id, moment.now_ms)?;
        match verdict {
            Verdict::New(offset) => {
                let place = moment.start.plus((self.batch.len() - BATCH_HEADER) as u32);
                let link = state.place(terms.kind, place);
                let (position, time_ms) = (Some(state.position(offset)), state.last_ms);
                drop(state);
                let publication = Publication::new(channel.name.clone(), position, publish.message_id, publish.key, publish.body);
                let publication = Arc::new(publication);
                record(terms, &publication, time_ms, link).encode(&mut self.batch);
                batch.records += 1;
                batch.given.push(Given { channel, terms: *terms, publication, id, time_ms, place, link });
                Ok(Fate::Written(Published { position, duplicate: false }))
            }
            Verdict::Repeat(offset) => {
                EmbeddedStats::count(&self.shared.stats.duplicates, 1);
                let published = Published { position: Some(state.position(offset)), duplicate: true };
                Ok(if offset <= state.top { Fate::Known(Ok(published)) } else { Fate::Written(published) })
            }
            Verdict::Gone => {
                // Since its publisher looked. Only this very thread forgets channels, so the one it gets now is there.
                drop(state);
                self.try_give(batch, terms, Message { publish, channel: None, id }, moment)
            }
        }
    }

    fn write(&mut self, batch: Batch, start: Place) -> Option<Written> {
        // A batch that writes nothing may yet answer repeats of what is under way.
        let is_alone = self.failing || batch.records == 0 || self.wants_batch();
        let mut batch = if is_alone { self.settle(Some(batch))? } else { batch };
        let generation = self.shared.channels.generation();
        if generation != self.generation {
            generation_record(generation).encode(&mut self.batch);
            batch.records += 1;
        }
        let moves = if is_alone { self.moves(start, batch.given.is_empty()) } else { None };
        let records = batch.records + moves.as_ref().map_or(0, |moves| moves.records);
        if records == 0 {
            batch.show(&self.shared);
        } else {
            let written = self.put(batch, records)?;
            if !is_alone {
                return Some(written);
            }
            let synced = written.unsynced.sync();
            if !self.line.end(written, synced, &self.shared) {
                self.repair();
                return None;
            }
        }
        (self.failing, self.generation) = (self.failing && records == 0, generation);
        if let Some(moves) = moves {
            self.moved(moves);
        }
        None
    }

    /// Writes the batch, and puts it in line.
    fn put(&mut self, batch: Batch, records: usize) -> Option<Written> {
        let written = self.store.write(&mut self.batch, records, !self.line.is_empty());
        if self.batch.capacity() > BUFFER_KEPT {
            self.batch = Vec::new();
        }
        match written {
            Ok(unsynced) => Some(self.line.begin(batch, unsynced)),
            Err(error) => {
                let error = self.failed(&error);
                batch.take_back(&self.shared, &error);
                None
            }
        }
    }

    /// What a step of cleaning adds to the batch, where it is time for one.
    fn moves(&mut self, start: Place, nothing_else: bool) -> Option<Moves> {
        if !cleaner::is_worth_it(&self.store, &self.shared.memory, self.failing) || (self.failing && !nothing_else) {
            return None;
        }
        let before = self.batch.len();
        let step = self.cleaner.step(&self.store, &self.shared.channels, &mut self.batch, start);
        EmbeddedStats::count(&self.shared.stats.bytes_moved, (self.batch.len() - before) as u64);
        step.unwrap_or_else(|error| {
            self.batch.truncate(before);
            self.failed(&error);
            None
        })
    }

    fn moved(&mut self, moves: Moves) {
        if let Some(segment) = self.cleaner.done(moves, &self.shared.memory)
            && let Err(error) = self.store.drop_oldest(segment)
        {
            self.failed(&error);
        }
    }

    fn failed(&mut self, error: &io::Error) -> BrokerError {
        EmbeddedStats::count(&self.shared.stats.errors, 1);
        if !self.failing {
            tracing::error!(path = %self.store.directory.display(), %error, "the log can't be written; publishes are refused until it can");
        }
        self.failing = true;
        BrokerError::Unavailable(format!("the log in {} can't be written: {error}", self.store.directory.display()).into())
    }
}

const fn generation_record(generation: u64) -> Record<'static> {
    Record {
        kind: RecordKind::Generation,
        moved: false,
        keep_s: 0,
        epoch: 0,
        offset: generation,
        time_ms: 0,
        link: 0,
        channel: "",
        id: None,
        drawn: false,
        key: None,
        data: &[],
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
