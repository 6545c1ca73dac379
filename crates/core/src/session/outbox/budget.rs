//! The one budget of bytes and messages that all lanes of a session share.

use crate::OutboxSettings;
use crate::broker::PageLimit;

/// A page of history is at most this large: several writes' worth, and small enough that four lanes of the default outbox
/// catch up side by side.
const PAGE: PageLimit = PageLimit { messages: 256, bytes: 128 * 1024 };

/// What waits, what is on its way from history, and how much of both there may be. In half words: every session has one.
#[derive(Debug)]
pub(super) struct Budget {
    limit: Amount,
    waiting: Amount,
    /// Room that pages under way were promised.
    reserved: Amount,
}

/// So much of both.
#[derive(Clone, Copy, Debug)]
struct Amount {
    bytes: u32,
    messages: u32,
}

const NOTHING: Amount = Amount { bytes: 0, messages: 0 };

impl Budget {
    pub(super) fn new(limit: OutboxSettings) -> Self {
        Self { limit: Amount::of(PageLimit { messages: limit.messages, bytes: limit.bytes }), waiting: NOTHING, reserved: NOTHING }
    }

    /// Whether a message of this size has room. One that is larger than everything has it when nothing else waits.
    pub(super) fn fits(&self, cost: usize) -> bool {
        self.fits_without(0, 0, cost)
    }

    /// Whether it would have room if so much of what waits went away.
    pub(super) fn fits_without(&self, bytes: usize, messages: usize, cost: usize) -> bool {
        let rest = self.taken().less(Amount::of(PageLimit { messages, bytes }));
        rest.messages == 0 || (rest.messages < self.limit.messages && rest.bytes.saturating_add(narrow(cost)) <= self.limit.bytes)
    }

    pub(super) fn add(&mut self, cost: usize) {
        self.waiting = self.waiting.and(Amount { bytes: narrow(cost), messages: 1 });
    }

    pub(super) fn remove(&mut self, cost: usize) {
        self.waiting = self.waiting.less(Amount { bytes: narrow(cost), messages: 1 });
    }

    /// Whether at most half is taken. Pages are asked for only then, so that a slow reader costs few and large ones.
    pub(super) fn is_low(&self) -> bool {
        let taken = self.taken();
        taken.bytes <= self.limit.bytes / 2 && taken.messages <= self.limit.messages / 2
    }

    /// Sets room for a page aside.
    pub(super) fn reserve(&mut self) -> PageLimit {
        let left = self.limit.less(self.taken());
        let limit =
            PageLimit { messages: (left.messages as usize).clamp(1, PAGE.messages), bytes: (left.bytes as usize).clamp(1, PAGE.bytes) };
        self.reserved = self.reserved.and(Amount::of(limit));
        limit
    }

    /// Gives back what was set aside.
    pub(super) fn release(&mut self, limit: PageLimit) {
        self.reserved = self.reserved.less(Amount::of(limit));
    }

    pub(super) const fn bytes(&self) -> usize {
        self.waiting.bytes as usize
    }

    const fn taken(&self) -> Amount {
        self.waiting.and(self.reserved)
    }
}

impl Amount {
    fn of(limit: PageLimit) -> Self {
        Self { bytes: narrow(limit.bytes), messages: narrow(limit.messages) }
    }

    const fn and(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(other.bytes), messages: self.messages.saturating_add(other.messages) }
    }

    const fn less(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_sub(other.bytes), messages: self.messages.saturating_sub(other.messages) }
    }
}

/// A budget is at most half of what a half word can count: what goes alone because it is larger still fits beside it.
fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX).min(u32::MAX / 2)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn budget(bytes: usize, messages: usize) -> Budget {
        Budget::new(OutboxSettings { bytes, messages, stall: Duration::from_secs(30) })
    }

    #[test]
    fn either_limit_is_full_alone() {
        let mut budget = budget(100, 2);
        budget.add(60);
        assert!(budget.fits(40) && !budget.fits(41));
        budget.add(1);
        assert!(!budget.fits(1));
        assert!(budget.fits_without(60, 1, 99) && !budget.fits_without(60, 1, 100));
    }

    #[test]
    fn an_oversized_message_goes_alone() {
        let mut budget = budget(100, 2);
        assert!(budget.fits(1000));
        budget.add(1000);
        assert!(!budget.fits(1));
        budget.remove(1000);
        assert!(budget.fits(1000));
    }

    #[test]
    fn pages_are_promised_only_what_is_there() {
        let mut budget = budget(1000, 10);
        budget.add(400);
        assert!(budget.is_low());
        let page = budget.reserve();
        assert_eq!(page, PageLimit { messages: 9, bytes: 600 });
        assert!(!budget.is_low() && !budget.fits(1));
        budget.release(page);
        assert!(budget.fits(600));
    }
}
