//! The message ids that a channel remembers, so that a repeat gets the position of the first.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

/// Ids by a keyed hash of 128 bits: a false match among ten thousand is less likely than a broken disk that nobody notices.
#[derive(Debug, Default)]
pub(super) struct Dedup {
    offsets: HashMap<u128, u64>,
    order: VecDeque<(u128, u64)>,
}

/// What a remembered id takes in memory.
pub(super) const ID_COST: usize = 88;

/// Makes the hashes; its keys are drawn per process, so nobody outside can make two ids collide.
#[derive(Debug, Default)]
pub(super) struct IdHasher(RandomState, RandomState);

impl IdHasher {
    pub(super) fn hash(&self, id: &str) -> u128 {
        u128::from(self.0.hash_one(id)) << 64 | u128::from(self.1.hash_one(id))
    }
}

impl Dedup {
    /// The offset that the id was published at.
    pub(super) fn find(&self, id: u128) -> Option<u64> {
        self.offsets.get(&id).copied()
    }

    /// Remembers an id that isn't yet.
    pub(super) fn remember(&mut self, id: u128, offset: u64, time_ms: u64) {
        if self.offsets.insert(id, offset).is_none() {
            self.order.push_back((id, time_ms));
        }
    }

    /// Forgets the one that was remembered last: its message was not written.
    pub(super) fn take_back(&mut self, id: u128) {
        self.offsets.remove(&id);
        if self.order.back().is_some_and(|&(last, _)| last == id) {
            self.order.pop_back();
        }
    }

    /// Forgets ids from before this time, and the oldest of more than `most`.
    pub(super) fn expire(&mut self, before_ms: u64, most: usize) {
        while self.order.len() > most || self.order.front().is_some_and(|&(_, time_ms)| time_ms < before_ms) {
            if let Some((id, _)) = self.order.pop_front() {
                self.offsets.remove(&id);
            }
        }
        if self.order.is_empty() && self.offsets.capacity() > 0 {
            *self = Self::default();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn cost(&self) -> usize {
        self.order.len() * ID_COST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_forgotten_by_age_and_by_number() {
        let (hasher, mut dedup) = (IdHasher::default(), Dedup::default());
        for number in 0..10u64 {
            dedup.remember(hasher.hash(&number.to_string()), number + 1, number * 100);
        }
        dedup.expire(250, 100);
        assert_eq!(dedup.find(hasher.hash("2")), None);
        assert_eq!(dedup.find(hasher.hash("3")), Some(4));
        dedup.expire(0, 2);
        assert_eq!((dedup.len(), dedup.find(hasher.hash("7")), dedup.find(hasher.hash("8"))), (2, None, Some(9)));
        dedup.take_back(hasher.hash("9"));
        assert_eq!(dedup.find(hasher.hash("9")), None);
        dedup.expire(u64::MAX, 2);
        assert_eq!((dedup.len(), dedup.cost()), (0, 0));
    }
}
