//! The embedded broker: one process's channels, in memory or with a log on disk that is synced before anything is acknowledged.
//!
//! ```text
//! publish ── queue (bounded) ── two writers in turns: batch, write, fdatasync ── line ── channel (index, newest messages) ── sink
//!                                  └─ cleaner: moves what is needed out of the oldest file ─┘
//! history, snapshot ── channel: in memory? ── else read from the files, on a blocking thread
//! ```
//!
//! # What it decides beyond the laws
//! - Offsets are dense, from 1 in each epoch.
//! - Values of `state` channels don't age: they are the state. `retention` bounds their number (`messages`) and `bytes` by refusing
//!   what would exceed them; `age` and `messages` bound how many deletions are kept for deltas.
//! - Deleting a key that is not there is a message like others.
//! - A rule of a `log` that says bytes or age may keep up to 32 messages more than it says; age is exact to whoever reads.
//! - A channel that is empty and idle for [`EmbeddedSettings::forget_after`] is forgotten; if it begins again, its epoch is another.
//! - A channel whose kind is changed by the configuration begins another epoch.
//!
//! # The log
//! One log for all channels rather than a store with keys: a batch of messages is one write and one fdatasync, and a write that fails
//! (a full disk) is cut off again, so that the next one can succeed without anything being opened anew. See the module `record` for its bytes.

mod batch;
mod blocks;
mod channel;
mod channels;
mod cleaner;
mod dedup;
mod files;
mod given_keys;
mod groups;
mod line;
mod log;
mod memory;
mod queue;
mod read;
mod reading;
mod record;
mod recovery;
mod request;
mod ring;
mod settings;
mod shared;
mod stats;
mod store;
mod sweep;
mod table;
mod terms;
mod turns;
mod view;
mod writer;

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tidegate_core::broker::{
    BoxFuture, Broker, BrokerError, Durability, Guarantees, HistoryError, Page, PageLimit, Published, Sequence, Sink, Snapshot,
};
use tidegate_core::message::{Publish, Since};
use tidegate_core::{ChannelKind, ChannelName, ChannelRule, Position};

use blocks::Blocks;
use files::Files;
use queue::Gather;
use request::Message;
pub use settings::{Clock, EmbeddedSettings, OpenError};
use shared::Shared;
pub use stats::EmbeddedStats;
use sweep::Sweep;
use terms::{Terms, check};
use turns::Writers;

/// Time between looks at what has become too old, without a log on disk.
const SWEEP: Duration = Duration::from_millis(500);

/// The broker. Dropping it writes what waits, and gives the directory free.
pub struct Embedded {
    shared: Arc<Shared>,
    /// What readers see of the log on disk.
    files: Option<Arc<ArcSwap<Files>>>,
    blocks: Arc<Blocks>,
    reads: tokio::sync::Semaphore,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Reads from disk at once. More would only wait for the same disk, and each holds a page in memory.
const READS: usize = 4;
/// The part of the memory that keeps what was read from disk: with the default some 10,000 messages, so that subscribers that come
/// back together need not be close together.
const BLOCKS_PART: usize = 16;

impl Embedded {
    /// Opens the log, or begins one. Reads all of it, which takes some three seconds for a gigabyte of small messages: not for an async
    /// thread.
    ///
    /// # Errors
    /// Another process has it open, it is damaged, or the operating system says no.
    pub fn open(settings: EmbeddedSettings) -> Result<Self, OpenError> {
        let stats = Arc::new(EmbeddedStats::default());
        match settings.durability {
            Durability::Bus => Err(OpenError::NoBus),
            Durability::Memory => {
                let shared = Arc::new(Shared::new(settings, stats, false));
                shared.channels.begin(rand::random(), 0);
                Self::start(shared, None, 1, sweep_until_closed)
            }
            Durability::Fsync => {
                let path = settings.path.clone().ok_or(OpenError::NoPath)?;
                let (segment_bytes, now_ms) = (settings.segment_bytes.clamp(SEGMENT_MIN, SEGMENT_MAX), settings.clock.now_ms());
                let shared = Arc::new(Shared::new(settings, stats.clone(), true));
                let mut channels = HashMap::new();
                let found = |place, record: &record::Record<'_>| shared.found(&mut channels, place, record, now_ms);
                let (store, generation) = recovery::open(&path, rand::random(), segment_bytes, stats, found)?;
                shared.channels.begin(store.log, generation);
                shared.found_all(now_ms);
                let files = store.files.clone();
                let writers = Arc::new(Writers::new(shared.clone(), store));
                Self::start(shared, Some(files), Writers::COUNT, move |_| writers.run())
            }
        }
    }

    fn start(
        shared: Arc<Shared>,
        files: Option<Arc<ArcSwap<Files>>>,
        threads: usize,
        run: impl Fn(&Shared) + Clone + Send + 'static,
    ) -> Result<Self, OpenError> {
        let blocks = Arc::new(Blocks::new(shared.settings.memory_bytes / BLOCKS_PART));
        let broker = Self { shared, files, blocks, reads: tokio::sync::Semaphore::new(READS), threads: Mutex::default() };
        for _ in 0..threads {
            let (closer, run) = (Closer(broker.shared.clone()), run.clone());
            let thread = thread::Builder::new()
                .name("tidegate-log".into())
                .spawn(move || run(&closer.0))
                .map_err(|error| OpenError::Io { path: "thread".into(), error })?;
            broker.threads.lock().push(thread);
        }
        Ok(broker)
    }

    /// What it has counted.
    pub fn stats(&self) -> &Arc<EmbeddedStats> {
        &self.shared.stats
    }

    /// Refuses further publishes, writes what waits, and closes the log. Blocks for about as long as the disk takes for one batch.
    pub fn close(&self) {
        self.shared.queue.close();
        let threads = std::mem::take(&mut *self.threads.lock());
        // From one of them, in a sink that let go of the broker: the other may be waiting for this one, and both end by themselves.
        if threads.iter().any(|thread| thread.thread().id() == thread::current().id()) {
            return;
        }
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the log had panicked");
            }
        }
    }

    async fn publish_one(&self, rule: &ChannelRule, publish: Publish) -> Result<Published, BrokerError> {
        check(rule.kind, &publish)?;
        let terms = Terms::of(rule);
        match self.is_on_disk(rule) {
            true => self.shared.queue.publish(terms, Message::new(publish, &self.shared)).await,
            false => self.publish_now(&terms, publish),
        }
    }

    async fn publish_piece(
        &self,
        sequence: &Arc<Sequence>,
        rule: &ChannelRule,
        publishes: Vec<Publish>,
    ) -> Vec<Result<Published, BrokerError>> {
        let terms = Terms::of(rule);
        if self.is_on_disk(rule) {
            return self.shared.queue.publish_all(terms, Message::all(publishes, &self.shared), sequence).await;
        }
        publishes
            .into_iter()
            .map(|publish| {
                if sequence.is_broken() {
                    return Err(Sequence::refusal());
                }
                check(rule.kind, &publish)?;
                self.publish_now(&terms, publish)
            })
            .collect()
    }

    /// Whether messages go to the log on disk, and so are answered by its thread.
    fn is_on_disk(&self, rule: &ChannelRule) -> bool {
        self.files.is_some() && rule.kind != ChannelKind::Event
    }

    fn publish_now(&self, terms: &Terms, publish: Publish) -> Result<Published, BrokerError> {
        let id = self.shared.hasher.of(&publish);
        match terms.kind {
            _ if self.shared.queue.is_closed() => Err(BrokerError::Closed),
            ChannelKind::Event => self.shared.publish_event(publish, id),
            ChannelKind::Log | ChannelKind::State => self.shared.publish_in_memory(terms, publish, id),
        }
    }

    fn subscribe_now(&self, rule: &ChannelRule, name: &ChannelName) -> Result<Option<Position>, BrokerError> {
        loop {
            let channel = self.shared.channels.get_or_begin(name)?;
            let mut state = channel.state.lock();
            if !state.forgotten {
                state.subscribed = true;
                return Ok((rule.kind != ChannelKind::Event).then(|| state.position(state.top)));
            }
        }
    }
}

/// The smallest segment: tests want small ones.
const SEGMENT_MIN: u32 = 4096;
/// The largest: one is read whole when the log is opened, and places in it are 32 bits.
const SEGMENT_MAX: u32 = 1024 * 1024 * 1024;

impl Broker for Embedded {
    fn guarantees(&self) -> Guarantees {
        let settings = &self.shared.settings;
        Guarantees { durability: settings.durability, dedup_window: settings.dedup_window, dedup_messages: settings.dedup_messages }
    }

    fn attach(&self, sink: Arc<dyn Sink>) {
        if self.shared.sink.set(sink).is_err() {
            tracing::error!("a second sink was attached; the first stays");
        }
    }

    fn publish<'a>(&'a self, rule: &'a ChannelRule, publish: Publish) -> BoxFuture<'a, Result<Published, BrokerError>> {
        Box::pin(self.publish_one(rule, publish))
    }

    fn publish_all<'a>(
        &'a self,
        sequence: &'a Arc<Sequence>,
        rule: &'a ChannelRule,
        publishes: Vec<Publish>,
    ) -> BoxFuture<'a, Vec<Result<Published, BrokerError>>> {
        Box::pin(self.publish_piece(sequence, rule, publishes))
    }

    fn subscribe<'a>(&'a self, rule: &'a ChannelRule, channel: &'a ChannelName) -> BoxFuture<'a, Result<Option<Position>, BrokerError>> {
        Box::pin(std::future::ready(self.subscribe_now(rule, channel)))
    }

    fn unsubscribe<'a>(&'a self, channel: &'a ChannelName) -> BoxFuture<'a, Result<(), BrokerError>> {
        if let Some(channel) = self.shared.channels.get(channel) {
            channel.state.lock().subscribed = false;
        }
        Box::pin(std::future::ready(Ok(())))
    }

    fn history<'a>(
        &'a self,
        rule: &'a ChannelRule,
        channel: &'a ChannelName,
        since: Since,
        limit: PageLimit,
    ) -> BoxFuture<'a, Result<Page, HistoryError>> {
        Box::pin(self.read_history(rule, channel, since, limit))
    }

    fn snapshot<'a>(&'a self, _rule: &'a ChannelRule, channel: &'a ChannelName) -> BoxFuture<'a, Result<Arc<Snapshot>, BrokerError>> {
        Box::pin(self.read_snapshot(channel))
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Embedded").field("settings", &self.shared.settings).finish_non_exhaustive()
    }
}

/// Closes the queue however its thread ends: a publish must not wait for one that panicked.
struct Closer(Arc<Shared>);

impl Drop for Closer {
    fn drop(&mut self) {
        self.0.queue.close();
        self.0.queue.drop_all();
    }
}

fn sweep_until_closed(shared: &Shared) {
    let mut sweep = Sweep::default();
    while shared.queue.take(&mut Vec::new(), SWEEP, Gather::default()) {
        sweep.step(shared);
    }
}
