//! All channels: found by name, counted, sampled, forgotten; and the epochs of those that begin.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};
use tidegate_core::broker::BrokerError;
use tidegate_core::{ChannelName, Epoch};

use super::channel::Channel;

const SHARDS: usize = 16;

/// The map of channels.
#[derive(Debug)]
pub(super) struct Channels {
    hasher: RandomState,
    shards: [RwLock<HashMap<ChannelName, Arc<Channel>>>; SHARDS],
    list: Mutex<Vec<Arc<Channel>>>,
    count: AtomicUsize,
    limit: usize,
    /// Drawn when the log began.
    log: AtomicU64,
    /// How often a channel was forgotten: one of that name that begins again must not seem to go on.
    generation: AtomicU64,
}

impl Channels {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            hasher: RandomState::new(),
            shards: Default::default(),
            list: Mutex::default(),
            count: AtomicUsize::new(0),
            limit,
            log: AtomicU64::new(0),
            generation: AtomicU64::new(0),
        }
    }

    pub(super) fn get(&self, name: &ChannelName) -> Option<Arc<Channel>> {
        self.shard(name).read().get(name).cloned()
    }

    /// The channel, begun if it isn't there yet.
    pub(super) fn get_or_begin(&self, name: &ChannelName) -> Result<Arc<Channel>, BrokerError> {
        match self.get(name) {
            Some(channel) => Ok(channel),
            None => self.insert(name, self.limit),
        }
    }

    /// The same for what is found in the log: the limit may have been higher when it was written.
    pub(super) fn get_or_restore(&self, name: &ChannelName) -> Result<Arc<Channel>, BrokerError> {
        match self.get(name) {
            Some(channel) => Ok(channel),
            None => self.insert(name, usize::MAX),
        }
    }

    fn insert(&self, name: &ChannelName, limit: usize) -> Result<Arc<Channel>, BrokerError> {
        let mut shard = self.shard(name).write();
        if let Some(channel) = shard.get(name) {
            return Ok(channel.clone());
        }
        if self.count.load(Ordering::Relaxed) >= limit {
            return Err(BrokerError::Limit(format!("there are {limit} channels already").into()));
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        let channel = Arc::new(Channel::new(name.clone(), self.epoch()));
        shard.insert(name.clone(), channel.clone());
        let mut list = self.list.lock();
        channel.index.store(list.len(), Ordering::Relaxed);
        list.push(channel.clone());
        Ok(channel)
    }

    /// Takes the channel out, if nothing has come to it: `still` is asked with the map locked. Epochs that begin from now on differ.
    pub(super) fn forget(&self, channel: &Arc<Channel>, still: impl FnOnce() -> bool) -> bool {
        let mut shard = self.shard(&channel.name).write();
        if !still() {
            return false;
        }
        shard.remove(&channel.name);
        self.count.fetch_sub(1, Ordering::Relaxed);
        let mut list = self.list.lock();
        let index = channel.index.load(Ordering::Relaxed);
        list.swap_remove(index);
        if let Some(swapped) = list.get(index) {
            swapped.index.store(index, Ordering::Relaxed);
        }
        true
    }

    /// The epoch of a channel that begins now.
    pub(super) fn epoch(&self) -> Epoch {
        let mut number = self.log.load(Ordering::Acquire).wrapping_add(self.generation().wrapping_mul(0x9e37_79b9_7f4a_7c15));
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Epoch::new(number ^ (number >> 31))
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// From now on channels begin with another epoch.
    pub(super) fn next_generation(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// The log that epochs are made from, as it was begun or found.
    pub(super) fn begin(&self, log: u64, generation: u64) {
        self.log.store(log, Ordering::Release);
        self.generation.store(generation, Ordering::Release);
    }

    /// Calls it with each channel there is, with no lock held.
    pub(super) fn for_each(&self, mut call: impl FnMut(&Arc<Channel>)) {
        const AT_ONCE: usize = 1024;
        for from in (0..).step_by(AT_ONCE) {
            let some = self.slice(from, AT_ONCE);
            if some.is_empty() {
                return;
            }
            some.iter().for_each(&mut call);
        }
    }

    /// Up to so many channels, somewhere in the list.
    pub(super) fn sample(&self, most: usize, random: u64) -> Vec<Arc<Channel>> {
        let list = self.list.lock();
        let start = if list.is_empty() { 0 } else { (random % list.len() as u64) as usize };
        (0..most.min(list.len())).map(|step| list[(start + step) % list.len()].clone()).collect()
    }

    /// Up to so many channels from this index on.
    pub(super) fn slice(&self, from: usize, most: usize) -> Vec<Arc<Channel>> {
        self.list.lock().iter().skip(from).take(most).cloned().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn shard(&self, name: &ChannelName) -> &RwLock<HashMap<ChannelName, Arc<Channel>>> {
        &self.shards[self.hasher.hash_one(name) as usize % SHARDS]
    }
}
