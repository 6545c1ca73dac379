//! The one budget of bytes and messages that all lanes of a session share.

use crate::OutboxSettings;
use crate::broker::PageLimit;

/// A page of history is at most this large: several writes' worth, and small enough that four lanes of the default outbox
/// catch up side by side.
const PAGE: PageLimit = PageLimit { messages: 256, bytes: 128 * 1024 };

/// What waits, what is on its way from history, and how much of both there may be.
#[derive(Debug)]
pub(super) struct Budget {
    limit: PageLimit,
    bytes: usize,
    messages: usize,
    /// Room that pages under way were promised.
    reserved: PageLimit,
}

impl Budget {
    pub(super) const fn new(limit: OutboxSettings) -> Self {
        let limit = PageLimit { messages: limit.messages, bytes: limit.bytes };
        Self { limit, bytes: 0, messages: 0, reserved: PageLimit { messages: 0, bytes: 0 } }
    }

    /// Whether a message of this size has room. One that is larger than everything has it when nothing else waits.
    pub(super) fn fits(&self, cost: usize) -> bool {
        self.fits_without(0, 0, cost)
    }

    /// Whether it would have room if so much of what waits went away.
    pub(super) fn fits_without(&self, bytes: usize, messages: usize, cost: usize) -> bool {
        let messages = self.messages - messages + self.reserved.messages;
        let bytes = self.bytes - bytes + self.reserved.bytes;
        messages == 0 || (messages < self.limit.messages && bytes.saturating_add(cost) <= self.limit.bytes)
    }

    pub(super) fn add(&mut self, cost: usize) {
        self.bytes += cost;
        self.messages += 1;
    }

    pub(super) fn remove(&mut self, cost: usize) {
        self.bytes -= cost;
        self.messages -= 1;
    }

    /// Whether at most half is taken. Pages are asked for only then, so that a slow reader costs few and large ones.
    pub(super) fn is_low(&self) -> bool {
        self.bytes + self.reserved.bytes <= self.limit.bytes / 2 && self.messages + self.reserved.messages <= self.limit.messages / 2
    }

    /// Sets room for a page aside.
    pub(super) fn reserve(&mut self) -> PageLimit {
        let limit = PageLimit {
            messages: self.limit.messages.saturating_sub(self.messages + self.reserved.messages).clamp(1, PAGE.messages),
            bytes: self.limit.bytes.saturating_sub(self.bytes + self.reserved.bytes).clamp(1, PAGE.bytes),
        };
        self.reserved.messages += limit.messages;
        self.reserved.bytes += limit.bytes;
        limit
    }

    /// Gives back what was set aside.
    pub(super) fn release(&mut self, limit: PageLimit) {
        self.reserved.messages -= limit.messages;
        self.reserved.bytes -= limit.bytes;
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
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
