//! Which sessions want which channel: sharded lists that a fan-out walks without holding a lock.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_core::session::SubscriptionId;
use tidegate_core::{ChannelName, ChannelRule};

use crate::connection::{ConnectionId, Port};

/// Shards: enough that two cores seldom meet, few enough to be walked for a count.
const SHARDS: usize = 64;

/// Below this many members a list is searched; above it an index is kept. A search of 32 costs less than a hash.
const INDEX_FROM: usize = 32;

/// A subscriber.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) port: Arc<Port>,
    pub(crate) subscription: SubscriptionId,
}

impl Member {
    fn key(&self) -> Key {
        (self.port.id(), self.subscription)
    }
}

type Key = (ConnectionId, SubscriptionId);

/// The subscribers of every channel.
///
/// A list is an `Arc` that a fan-out clones and then walks unlocked. Whoever changes it meanwhile changes a copy; that is one
/// copy per fan-out at most, since the copy is nobody else's: leaving stays O(1), and 10,000 leaving at once stay linear.
#[derive(Debug)]
pub(crate) struct Registry {
    shards: Box<[Mutex<HashMap<ChannelName, Members>>]>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Members {
    rule: Arc<ChannelRule>,
    list: Arc<Vec<Member>>,
    index: HashMap<Key, u32>,
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }

    /// Adds a subscriber.
    pub(crate) fn join(&self, channel: &ChannelName, rule: &Arc<ChannelRule>, member: Member) {
        let mut shard = self.shard(channel).lock();
        match shard.get_mut(channel) {
            Some(members) => members.join(member),
            None => {
                let mut members = Members { rule: Arc::clone(rule), list: Arc::default(), index: HashMap::new() };
                members.join(member);
                shard.insert(channel.clone(), members);
            }
        }
    }

    /// Takes a subscriber out. Says whether it was the channel's last.
    pub(crate) fn leave(&self, channel: &ChannelName, connection: ConnectionId, subscription: SubscriptionId) -> bool {
        let mut shard = self.shard(channel).lock();
        let Some(members) = shard.get_mut(channel) else { return false };
        let gone = members.leave((connection, subscription));
        if members.list.is_empty() {
            shard.remove(channel);
            return gone;
        }
        false
    }

    /// Who is subscribed right now, and the channel's rule; `None` if nobody is.
    pub(crate) fn members(&self, channel: &ChannelName) -> Option<(Arc<ChannelRule>, Arc<Vec<Member>>)> {
        self.shard(channel).lock().get(channel).map(|members| (Arc::clone(&members.rule), Arc::clone(&members.list)))
    }

    /// Whether anybody is subscribed.
    pub(crate) fn has_members(&self, channel: &ChannelName) -> bool {
        self.shard(channel).lock().contains_key(channel)
    }

    fn shard(&self, channel: &ChannelName) -> &Mutex<HashMap<ChannelName, Members>> {
        let hash = self.hasher.hash_one(channel);
        &self.shards[(hash >> 32) as usize % SHARDS]
    }
}

impl Members {
    fn join(&mut self, member: Member) {
        let list = Arc::make_mut(&mut self.list);
        let at = u32::try_from(list.len()).unwrap_or(u32::MAX);
        if list.len() == INDEX_FROM {
            self.index = (0u32..).zip(list.iter()).map(|(at, member)| (member.key(), at)).collect();
        }
        if list.len() >= INDEX_FROM || !self.index.is_empty() {
            self.index.insert(member.key(), at);
        }
        list.push(member);
    }

    fn leave(&mut self, key: Key) -> bool {
        let at = if self.index.is_empty() {
            self.list.iter().position(|member| member.key() == key)
        } else {
            self.index.remove(&key).map(|at| at as usize)
        };
        let Some(at) = at else { return false };
        let list = Arc::make_mut(&mut self.list);
        list.swap_remove(at);
        if !self.index.is_empty()
            && let Some(moved) = list.get(at)
        {
            self.index.insert(moved.key(), u32::try_from(at).unwrap_or(u32::MAX));
        }
        if list.capacity() > INDEX_FROM && list.len() * 4 < list.capacity() {
            list.shrink_to(list.len() * 2);
            self.index.shrink_to(list.len() * 2);
        }
        true
    }
}
