//! The index of a `log` channel on disk: one entry for 32 messages, two bytes a message.
//!
//! Messages of all channels are written in one log as they come. Each record says where the one before it in its group is, so the
//! index only needs to know each group's last record, its *head*, and a page is read group by group, back from the head. A group that
//! was moved out of a segment that had to go is a *run*: its records one after the other. What comes after that is a chain again.

use std::collections::VecDeque;

use super::files::Place;
use super::record::Record;

/// Messages in a group. More would make the index smaller and the reading of single messages longer.
pub(super) const GROUP: u64 = 32;
/// What a group takes in memory.
pub(super) const GROUP_COST: usize = size_of::<Group>();

/// Messages with consecutive offsets, the first of them ≡ 1 mod [`GROUP`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    /// Which offsets there are, a bit each.
    present: u32,
    /// The last record written in the order of offsets; nowhere if the run has all.
    pub(super) head: Place,
    /// The first record of the run, or nowhere.
    pub(super) run: Place,
    /// Bytes of the run.
    pub(super) run_len: u32,
    /// The last offset in the run; 0 without one.
    pub(super) run_last: u64,
    /// Bytes in the log, each message counted once.
    disk: u32,
    /// Bytes of ids, keys and data.
    payload: u32,
    first_ms: u64,
    last_ms: u64,
}

const EMPTY: Group = Group {
    present: 0,
    head: Place::NOWHERE,
    run: Place::NOWHERE,
    run_len: 0,
    run_last: 0,
    disk: 0,
    payload: 0,
    first_ms: u64::MAX,
    last_ms: 0,
};

/// The groups of a channel, oldest first and without a hole between them.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: VecDeque<Group>,
    /// The number of the first group.
    base: u64,
    payload: u64,
    disk: u64,
}

/// The number of the group that an offset belongs to.
pub(super) const fn group_of(offset: u64) -> u64 {
    (offset - 1) / GROUP
}

impl Groups {
    pub(super) fn get(&self, number: u64) -> Option<&Group> {
        self.groups.get(usize::try_from(number.checked_sub(self.base)?).ok()?)
    }

    /// Where the record before the next one in its group is: its `link`.
    pub(super) fn link(&self, offset: u64) -> Place {
        self.get(group_of(offset)).map_or(Place::NOWHERE, |group| group.head)
    }

    /// Takes in a record that was written, or found when the log was opened.
    pub(super) fn add(&mut self, place: Place, record: &Record<'_>) {
        let number = group_of(record.offset);
        self.make_room(number);
        let bit = 1u32 << ((record.offset - 1) % GROUP);
        let (disk, payload) = (record.len() as u32, record.payload());
        let Some(group) = number.checked_sub(self.base).and_then(|at| self.groups.get_mut(at as usize)) else { return };
        if record.moved {
            group.add_to_run(place, record);
        } else {
            group.head = place;
        }
        if group.present & bit == 0 {
            group.present |= bit;
            group.disk = group.disk.saturating_add(disk);
            group.payload = group.payload.saturating_add(payload);
            group.first_ms = group.first_ms.min(record.time_ms);
            group.last_ms = group.last_ms.max(record.time_ms);
            self.disk += u64::from(disk);
            self.payload += u64::from(payload);
        }
    }

    fn make_room(&mut self, number: u64) {
        if self.groups.is_empty() {
            self.base = number;
        }
        // What was moved is found after messages that are newer: when the log is opened the first group may come late.
        while number < self.base {
            self.groups.push_front(EMPTY);
            self.base -= 1;
        }
        while self.base + (self.groups.len() as u64) <= number {
            self.groups.push_back(EMPTY);
        }
    }

    /// The group was written again as a run of this length that ends with offset `last`.
    pub(super) fn moved(&mut self, number: u64, run: Place, run_len: u32, last: u64) {
        let Some(group) = number.checked_sub(self.base).and_then(|at| self.groups.get_mut(at as usize)) else { return };
        (group.run, group.run_len, group.run_last) = (run, run_len, last);
        if group.last(number) <= last {
            group.head = Place::NOWHERE;
        }
    }

    /// Drops the groups that are wholly before this offset.
    pub(super) fn drop_before(&mut self, offset: u64) {
        while let Some(group) = self.groups.front()
            && (self.base + 1) * GROUP < offset
        {
            self.payload -= u64::from(group.payload);
            self.disk -= u64::from(group.disk);
            self.groups.pop_front();
            self.base += 1;
        }
        if self.groups.is_empty() {
            self.groups = VecDeque::new();
        }
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The first offset after groups that are too old, or that exceed `bytes` without the group after them. The last group stays
    /// for its bytes: something is always kept.
    pub(super) fn expired(&self, before_ms: u64, bytes: u64) -> u64 {
        let (mut first, mut left) = (self.base * GROUP + 1, self.payload);
        for (at, group) in self.groups.iter().enumerate() {
            let without = left - u64::from(group.payload);
            let too_much = at + 1 < self.groups.len() && without >= bytes;
            if group.last_ms >= before_ms && !too_much {
                break;
            }
            first = (self.base + at as u64 + 1) * GROUP + 1;
            left = without;
        }
        first
    }

    /// Whether the first message may be from before this time.
    pub(super) fn begins_before(&self, before_ms: u64) -> bool {
        self.groups.front().is_some_and(|group| group.first_ms < before_ms)
    }

    /// The first offset from which nothing is missing up to `top`: what opening the log makes of what it found.
    pub(super) fn first_whole(&self, top: u64) -> u64 {
        let mut first = top + 1;
        while first > 1 && self.get(group_of(first - 1)).is_some_and(|group| group.has(first - 1)) {
            first -= 1;
        }
        first
    }

    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    /// Bytes in the log.
    pub(super) const fn disk(&self) -> u64 {
        self.disk
    }

    /// The oldest group's end: dropping up to it makes the index one smaller.
    pub(super) const fn first_group_end(&self) -> u64 {
        (self.base + 1) * GROUP
    }

    pub(super) fn oldest_ms(&self) -> u64 {
        self.groups.front().map_or(u64::MAX, |group| group.first_ms)
    }
}

impl Group {
    fn has(&self, offset: u64) -> bool {
        self.present & 1 << ((offset - 1) % GROUP) != 0
    }

    fn last(&self, number: u64) -> u64 {
        number * GROUP + u64::from(u32::BITS - self.present.leading_zeros())
    }

    fn add_to_run(&mut self, place: Place, record: &Record<'_>) {
        let follows = self.run_last + 1 == record.offset && self.run.plus(self.run_len) == place;
        if !self.run.is_nowhere() && follows {
            self.run_len += record.len() as u32;
        } else {
            (self.run, self.run_len) = (place, record.len() as u32);
        }
        self.run_last = record.offset;
        // The chain, if any, is older than the run unless it goes beyond it.
        if (u32::BITS - self.present.leading_zeros()) as u64 <= (record.offset - 1) % GROUP + 1 {
            self.head = Place::NOWHERE;
        }
    }

    /// Whether a record of this group found at this place is the one that counts.
    pub(super) fn counts(&self, offset: u64, place: Place) -> bool {
        if !self.has(offset) {
            return false;
        }
        if offset > self.run_last {
            return true;
        }
        place.segment == self.run.segment && (self.run.at..self.run.at + self.run_len).contains(&place.at)
    }
}
