//! Counters of the embedded broker, as plain atomics: whoever exports metrics reads them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Everything counts up since the start unless it says "now".
#[derive(Debug, Default)]
pub struct EmbeddedStats {
    /// Messages that were given a position or, on `event` channels, fanned out.
    pub appends: AtomicU64,
    /// Publishes whose id was known already.
    pub duplicates: AtomicU64,
    /// Groups of messages that were written and synced together.
    pub batches: AtomicU64,
    /// Messages in the largest group.
    pub batch_messages_max: AtomicU64,
    /// Bytes appended to the log, what was moved included.
    pub bytes_written: AtomicU64,
    /// Bytes appended once more to save them from a file that was to go.
    pub bytes_moved: AtomicU64,
    /// Time spent in fdatasync, microseconds.
    pub sync_us_total: AtomicU64,
    /// The longest fdatasync, microseconds.
    pub sync_us_max: AtomicU64,
    /// Size of the log now.
    pub disk_bytes: AtomicU64,
    /// Messages dropped by a channel's retention.
    pub dropped_by_retention: AtomicU64,
    /// Messages dropped because `memory_bytes` is used up; without a log on disk, or when its index is full.
    pub dropped_by_memory: AtomicU64,
    /// Pages of history served from memory.
    pub cache_hits: AtomicU64,
    /// Pages of history and snapshots read from disk.
    pub cache_misses: AtomicU64,
    /// Writes, syncs and reads that failed.
    pub errors: AtomicU64,
    /// Channels known now.
    pub channels: AtomicU64,
    /// Bytes of recent messages in memory now.
    pub cache_bytes: AtomicU64,
}

impl EmbeddedStats {
    pub(super) fn count(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }

    pub(super) fn synced(&self, took: Duration, messages: usize, bytes: usize) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        Self::count(&self.batches, 1);
        Self::count(&self.bytes_written, bytes as u64);
        Self::count(&self.disk_bytes, bytes as u64);
        Self::count(&self.sync_us_total, took);
        self.sync_us_max.fetch_max(took, Ordering::Relaxed);
        self.batch_messages_max.fetch_max(messages as u64, Ordering::Relaxed);
    }
}
