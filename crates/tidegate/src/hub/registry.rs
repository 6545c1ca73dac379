//! Which channels have subscribers on this node: found by name, in shards.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use parking_lot::Mutex;
use tidegate_core::session::SubscriptionId;
use tidegate_core::{ChannelName, ChannelRule};

use super::crowd::{Crowd, Left, List, Member, Step};
use crate::connection::Port;

/// Shards: enough that two cores seldom meet.
const SHARDS: usize = 64;

/// The channels and their crowds. A shard's lock is held for the look alone, never while a crowd's list is copied.
#[derive(Debug)]
pub(crate) struct Registry {
    shards: Box<[Mutex<HashTable<Arc<Crowd>>>]>,
    hasher: RandomState,
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }

    /// Adds a subscriber. Gives the channel's name as all its subscribers may share it.
    pub(crate) fn join(&self, channel: &ChannelName, rule: &Arc<ChannelRule>, mut member: Member) -> ChannelName {
        loop {
            let crowd = self.find_or_begin(channel, rule);
            match crowd.join(member) {
                Ok(()) => return crowd.channel.clone(),
                Err(refused) => member = refused,
            }
        }
    }

    /// Takes a subscriber out. Says whether it was the channel's last.
    pub(crate) fn leave(&self, channel: &ChannelName, port: &Port, subscription: SubscriptionId) -> bool {
        let Some(crowd) = self.find(channel) else { return false };
        let (was_last, left) = crowd.leave(port, subscription);
        self.close(&crowd, left);
        was_last
    }

    /// The channel's crowd, if it has one. Whoever joins afterwards may join another, and has no claim to what was published before.
    pub(crate) fn find(&self, channel: &ChannelName) -> Option<Arc<Crowd>> {
        let hash = self.hash(channel);
        self.shard(hash).lock().find(hash, |crowd| crowd.channel == *channel).cloned()
    }

    /// Who is subscribed right now.
    pub(crate) fn members(&self, channel: &ChannelName) -> Arc<List> {
        self.find(channel).map(|crowd| crowd.members()).unwrap_or_default()
    }

    /// Whether anybody is subscribed.
    pub(crate) fn has_members(&self, channel: &ChannelName) -> bool {
        self.find(channel).is_some_and(|crowd| !crowd.is_empty())
    }

    /// The next step of the task that hands a channel's items out; `None` at its end.
    pub(crate) fn take(&self, crowd: &Arc<Crowd>) -> Option<Step> {
        crowd.take().map_err(|left| self.close(crowd, left)).ok()
    }

    /// The task of a channel is gone, and no other will come: nobody waits for it.
    pub(super) fn abandon(&self, crowd: &Arc<Crowd>) {
        let (pending, left) = crowd.abandon();
        // Without a lock: publishers are woken.
        drop(pending);
        self.close(crowd, left);
    }

    /// How many channels there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    fn find_or_begin(&self, channel: &ChannelName, rule: &Arc<ChannelRule>) -> Arc<Crowd> {
        let hash = self.hash(channel);
        let mut shard = self.shard(hash).lock();
        match shard.entry(hash, |crowd| crowd.channel == *channel, |crowd| self.hash(&crowd.channel)) {
            Entry::Occupied(found) => Arc::clone(found.get()),
            Entry::Vacant(place) => Arc::clone(place.insert(Arc::new(Crowd::new(channel.clone(), Arc::clone(rule)))).get()),
        }
    }

    /// Takes the crowd out if nothing was left, and nobody has joined since.
    fn close(&self, crowd: &Arc<Crowd>, left: Left) {
        if left == Left::Something {
            return;
        }
        let hash = self.hash(&crowd.channel);
        let mut shard = self.shard(hash).lock();
        if let Ok(found) = shard.find_entry(hash, |other| Arc::ptr_eq(other, crowd))
            && crowd.close()
        {
            found.remove();
        }
    }

    fn hash(&self, channel: &ChannelName) -> u64 {
        self.hasher.hash_one(channel)
    }

    /// By other bits than those that the table in it goes by.
    fn shard(&self, hash: u64) -> &Mutex<HashTable<Arc<Crowd>>> {
        &self.shards[(hash >> 32) as usize % SHARDS]
    }
}

#[cfg(test)]
mod tests;
