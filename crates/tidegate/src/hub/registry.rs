//! Which sessions want which channel, and what has still to be handed to them: sharded lists that a fan-out walks without a lock.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_core::session::SubscriptionId;
use tidegate_core::{ChannelName, ChannelRule};
use tokio::sync::futures::OwnedNotified;
use tokio::sync::oneshot;

use super::pending::{Item, Items, Pending};
use crate::connection::Port;

/// Shards: enough that two cores seldom meet, few enough to be walked for a count.
const SHARDS: usize = 64;

/// Below this many members a list is searched; above it an index is kept. A search of 32 costs less than a hash.
const INDEX_FROM: usize = 32;

/// A subscriber.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) port: Arc<Port>,
    pub(crate) subscription: SubscriptionId,
    /// What the channel had been given when it joined: earlier items, though still pending, are not for it.
    since: u64,
}

impl Member {
    pub(crate) const fn new(port: Arc<Port>, subscription: SubscriptionId) -> Self {
        Self { port, subscription, since: 0 }
    }

    /// How many of the items that begin with number `first` it is too young for.
    pub(crate) fn skips(&self, first: u64) -> usize {
        usize::try_from(self.since.saturating_sub(first)).unwrap_or(usize::MAX)
    }

    fn key(&self) -> Key {
        Key::new(&self.port, self.subscription)
    }
}

/// A port's address, good as long as the member that holds the port is in the list, and the subscription. In half words: with the
/// member's place behind it an entry of the index has no padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key([u32; 3]);

impl Key {
    fn new(port: &Port, subscription: SubscriptionId) -> Self {
        let address = std::ptr::from_ref(port).addr() as u64;
        Self([(address >> 32) as u32, address as u32, subscription.0])
    }
}

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
    /// Items that the channel was given so far.
    given: u64,
    /// There as long as a task hands out what is in it. Boxed, since most channels are silent at most times.
    pending: Option<Box<Pending>>,
}

/// The beginning of a channel's fan-out.
#[derive(Debug)]
pub(crate) struct Begin {
    pub(crate) rule: Arc<ChannelRule>,
    /// Subscribers.
    pub(crate) members: usize,
}

/// A step of a channel's fan-out.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) rule: Arc<ChannelRule>,
    pub(crate) members: Arc<Vec<Member>>,
    pub(crate) items: Items,
    /// The number of the first item.
    pub(crate) first: u64,
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }

    /// Adds a subscriber. Gives the channel's name as all its subscribers may share it.
    pub(crate) fn join(&self, channel: &ChannelName, rule: &Arc<ChannelRule>, member: Member) -> ChannelName {
        let mut shard = self.shard(channel).lock();
        let entry = shard.entry(channel.clone());
        let name = entry.key().clone();
        entry.or_insert_with(|| Members::new(Arc::clone(rule))).join(member);
        name
    }

    /// Takes a subscriber out. Says whether it was the channel's last.
    pub(crate) fn leave(&self, channel: &ChannelName, port: &Port, subscription: SubscriptionId) -> bool {
        let mut shard = self.shard(channel).lock();
        let Some(members) = shard.get_mut(channel) else { return false };
        let gone = members.leave(Key::new(port, subscription));
        if !members.list.is_empty() {
            return false;
        }
        // Its task takes the channel out otherwise: a second one must not begin beside it.
        if members.pending.is_none() {
            shard.remove(channel);
        }
        gone
    }

    /// Who is subscribed right now.
    pub(crate) fn members(&self, channel: &ChannelName) -> Arc<Vec<Member>> {
        self.shard(channel).lock().get(channel).map(|members| Arc::clone(&members.list)).unwrap_or_default()
    }

    /// Whether anybody is subscribed.
    pub(crate) fn has_members(&self, channel: &ChannelName) -> bool {
        self.shard(channel).lock().get(channel).is_some_and(|members| !members.list.is_empty())
    }

    /// Whether this subscriber has not left.
    pub(crate) fn has(&self, channel: &ChannelName, member: &Member) -> bool {
        self.shard(channel).lock().get(channel).is_some_and(|members| members.has(member.key()))
    }

    /// Gives a channel something for its subscribers, and says if somebody has to begin handing it out.
    pub(crate) fn put(&self, channel: &ChannelName, item: Item) -> Option<Begin> {
        let mut shard = self.shard(channel).lock();
        let members = shard.get_mut(channel).filter(|members| !members.list.is_empty())?;
        members.given += 1;
        let begins = members.pending.is_none().then(|| Begin { rule: Arc::clone(&members.rule), members: members.list.len() });
        members.pending.get_or_insert_default().put(item);
        begins
    }

    /// The end of a wait until what is pending fills a batch; `None` where nothing is worth waiting for.
    pub(crate) fn wait_for_batch(&self, channel: &ChannelName) -> Option<OwnedNotified> {
        self.shard(channel).lock().get_mut(channel)?.pending.as_mut()?.wait_for_batch()
    }

    /// Whether more is pending than what was last taken.
    pub(crate) fn has_pending(&self, channel: &ChannelName) -> bool {
        self.shard(channel).lock().get(channel).is_some_and(|members| members.pending.as_ref().is_some_and(|pending| pending.len() > 0))
    }

    /// Whether more than `most` of the items given so far are not yet handed out.
    pub(crate) fn is_behind(&self, channel: &ChannelName, most: usize) -> bool {
        let shard = self.shard(channel).lock();
        shard.get(channel).and_then(|members| members.pending.as_ref()).is_some_and(|pending| pending.unfinished() > most)
    }

    /// The next step of the task that hands a channel's items out; `None` at its end.
    pub(crate) fn take(&self, channel: &ChannelName) -> Option<Step> {
        let mut shard = self.shard(channel).lock();
        let members = shard.get_mut(channel)?;
        let pending = members.pending.as_mut()?;
        let first = members.given.saturating_sub(pending.len() as u64);
        if let Some(items) = pending.take(first) {
            return Some(Step { rule: Arc::clone(&members.rule), members: Arc::clone(&members.list), items, first });
        }
        members.pending = None;
        if members.list.is_empty() {
            shard.remove(channel);
        }
        None
    }

    /// The task of a channel ended before its work did.
    pub(crate) fn interrupted(&self, channel: &ChannelName) {
        if let Some(pending) = self.shard(channel).lock().get_mut(channel).and_then(|members| members.pending.as_mut()) {
            pending.interrupted();
        }
    }

    /// Gives up what a channel has pending, and whoever waits for it: its task is gone, and no other will come.
    pub(super) fn abandon(&self, channel: &ChannelName) -> Option<Box<Pending>> {
        let mut shard = self.shard(channel).lock();
        let members = shard.get_mut(channel)?;
        let pending = members.pending.take();
        if members.list.is_empty() {
            shard.remove(channel);
        }
        pending
    }

    /// A wait until all but `most` of the items given so far are handed out, if they are not. What comes later does not prolong it.
    pub(crate) fn wait_for_pace(&self, channel: &ChannelName, most: usize) -> Option<oneshot::Receiver<()>> {
        let mut shard = self.shard(channel).lock();
        let members = shard.get_mut(channel)?;
        let pending = members.pending.as_mut()?;
        (pending.unfinished() > most).then(|| pending.wait_until(members.given.saturating_sub(most as u64)))
    }

    fn shard(&self, channel: &ChannelName) -> &Mutex<HashMap<ChannelName, Members>> {
        let hash = self.hasher.hash_one(channel);
        &self.shards[(hash >> 32) as usize % SHARDS]
    }
}

impl Members {
    fn new(rule: Arc<ChannelRule>) -> Self {
        Self { rule, list: Arc::default(), index: HashMap::new(), given: 0, pending: None }
    }

    fn join(&mut self, mut member: Member) {
        member.since = self.given;
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

    fn has(&self, key: Key) -> bool {
        if self.index.is_empty() { self.list.iter().any(|member| member.key() == key) } else { self.index.contains_key(&key) }
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

#[cfg(test)]
mod tests;
