//! The subscribers of one channel, and what they have still to be handed: whoever has something for them holds this, and looks for no name.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use smallvec::SmallVec;
use tidegate_core::session::SubscriptionId;
use tidegate_core::{ChannelName, ChannelRule};
use tokio::sync::futures::OwnedNotified;
use tokio::sync::oneshot;

use super::pending::{Item, Items, Pending};
use crate::connection::Port;

/// From this many members on an index is kept. A search of 32 costs less than a hash.
const INDEX_FROM: usize = 32;

/// Below this many it is let go: far enough down that a crowd that comes and goes does not make it again and again.
const INDEX_UNTIL: usize = INDEX_FROM / 2;

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

    pub(super) fn key(&self) -> Key {
        Key::new(&self.port, self.subscription)
    }
}

/// A port's address, good as long as the member that holds the port is in the list, and the subscription. In half words: with the
/// member's place behind it an entry of the index has no padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key([u32; 3]);

impl Key {
    pub(super) fn new(port: &Port, subscription: SubscriptionId) -> Self {
        let address = std::ptr::from_ref(port).addr() as u64;
        Self([(address >> 32) as u32, address as u32, subscription.0])
    }
}

/// Subscribers in no order. One alone, as on a user's own channel, lies in the list itself.
pub(crate) type List = SmallVec<[Member; 1]>;

/// A channel that somebody is subscribed to, or was until a moment ago.
#[derive(Debug)]
pub(crate) struct Crowd {
    /// The one copy of the name for all who are subscribed.
    pub(crate) channel: ChannelName,
    pub(crate) rule: Arc<ChannelRule>,
    state: Mutex<State>,
}

/// The list is an `Arc` that a fan-out clones and then walks unlocked. Whoever changes it meanwhile changes a copy; that is one
/// copy per fan-out at most, since the copy is nobody else's: leaving stays O(1), and 10,000 leaving at once stay linear.
#[derive(Debug, Default)]
struct State {
    list: Arc<List>,
    /// Boxed, since most channels have few subscribers.
    index: Option<Box<Index>>,
    /// Items that the channel was given so far.
    given: u64,
    /// There as long as a task hands out what is in it.
    pending: Option<Pending>,
    /// It is not among the channels any more: who wants to join has to look again.
    closed: bool,
}

/// Where each member is in the list.
#[derive(Debug)]
struct Index(HashMap<Key, u32>);

/// A step of a channel's fan-out.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) members: Arc<List>,
    pub(crate) items: Items,
    /// The number of the first item.
    pub(crate) first: u64,
}

/// What the end of something leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Subscribers, or a task that still hands out.
    Something,
    /// Nothing: the channel may go.
    Nothing,
}

impl Crowd {
    pub(super) fn new(channel: ChannelName, rule: Arc<ChannelRule>) -> Self {
        Self { channel, rule, state: Mutex::default() }
    }

    /// Adds a subscriber; gives it back if the channel has gone.
    pub(super) fn join(&self, member: Member) -> Result<(), Member> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(member);
        }
        state.join(member);
        Ok(())
    }

    /// Takes a subscriber out. Says whether it was the last, and what is left.
    pub(super) fn leave(&self, port: &Port, subscription: SubscriptionId) -> (bool, Left) {
        let mut state = self.state.lock();
        let was_there = state.leave(Key::new(port, subscription));
        (was_there && state.list.is_empty(), state.left())
    }

    /// Nobody joins it any more, unless somebody has. Says which.
    pub(super) fn close(&self) -> bool {
        let mut state = self.state.lock();
        state.closed = state.left() == Left::Nothing;
        state.closed
    }

    /// Who is subscribed right now.
    pub(crate) fn members(&self) -> Arc<List> {
        Arc::clone(&self.state.lock().list)
    }

    /// Whether nobody is subscribed.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().list.is_empty()
    }

    /// Whether this subscriber has not left.
    pub(crate) fn has(&self, member: &Member) -> bool {
        self.state.lock().has(member.key())
    }

    /// Gives the channel something for its subscribers; if somebody has to begin handing it out, says how many they are.
    pub(crate) fn put(&self, item: Item) -> Option<usize> {
        let mut state = self.state.lock();
        let members = state.list.len();
        if members == 0 {
            return None;
        }
        state.given += 1;
        let begins = state.pending.is_none().then_some(members);
        state.pending.get_or_insert_default().put(item);
        begins
    }

    /// The end of a wait until what is pending fills a batch; `None` where nothing is worth waiting for.
    pub(crate) fn wait_for_batch(&self) -> Option<OwnedNotified> {
        self.state.lock().pending.as_mut()?.wait_for_batch()
    }

    /// Whether more is pending than what was last taken.
    pub(crate) fn has_pending(&self) -> bool {
        self.state.lock().pending.as_ref().is_some_and(|pending| pending.len() > 0)
    }

    /// Whether more than `most` of the items given so far are not yet handed out.
    pub(crate) fn is_behind(&self, most: usize) -> bool {
        self.state.lock().pending.as_ref().is_some_and(|pending| pending.unfinished() > most)
    }

    /// The next step of the task that hands the channel's items out; at its end, what is left.
    pub(super) fn take(&self) -> Result<Step, Left> {
        let mut state = self.state.lock();
        let State { list, given, pending, .. } = &mut *state;
        if let Some(pending) = pending {
            let first = given.saturating_sub(pending.len() as u64);
            if let Some(items) = pending.take(first) {
                return Ok(Step { members: Arc::clone(list), items, first });
            }
        }
        state.pending = None;
        Err(state.left())
    }

    /// The task ended before its work did.
    pub(crate) fn interrupted(&self) {
        if let Some(pending) = &mut self.state.lock().pending {
            pending.interrupted();
        }
    }

    /// Gives up what is pending, and whoever waits for it: the task is gone, and no other will come.
    pub(super) fn abandon(&self) -> (Option<Pending>, Left) {
        let mut state = self.state.lock();
        (state.pending.take(), state.left())
    }

    /// A wait until all but `most` of the items given so far are handed out, if they are not. What comes later does not prolong it.
    pub(crate) fn wait_for_pace(&self, most: usize) -> Option<oneshot::Receiver<()>> {
        let mut state = self.state.lock();
        let given = state.given;
        let pending = state.pending.as_mut()?;
        (pending.unfinished() > most).then(|| pending.wait_until(given.saturating_sub(most as u64)))
    }
}

impl State {
    fn left(&self) -> Left {
        if self.list.is_empty() && self.pending.is_none() { Left::Nothing } else { Left::Something }
    }

    fn join(&mut self, mut member: Member) {
        member.since = self.given;
        let list = Arc::make_mut(&mut self.list);
        let at = u32::try_from(list.len()).unwrap_or(u32::MAX);
        if list.len() >= INDEX_FROM && self.index.is_none() {
            let index = (0u32..).zip(list.iter()).map(|(at, member)| (member.key(), at)).collect();
            self.index = Some(Box::new(Index(index)));
        }
        if let Some(index) = &mut self.index {
            index.0.insert(member.key(), at);
        }
        list.push(member);
    }

    fn has(&self, key: Key) -> bool {
        match &self.index {
            Some(index) => index.0.contains_key(&key),
            None => self.list.iter().any(|member| member.key() == key),
        }
    }

    fn leave(&mut self, key: Key) -> bool {
        let at = match &mut self.index {
            Some(index) => index.0.remove(&key).map(|at| at as usize),
            None => self.list.iter().position(|member| member.key() == key),
        };
        let Some(at) = at else { return false };
        let list = Arc::make_mut(&mut self.list);
        list.swap_remove(at);
        if let Some(index) = &mut self.index {
            if let Some(moved) = list.get(at) {
                index.0.insert(moved.key(), u32::try_from(at).unwrap_or(u32::MAX));
            }
            if is_spare(index.0.capacity(), list.len()) {
                index.0.shrink_to(list.len() * 2);
            }
        }
        if is_spare(list.capacity(), list.len()) {
            let mut smaller = List::with_capacity(list.len() * 2);
            smaller.extend(list.drain(..));
            *list = smaller;
        }
        if list.len() < INDEX_UNTIL {
            self.index = None;
        }
        true
    }
}

/// Whether most of a place for many is empty: half of what is used is then left free.
const fn is_spare(capacity: usize, used: usize) -> bool {
    capacity > INDEX_FROM && used * 4 < capacity
}
