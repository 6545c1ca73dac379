//! What the embedded broker counts, as metrics.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::broker::embedded::EmbeddedStats;

/// Reads the broker's counters when they are asked for.
#[derive(Debug)]
pub(super) struct LogMetrics(pub(super) Arc<EmbeddedStats>);

impl Collector for LogMetrics {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let stats = &*self.0;
        for (name, help, value) in [
            ("log_append", "Messages given a position or fanned out", &stats.appends),
            ("log_batch", "Groups of messages synced together", &stats.batches),
            ("log_written_bytes", "Bytes appended to the log", &stats.bytes_written),
            ("log_moved_bytes", "Bytes appended again to free a file", &stats.bytes_moved),
            ("log_sync_microseconds", "Time spent in fdatasync", &stats.sync_us_total),
            ("log_dropped_by_retention", "Messages dropped by retention", &stats.dropped_by_retention),
            ("log_dropped_by_memory", "Messages dropped because memory was used up", &stats.dropped_by_memory),
            ("log_cache_hit", "Pages served from memory", &stats.cache_hits),
            ("log_cache_miss", "Pages and snapshots read from disk", &stats.cache_misses),
            ("log_error", "Writes, syncs and reads that failed", &stats.errors),
        ] {
            let counter = ConstCounter::new(read(value));
            counter.encode(out.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        for (name, help, value) in [
            ("log_batch_messages_max", "Messages in the largest group", &stats.batch_messages_max),
            ("log_sync_max_microseconds", "The longest fdatasync", &stats.sync_us_max),
            ("log_disk_bytes", "Size of the log", &stats.disk_bytes),
            ("log_channels", "Channels known", &stats.channels),
            ("log_cache_bytes", "Bytes of recent messages in memory", &stats.cache_bytes),
        ] {
            let gauge = ConstGauge::new(i64::try_from(read(value)).unwrap_or(i64::MAX));
            gauge.encode(out.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

fn read(value: &AtomicU64) -> u64 {
    value.load(Ordering::Relaxed)
}
