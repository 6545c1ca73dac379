//! What is kept of a `log` channel: its newest messages in memory, and with a log on disk the index of all of them.

use std::sync::Arc;

use tidegate_core::broker::PageLimit;
use tidegate_core::{Publication, Retention};

use super::files::Place;
use super::groups::{GROUP, GROUP_COST, Group, Groups, group_of};
use super::ring::Ring;

/// The messages from `first` to the channel's top.
#[derive(Debug)]
pub(super) struct Log {
    /// The oldest offset kept; one past the top when nothing is.
    pub(super) first: u64,
    /// When that was published, if it is known.
    first_ms: Option<u64>,
    pub(super) ring: Ring,
    /// `None` without a log on disk.
    pub(super) groups: Option<Groups>,
}

/// A part of a log on disk that is to be read: one group's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    pub(super) group: Group,
    /// The offsets wanted.
    pub(super) from: u64,
    pub(super) to: u64,
}

/// Where a page's messages are.
pub(super) enum Source {
    Memory(Vec<Arc<Publication>>),
    Disk(Vec<Stretch>),
}

impl Log {
    /// A log whose first message is to be at this offset.
    pub(super) fn new(first: u64, on_disk: bool) -> Self {
        Self { first, first_ms: None, ring: Ring::default(), groups: on_disk.then(Groups::default) }
    }

    /// Lets go of what the rule does not keep. Gives how many messages that were.
    ///
    /// By count it is exact. Without a log on disk, or where the ring reaches back far enough, by age and bytes too; else they are
    /// taken group by group, and the reader skips what is too old in the first.
    pub(super) fn expire(&mut self, top: u64, retention: &Retention, now_ms: u64) -> u64 {
        let before_ms = now_ms.saturating_sub(u64::try_from(retention.age.as_millis()).unwrap_or(u64::MAX));
        let mut first = self.first.max((top + 1).saturating_sub(retention.messages));
        if let Some(groups) = &self.groups {
            first = first.max(groups.expired(before_ms, retention.bytes).min(top + 1));
        }
        if self.ring.first().is_some_and(|ring| ring <= first) {
            first = first.max(self.ring_expired(top, before_ms, retention.bytes));
        }
        self.drop_before(first)
    }

    /// The first offset that age and bytes leave, as the ring tells.
    fn ring_expired(&self, top: u64, before_ms: u64, bytes: u64) -> u64 {
        let mut left = self.ring.payload();
        for (publication, time_ms) in self.ring.from(0) {
            let too_much = left > bytes && publication.offset() < top;
            if time_ms >= before_ms && !too_much {
                return publication.offset();
            }
            left -= super::ring::payload(publication);
        }
        top + 1
    }

    /// Lets go of everything before this offset.
    pub(super) fn drop_before(&mut self, offset: u64) -> u64 {
        let dropped = offset.saturating_sub(self.first);
        if dropped > 0 {
            self.begin(offset);
            self.ring.drop_before(offset);
            if let Some(groups) = &mut self.groups {
                groups.drop_before(offset);
            }
        }
        dropped
    }

    /// Nothing is kept before this offset.
    pub(super) fn begin(&mut self, first: u64) {
        (self.first, self.first_ms) = (first, None);
    }

    /// The first group, if it may begin with messages from before this time: they have to be read to know which those are.
    pub(super) fn to_trim(&self, top: u64, before_ms: u64) -> Option<Stretch> {
        let in_doubt = self.groups.as_ref()?.begins_before(before_ms)
            && self.first_ms.is_none_or(|first_ms| first_ms < before_ms)
            && self.ring.first().is_none_or(|ring| ring > self.first);
        if self.is_empty(top) || !in_doubt {
            return None;
        }
        self.stretches(self.first, top.min((group_of(self.first) + 1) * GROUP)).into_iter().next()
    }

    /// The first message that isn't too old is at this offset and from this time. Gives how many were before it.
    pub(super) fn trim(&mut self, first: u64, first_ms: Option<u64>) -> u64 {
        let dropped = self.drop_before(first);
        if self.first == first {
            self.first_ms = first_ms;
        }
        dropped
    }

    /// Where the messages after `start` are, of which the page takes so many.
    pub(super) fn page(&self, start: u64, top: u64, limit: PageLimit) -> Source {
        let from = start + 1;
        if from > top || self.groups.is_none() || self.ring.first().is_some_and(|first| first <= from) {
            let mut page = Filling::new(limit);
            return Source::Memory(
                self.ring.from(from).map(|(publication, _)| publication.clone()).take_while(|p| page.takes(p)).collect(),
            );
        }
        let to = top.min(start.saturating_add(limit.messages.max(1) as u64));
        Source::Disk(self.stretches(from, to))
    }

    fn stretches(&self, from: u64, to: u64) -> Vec<Stretch> {
        let Some(groups) = &self.groups else { return Vec::new() };
        (group_of(from)..=group_of(to))
            .filter_map(|number| {
                let group = *groups.get(number)?;
                Some(Stretch { group, from: from.max(number * GROUP + 1), to: to.min((number + 1) * GROUP) })
            })
            .collect()
    }

    /// The kept part of the group that this offset is in, for moving it; `None` if the record at this place doesn't count.
    pub(super) fn movable(&self, offset: u64, place: Place, top: u64) -> Option<Stretch> {
        if !(self.first..=top).contains(&offset) {
            return None;
        }
        let number = group_of(offset);
        let group = *self.groups.as_ref()?.get(number)?;
        group.counts(offset, place).then(|| Stretch { group, from: self.first.max(number * GROUP + 1), to: top.min((number + 1) * GROUP) })
    }

    pub(super) fn is_empty(&self, top: u64) -> bool {
        self.first > top
    }

    /// What the index takes in memory.
    pub(super) fn index_cost(&self) -> usize {
        self.groups.as_ref().map_or(0, |groups| groups.len() * GROUP_COST)
    }
}

/// Counts what goes into a page: at least one message, then until a limit is reached.
pub(super) struct Filling {
    messages: usize,
    bytes: usize,
}

impl Filling {
    pub(super) fn new(limit: PageLimit) -> Self {
        Self { messages: limit.messages.max(1), bytes: limit.bytes.max(1) }
    }

    /// Whether the next message still goes in.
    pub(super) fn takes(&mut self, publication: &Publication) -> bool {
        if self.is_full() {
            return false;
        }
        self.take(publication.cost());
        true
    }

    /// A message of this cost goes in.
    pub(super) const fn take(&mut self, cost: usize) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(cost);
    }

    pub(super) const fn is_full(&self) -> bool {
        self.messages == 0 || self.bytes == 0
    }
}
