//! An `event` lane: a queue that loses by policy, and tells where and how many.

use std::collections::VecDeque;
use std::sync::Arc;

use super::budget::Budget;
use super::lane::{Opening, gap, live, subscribed};
use super::places::{self, KEPT};
use crate::message::{GapReason, Recovery, ServerMessage};
use crate::session::{Push, Transmit};
use crate::{ChannelKind, ChannelName, Overflow, Publication};

/// Messages in their order, with a marker exactly where some are missing. There are never two markers side by side, so the
/// queue is bounded by its messages.
#[derive(Debug, Default)]
pub(super) struct EventLane {
    queue: VecDeque<Item>,
    bytes: usize,
    messages: usize,
}

#[derive(Debug)]
enum Item {
    Publication(Arc<Publication>),
    Missing(Missing),
    Notice(Box<ServerMessage>),
}

/// Messages that are missing in one place.
#[derive(Clone, Copy, Debug, Default)]
struct Missing {
    /// So many because the subscriber was slow.
    slow: u32,
    /// And nobody knows how many that the bus lost.
    bus: bool,
}

impl EventLane {
    pub(super) fn open(&mut self, channel: &ChannelName, opening: Opening) {
        self.queue.push_back(Item::Notice(subscribed(channel, ChannelKind::Event, opening, None, Recovery::None)));
        self.queue.push_back(Item::Notice(live(channel, None)));
    }

    pub(super) fn push(&mut self, budget: &mut Budget, overflow: Overflow, publication: &Arc<Publication>) -> Push {
        let cost = publication.cost();
        if budget.fits(cost) {
            self.append(budget, publication, cost);
            return if overflow == Overflow::Pause && !budget.is_low() { Push::Full } else { Push::Queued };
        }
        match overflow {
            Overflow::Disconnect => Push::Disconnected,
            Overflow::DropOldest => self.drop_oldest(budget, publication, cost),
            Overflow::Sample => self.sample(budget, publication, cost),
            // What `catch_up` would need does not exist on this kind of channel; no rule can ask for it.
            Overflow::DropNewest | Overflow::Pause | Overflow::CatchUp => self.drop_new(0),
        }
    }

    /// The bus may have lost some.
    pub(super) fn lost(&mut self) {
        self.mark(self.queue.len(), Missing { slow: 0, bus: true });
    }

    /// Drops everything that waits, leaving a marker in its place.
    pub(super) fn shed(&mut self, budget: &mut Budget) -> u32 {
        let dropped = u32::try_from(self.messages).unwrap_or(u32::MAX);
        while let Some(at) = self.first() {
            self.drop_at(budget, at);
        }
        dropped
    }

    pub(super) fn release(&mut self, budget: &mut Budget) {
        while let Some(item) = self.queue.pop_front() {
            if let Item::Publication(publication) = item {
                self.discount(budget, publication.cost());
            }
        }
    }

    pub(super) fn has_next(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Places that it keeps, taken or not.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.queue.capacity()
    }

    pub(super) fn shrink(&mut self) {
        places::give_back(&mut self.queue);
    }

    pub(super) fn next(&mut self, channel: &ChannelName, budget: &mut Budget) -> Option<Transmit> {
        let transmit = match self.queue.front_mut()? {
            // One marker may stand for both kinds of loss: the counted one first, then the other.
            Item::Missing(missing) if missing.slow > 0 && missing.bus => {
                let slow = std::mem::take(&mut missing.slow);
                return Some(told(channel, Some(slow.into()), GapReason::Slow));
            }
            _ => self.queue.pop_front()?,
        };
        if self.queue.capacity() > KEPT || matches!(transmit, Item::Notice(_)) {
            self.shrink();
        }
        Some(match transmit {
            Item::Publication(publication) => {
                self.discount(budget, publication.cost());
                Transmit::Publication(publication)
            }
            Item::Missing(Missing { bus: true, .. }) => told(channel, None, GapReason::Bus),
            Item::Missing(Missing { slow, .. }) => told(channel, Some(slow.into()), GapReason::Slow),
            Item::Notice(message) => Transmit::Message(message),
        })
    }

    fn append(&mut self, budget: &mut Budget, publication: &Arc<Publication>, cost: usize) {
        budget.add(cost);
        self.bytes += cost;
        self.messages += 1;
        self.queue.push_back(Item::Publication(publication.clone()));
    }

    fn discount(&mut self, budget: &mut Budget, cost: usize) {
        budget.remove(cost);
        self.bytes -= cost;
        self.messages -= 1;
    }

    /// Makes room with the oldest of this lane; where that would not be enough, the new one goes instead of all of them.
    fn drop_oldest(&mut self, budget: &mut Budget, publication: &Arc<Publication>, cost: usize) -> Push {
        if self.messages == 0 || !budget.fits_without(self.bytes, self.messages, cost) {
            return self.drop_new(0);
        }
        let mut dropped = 0;
        while !budget.fits(cost)
            && let Some(at) = self.first()
        {
            self.drop_at(budget, at);
            dropped += 1;
        }
        self.append(budget, publication, cost);
        Push::Dropped(dropped)
    }

    /// Drops every second message, the oldest first, so that what is left is spread over time.
    fn sample(&mut self, budget: &mut Budget, publication: &Arc<Publication>, cost: usize) -> Push {
        let mut dropped = 0;
        let mut stays = true;
        for item in std::mem::take(&mut self.queue) {
            match item {
                Item::Publication(publication) => {
                    stays = !stays;
                    if stays {
                        self.queue.push_back(Item::Publication(publication));
                    } else {
                        self.discount(budget, publication.cost());
                        self.mark(self.queue.len(), Missing { slow: 1, bus: false });
                        dropped += 1;
                    }
                }
                Item::Missing(missing) => self.mark(self.queue.len(), missing),
                Item::Notice(message) => self.queue.push_back(Item::Notice(message)),
            }
        }
        if !budget.fits(cost) {
            return self.drop_new(dropped);
        }
        self.append(budget, publication, cost);
        Push::Dropped(dropped)
    }

    fn drop_new(&mut self, dropped_before: u32) -> Push {
        self.mark(self.queue.len(), Missing { slow: 1, bus: false });
        Push::Refused(dropped_before + 1)
    }

    /// The place of the oldest message: behind at most the opening's two notices and a marker.
    fn first(&self) -> Option<usize> {
        self.queue.iter().position(|item| matches!(item, Item::Publication(_)))
    }

    fn drop_at(&mut self, budget: &mut Budget, at: usize) {
        if let Some(Item::Publication(publication)) = self.queue.remove(at) {
            self.discount(budget, publication.cost());
            self.mark(at, Missing { slow: 1, bus: false });
        }
    }

    /// Notes before place `at` that messages are missing there, in one marker with those beside it.
    fn mark(&mut self, at: usize, mut missing: Missing) {
        if let Some(Item::Missing(next)) = self.queue.get(at) {
            missing.add(*next);
            self.queue.remove(at);
        }
        match at.checked_sub(1).and_then(|before| self.queue.get_mut(before)) {
            Some(Item::Missing(before)) => before.add(missing),
            _ => self.queue.insert(at, Item::Missing(missing)),
        }
    }
}

impl Missing {
    fn add(&mut self, other: Self) {
        self.slow = self.slow.saturating_add(other.slow);
        self.bus |= other.bus;
    }
}

fn told(channel: &ChannelName, missed: Option<u64>, reason: GapReason) -> Transmit {
    Transmit::Message(Box::new(ServerMessage::Gap(Box::new(gap(channel, missed, reason)))))
}
