//! Which sessions want which channel: sharded lists that a fan-out walks without holding a lock.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_core::session::SubscriptionId;
use tidegate_core::{ChannelName, ChannelRule};

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
}

impl Member {
    fn key(&self) -> Key {
        (Arc::as_ptr(&self.port).addr(), self.subscription)
    }
}

/// A port's address, good as long as the member that holds the port is in the list: half the size of its id and padding.
type Key = (usize, SubscriptionId);

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
    pub(crate) fn leave(&self, channel: &ChannelName, port: &Port, subscription: SubscriptionId) -> bool {
        let mut shard = self.shard(channel).lock();
        let Some(members) = shard.get_mut(channel) else { return false };
        let gone = members.leave((std::ptr::from_ref(port).addr(), subscription));
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use tidegate_core::session::{Mode, Opening, Session};
    use tidegate_core::{ChannelKind, HistoryAccess, Moment, Overflow, Pattern, Retention};

    use super::*;
    use crate::admission::{Admission, AdmissionSettings};
    use crate::connection::{ConnectionId, Facts};

    fn port() -> Arc<Port> {
        let opening = Opening { mode: Mode::Raw, settings: Arc::default(), connection: "c".into(), identity: None, seed: 1 };
        let place = Arc::new(Admission::default()).enter(&AdmissionSettings::default(), None).unwrap();
        let facts = Facts { address: [127, 0, 0, 1].into(), opened: Moment::ZERO, hints: Default::default() };
        Arc::new(Port::new(ConnectionId::random(), facts, Session::new(Moment::ZERO, opening), place, true))
    }

    fn rule() -> Arc<ChannelRule> {
        let (kind, overflow) = (ChannelKind::Event, Overflow::DropOldest);
        let (retention, history) = (Retention::default(), HistoryAccess::default());
        Arc::new(ChannelRule { pattern: Pattern::new("**").unwrap(), kind, overflow, retention, history })
    }

    fn found(registry: &Registry, channel: &ChannelName) -> Vec<Key> {
        let mut keys: Vec<Key> =
            registry.members(channel).map(|(_, members)| members.iter().map(Member::key).collect()).unwrap_or_default();
        keys.sort_unstable();
        keys
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Whoever joins and leaves, also while a fan-out holds the list, a channel's members are those of a plain set.
        #[test]
        fn members_are_those_of_a_set(steps in proptest::collection::vec((any::<bool>(), 0u32..100, any::<bool>()), 0..600)) {
            let (registry, rule, port) = (Registry::new(), rule(), port());
            let channel = ChannelName::new("a:b").unwrap();
            let mut model = BTreeSet::new();
            let mut fan_out = None;
            for (joins, number, walks) in steps {
                let key = (Arc::as_ptr(&port).addr(), SubscriptionId(number));
                if joins && model.insert(key) {
                    registry.join(&channel, &rule, Member { port: Arc::clone(&port), subscription: SubscriptionId(number) });
                } else if !joins {
                    let was_last = model.remove(&key) && model.is_empty();
                    prop_assert_eq!(registry.leave(&channel, &port, SubscriptionId(number)), was_last);
                }
                prop_assert_eq!(found(&registry, &channel), model.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(registry.has_members(&channel), !model.is_empty());
                fan_out = if walks { registry.members(&channel) } else { fan_out };
            }
            drop(fan_out);
        }
    }

    /// 20,000 leave while fan-outs go on: linear, where a search of the list each time would take minutes.
    #[test]
    fn a_mass_exodus_is_linear() {
        let (registry, rule, port) = (Registry::new(), rule(), port());
        let channel = ChannelName::new("a").unwrap();
        for number in 0..20_000 {
            registry.join(&channel, &rule, Member { port: Arc::clone(&port), subscription: SubscriptionId(number) });
        }
        let begun = std::time::Instant::now();
        for number in 0..20_000 {
            let fan_out = if number % 100 == 0 { registry.members(&channel) } else { None };
            registry.leave(&channel, &port, SubscriptionId(number));
            drop(fan_out);
        }
        assert!(!registry.has_members(&channel));
        assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    }
}
