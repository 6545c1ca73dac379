//! The newest messages of a `log` channel, in memory: all there is of them without a log on disk, else a cache of its end.

use std::collections::VecDeque;
use std::sync::Arc;

use tidegate_core::{Body, MessageId, Publication};

/// Messages with consecutive offsets.
#[derive(Debug, Default)]
pub(super) struct Ring {
    entries: VecDeque<Entry>,
    payload: u64,
    cost: usize,
}

#[derive(Debug)]
struct Entry {
    publication: Arc<Publication>,
    time_ms: u64,
}

/// What a publication takes in memory: itself, and as much again for its encoded frame, which it keeps once somebody has read it.
pub(super) fn cost(publication: &Publication) -> usize {
    const STRUCT: usize = 192;
    2 * publication.cost() + STRUCT
}

/// Bytes of id, key and data: what retention counts.
pub(super) fn payload(publication: &Publication) -> u64 {
    let id = publication.id.as_ref().map_or(0, MessageId::len);
    let key = publication.key.as_ref().map_or(0, |key| key.len());
    let data = match &publication.body {
        Body::Data(data) => data.len(),
        Body::Deleted => 0,
    };
    (id + key + data) as u64
}

impl Ring {
    pub(super) fn push(&mut self, publication: Arc<Publication>, time_ms: u64) {
        self.payload += payload(&publication);
        self.cost += cost(&publication);
        self.entries.push_back(Entry { publication, time_ms });
    }

    pub(super) fn pop(&mut self) -> Option<Arc<Publication>> {
        let entry = self.entries.pop_front()?;
        self.payload -= payload(&entry.publication);
        self.cost -= cost(&entry.publication);
        if self.entries.is_empty() {
            // An idle channel keeps no buffer.
            self.entries = VecDeque::new();
        }
        Some(entry.publication)
    }

    /// Drops what is before this offset.
    pub(super) fn drop_before(&mut self, offset: u64) -> u64 {
        let mut dropped = 0;
        while self.first().is_some_and(|first| first < offset) {
            self.pop();
            dropped += 1;
        }
        dropped
    }

    /// The first offset.
    pub(super) fn first(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.publication.offset())
    }

    /// When the first message was published.
    pub(super) fn oldest_ms(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.time_ms)
    }

    pub(super) const fn payload(&self) -> u64 {
        self.payload
    }

    pub(super) const fn cost(&self) -> usize {
        self.cost
    }

    /// The messages from this offset on, with their times; it must not be before the first.
    pub(super) fn from(&self, offset: u64) -> impl Iterator<Item = (&Arc<Publication>, u64)> {
        let skip = self.first().map_or(0, |first| offset.saturating_sub(first));
        let skip = usize::try_from(skip).unwrap_or(usize::MAX).min(self.entries.len());
        self.entries.range(skip..).map(|entry| (&entry.publication, entry.time_ms))
    }
}
