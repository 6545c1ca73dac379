//! The one thread that writes the log: gathers what waits into a batch, syncs it, and only then shows it to anybody.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_core::broker::{BrokerError, Published};
use tidegate_core::{Body, ChannelKind, Position, Publication};
use tokio::sync::oneshot;

use super::channel::{Channel, Terms, Verdict};
use super::cleaner::{self, Cleaner, Moves};
use super::files::Place;
use super::queue::{Gather, Request};
use super::record::{BATCH_HEADER, Record, RecordKind};
use super::shared::Shared;
use super::stats::EmbeddedStats;
use super::store::Store;
use super::sweep::Sweep;

type Answer = oneshot::Sender<Result<Published, BrokerError>>;

/// Time between looks at what has become too old.
const TICK: Duration = Duration::from_millis(500);
/// The part of a sync's time that is spent on gathering the next batch, at most.
const GATHER_PART: u32 = 8;
/// A buffer that one large batch made larger than this is not kept.
const BUFFER_KEPT: usize = 1024 * 1024;

/// Owns the store.
pub(super) struct Writer {
    shared: Arc<Shared>,
    store: Store,
    cleaner: Cleaner,
    sweep: Sweep,
    batch: Vec<u8>,
    /// The generation that the log on disk knows.
    generation: u64,
    /// The last write failed: nothing is moved until one succeeds, and space is worth more.
    failing: bool,
    gather: Gather,
}

/// A message that was given its offset and is in the batch.
struct Given {
    channel: Arc<Channel>,
    terms: Terms,
    publication: Publication,
    id: Option<u128>,
    time_ms: u64,
    place: Place,
    link: u64,
    answer: Answer,
}

/// A batch while it is made.
#[derive(Default)]
struct Batch {
    given: Vec<Given>,
    /// Repeats of messages in this very batch.
    repeats: Vec<(Answer, Published)>,
    records: usize,
}

/// What became of a request.
enum Outcome {
    Given { channel: Arc<Channel>, position: Position, time_ms: u64, place: Place, link: u64 },
    Repeat { published: Published, shown: bool },
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, store: Store) -> Self {
        let generation = shared.channels.generation();
        Self {
            shared,
            store,
            cleaner: Cleaner::default(),
            sweep: Sweep::default(),
            batch: Vec::new(),
            generation,
            failing: false,
            gather: Gather::default(),
        }
    }

    /// Runs until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let (mut requests, mut swept) = (Vec::new(), Instant::now());
        while self.shared.queue.take(&mut requests, TICK, self.gather) {
            let room = requests.iter().map(|request| request.room as usize).sum();
            if !requests.is_empty() || self.wants_batch() {
                self.batch(&mut requests);
            }
            self.shared.queue.release(room);
            if swept.elapsed() >= TICK {
                self.sweep.step(&self.shared);
                swept = Instant::now();
            }
            while self.shared.queue.is_empty() && !self.failing && cleaner::is_worth_it(&self.store, &self.shared.memory, false) {
                if !self.batch(&mut requests) {
                    break;
                }
            }
        }
    }

    fn wants_batch(&self) -> bool {
        self.generation != self.shared.channels.generation() || cleaner::is_worth_it(&self.store, &self.shared.memory, self.failing)
    }

    /// Writes what was asked for and a step of cleaning. Says whether it could.
    fn batch(&mut self, requests: &mut Vec<Request>) -> bool {
        match self.begin() {
            Ok(start) => {
                let mut batch = Batch::default();
                for request in requests.drain(..) {
                    self.give(&mut batch, request, start);
                }
                self.write(batch, start)
            }
            Err(error) => {
                let error = self.failed(&error);
                requests.drain(..).for_each(|request| drop(request.answer.send(Err(error.clone()))));
                false
            }
        }
    }

    fn begin(&mut self) -> io::Result<Place> {
        if !self.store.is_there() {
            self.start_over()?;
        }
        let start = self.store.prepare(self.shared.channels.generation())?;
        self.batch.clear();
        self.batch.resize(BATCH_HEADER, 0);
        Ok(start)
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

    /// Gives a message its offset and puts it into the batch, or answers at once what can be.
    fn give(&mut self, batch: &mut Batch, request: Request, start: Place) {
        match self.try_give(batch, &request, start) {
            Ok(Outcome::Given { channel, position, time_ms, place, link }) => {
                let Request { terms, publish, id, answer, .. } = request;
                let publication = Publication::new(channel.name.clone(), Some(position), publish.message_id, publish.key, publish.body);
                record(&terms, &publication, time_ms, link).encode(&mut self.batch);
                batch.records += 1;
                batch.given.push(Given { channel, terms, publication, id, time_ms, place, link, answer });
            }
            Ok(Outcome::Repeat { published, shown }) => {
                EmbeddedStats::count(&self.shared.stats.duplicates, 1);
                if shown {
                    request.answer.send(Ok(published)).ok();
                } else {
                    batch.repeats.push((request.answer, published));
                }
            }
            Err(error) => drop(request.answer.send(Err(error))),
        }
    }

    fn try_give(&self, batch: &Batch, request: &Request, start: Place) -> Result<Outcome, BrokerError> {
        let channel = match batch.given.last() {
            Some(last) if last.channel.name == request.publish.channel => last.channel.clone(),
            _ => self.shared.channels.get_or_begin(&request.publish.channel)?,
        };
        let (mut state, verdict) = self.shared.give(&channel, &request.terms, &request.publish, request.id)?;
        match verdict {
            Verdict::New(offset) => {
                let place = start.plus((self.batch.len() - BATCH_HEADER) as u32);
                let link = state.place(request.terms.kind, place);
                let (position, time_ms) = (state.position(offset), state.last_ms);
                drop(state);
                Ok(Outcome::Given { channel, position, time_ms, place, link })
            }
            Verdict::Repeat(offset) => {
                let published = Published { position: Some(state.position(offset)), duplicate: true };
                Ok(Outcome::Repeat { published, shown: offset <= state.top })
            }
            // This very thread forgets channels, so it can't happen in between.
            Verdict::Gone => Err(BrokerError::Unavailable("the channel was forgotten".into())),
        }
    }

    fn write(&mut self, mut batch: Batch, start: Place) -> bool {
        let generation = self.shared.channels.generation();
        if generation != self.generation {
            generation_record(generation).encode(&mut self.batch);
            batch.records += 1;
        }
        let moves = self.moves(start, batch.given.is_empty());
        let records = batch.records + moves.as_ref().map_or(0, |moves| moves.records);
        if records > 0 {
            match self.store.append(&mut self.batch, records) {
                Ok(took) => self.gather = Gather { messages: batch.given.len(), at_most: took / GATHER_PART },
                Err(error) => {
                    let error = self.failed(&error);
                    self.take_back(batch, &error);
                    return false;
                }
            }
        }
        (self.failing, self.generation) = (self.failing && records == 0, generation);
        if self.batch.capacity() > BUFFER_KEPT {
            self.batch = Vec::new();
        }
        self.show(batch);
        moves.is_none_or(|moves| self.moved(moves))
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

    fn moved(&mut self, moves: Moves) -> bool {
        let Some(segment) = self.cleaner.done(moves, &self.shared.memory) else { return true };
        self.store.drop_oldest(segment).inspect_err(|error| drop(self.failed(error))).is_ok()
    }

    /// Makes everything in a synced batch visible, in order.
    fn show(&self, batch: Batch) {
        EmbeddedStats::count(&self.shared.stats.appends, batch.given.len() as u64);
        for Given { channel, terms, publication, time_ms, place, link, answer, .. } in batch.given {
            let publication = Arc::new(publication);
            let written = record(&terms, &publication, time_ms, link);
            self.shared.commit(&channel, &terms, &publication, time_ms, Some((place, written)));
            answer.send(Ok(Published { position: publication.position, duplicate: false })).ok();
        }
        for (answer, published) in batch.repeats {
            answer.send(Ok(published)).ok();
        }
        self.shared.make_room();
    }

    /// Nothing in the batch counts: offsets and ids are free again.
    fn take_back(&self, batch: Batch, error: &BrokerError) {
        for given in batch.given.into_iter().rev() {
            let mut state = given.channel.state.lock();
            state.take_back(given.id);
            self.shared.memory.settle(&mut state);
            drop(state);
            given.answer.send(Err(error.clone())).ok();
        }
        for (answer, _) in batch.repeats {
            answer.send(Err(error.clone())).ok();
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

fn record<'a>(terms: &Terms, publication: &'a Publication, time_ms: u64, link: u64) -> Record<'a> {
    let (kind, data): (_, &[u8]) = match &publication.body {
        Body::Deleted => (RecordKind::Deletion, &[]),
        Body::Data(data) if terms.kind == ChannelKind::State => (RecordKind::Value, data),
        Body::Data(data) => (RecordKind::Log, data),
    };
    Record {
        kind,
        moved: false,
        keep_s: u32::try_from(terms.retention.age.as_secs()).unwrap_or(u32::MAX),
        epoch: publication.position.map_or(0, |position| position.epoch.as_u64()),
        offset: publication.offset(),
        time_ms,
        link,
        channel: publication.channel.as_str(),
        id: publication.id.as_deref(),
        key: publication.key.as_deref(),
        data,
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
        key: None,
        data: &[],
    }
}
