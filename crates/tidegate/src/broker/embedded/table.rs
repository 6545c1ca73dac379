//! What is kept of a `state` channel: the latest message of each key, and deletions for as long as deltas need them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tidegate_core::broker::Snapshot;
use tidegate_core::{ChannelName, Publication, Retention};

use super::files::Place;
use super::ring::cost;

/// Entries by offset and by key. Values stay until they are replaced or deleted, whatever their age: they are the state.
#[derive(Debug)]
pub(super) struct Table {
    offsets: HashMap<Arc<str>, u64>,
    entries: BTreeMap<u64, Entry>,
    deletions: BTreeMap<u64, u64>,
    /// Deltas from positions before this offset would miss a deletion.
    pub(super) floor: u64,
    payload: u64,
    disk: u64,
    fixed_cost: usize,
    value_cost: usize,
    /// The snapshot at the top, if one was taken since the last publish.
    pub(super) snapshot: Option<Arc<Snapshot>>,
}

/// The latest message of a key.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: Arc<str>,
    /// Not in memory: on disk at `place`.
    pub(super) value: Option<Arc<Publication>>,
    pub(super) place: Place,
    /// Bytes in the log.
    pub(super) disk: u32,
    /// Bytes of id, key and data.
    pub(super) payload: u32,
    pub(super) time_ms: u64,
    pub(super) deleted: bool,
}

impl Entry {
    /// [`Publication::cost`] without the publication at hand.
    pub(super) fn cost(&self, channel: &ChannelName) -> usize {
        const ENVELOPE: usize = 72;
        self.value.as_ref().map_or(ENVELOPE + channel.as_str().len() + self.payload as usize, |value| value.cost())
    }
}

/// What an entry takes in memory besides its key and value: a node in two maps.
const ENTRY_COST: usize = 176;

impl Table {
    pub(super) fn new() -> Self {
        Self {
            offsets: HashMap::new(),
            entries: BTreeMap::new(),
            deletions: BTreeMap::new(),
            floor: 0,
            payload: 0,
            disk: 0,
            fixed_cost: 0,
            value_cost: 0,
            snapshot: None,
        }
    }

    /// Whether the key has a value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.offsets.get(key).and_then(|offset| self.entries.get(offset)).is_some_and(|entry| !entry.deleted)
    }

    /// Bytes of id, key and data that the key has now.
    pub(super) fn payload_of(&self, key: &str) -> u64 {
        self.offsets.get(key).and_then(|offset| self.entries.get(offset)).map_or(0, |entry| u64::from(entry.payload))
    }

    /// Takes in the latest message of a key. What is older than the one there (found again when the log is opened) changes nothing.
    pub(super) fn set(&mut self, offset: u64, entry: Entry) {
        self.snapshot = None;
        if let Some(&there) = self.offsets.get(&entry.key) {
            if there > offset {
                return;
            }
            self.remove(there);
        }
        self.offsets.insert(entry.key.clone(), offset);
        if entry.deleted {
            self.deletions.insert(offset, entry.time_ms);
        }
        self.payload += u64::from(entry.payload);
        self.disk += u64::from(entry.disk);
        self.fixed_cost += entry.key.len() + ENTRY_COST;
        self.value_cost += entry.value.as_ref().map_or(0, |value| cost(value));
        self.entries.insert(offset, entry);
    }

    fn remove(&mut self, offset: u64) {
        let Some(entry) = self.entries.remove(&offset) else { return };
        self.offsets.remove(&entry.key);
        self.deletions.remove(&offset);
        self.payload -= u64::from(entry.payload);
        self.disk -= u64::from(entry.disk);
        self.fixed_cost -= entry.key.len() + ENTRY_COST;
        self.value_cost -= entry.value.as_ref().map_or(0, |value| cost(value));
    }

    /// Lets go of deletions that are too old or too many; deltas from before them are no longer possible. Gives how many.
    pub(super) fn expire(&mut self, retention: &Retention, now_ms: u64) -> u64 {
        let before_ms = now_ms.saturating_sub(u64::try_from(retention.age.as_millis()).unwrap_or(u64::MAX));
        let most = usize::try_from(retention.messages).unwrap_or(usize::MAX);
        let mut dropped = 0;
        while let Some((&offset, &time_ms)) = self.deletions.first_key_value()
            && (self.deletions.len() > most || time_ms < before_ms)
        {
            self.remove(offset);
            self.floor = self.floor.max(offset);
            dropped += 1;
        }
        dropped
    }

    /// Lets go of the deletions up to a floor that was found in the log.
    pub(super) fn raise_floor(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
        while let Some((&offset, _)) = self.deletions.first_key_value()
            && offset <= self.floor
        {
            self.remove(offset);
        }
    }

    /// The entries changed after this offset, deletions included, oldest first.
    pub(super) fn after(&self, offset: u64) -> impl Iterator<Item = (u64, &Entry)> {
        self.entries.range(offset.saturating_add(1)..).map(|(&offset, entry)| (offset, entry))
    }

    /// The offset before the entry that has this many before the end, itself counted; `None` if that is the end.
    pub(super) fn before_last(&self, count: u64) -> Option<u64> {
        let back = usize::try_from(count.checked_sub(1)?).unwrap_or(usize::MAX).min(self.entries.len().checked_sub(1)?);
        self.entries.keys().rev().nth(back).map(|offset| offset - 1)
    }

    /// The entry at this offset.
    pub(super) fn get(&self, offset: u64) -> Option<&Entry> {
        self.entries.get(&offset)
    }

    /// The record of this entry was written again.
    pub(super) fn moved(&mut self, offset: u64, place: Place) {
        if let Some(entry) = self.entries.get_mut(&offset) {
            entry.place = place;
        }
    }

    /// Keeps a value that was read from disk.
    pub(super) fn keep_value(&mut self, offset: u64, value: &Arc<Publication>) {
        if let Some(entry) = self.entries.get_mut(&offset)
            && entry.value.is_none()
        {
            entry.value = Some(value.clone());
            self.value_cost += cost(value);
        }
    }

    /// Lets go of all values: they are on disk.
    pub(super) fn drop_values(&mut self) {
        self.snapshot = None;
        self.entries.values_mut().for_each(|entry| entry.value = None);
        self.value_cost = 0;
    }

    /// Keys that have a value.
    pub(super) fn keys(&self) -> usize {
        self.entries.len() - self.deletions.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) const fn payload(&self) -> u64 {
        self.payload
    }

    pub(super) const fn disk(&self) -> u64 {
        self.disk
    }

    /// What keys and indexes take in memory.
    pub(super) const fn fixed_cost(&self) -> usize {
        self.fixed_cost
    }

    /// What the values in memory take.
    pub(super) const fn value_cost(&self) -> usize {
        self.value_cost
    }

    /// When the oldest entry was published.
    pub(super) fn oldest_ms(&self) -> u64 {
        self.entries.first_key_value().map_or(u64::MAX, |(_, entry)| entry.time_ms)
    }
}
