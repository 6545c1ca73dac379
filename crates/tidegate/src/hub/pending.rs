//! What was published on a channel and has not been handed to its subscribers: a short queue, emptied in batches by one task.

use std::collections::VecDeque;
use std::sync::Arc;

use smallvec::SmallVec;
use tidegate_core::{Position, Publication};
use tokio::sync::futures::OwnedNotified;
use tokio::sync::{Notify, oneshot};

use crate::connection::{BATCH_BYTES, BATCH_MESSAGES};

/// Something for every subscriber of a channel.
#[derive(Debug)]
pub(crate) enum Item {
    Message(Arc<Publication>),
    /// Messages may have been lost here.
    Lost(Option<Position>),
}

/// The next step of a fan-out.
#[derive(Debug)]
pub(crate) enum Items {
    Messages(SmallVec<[Arc<Publication>; 1]>),
    Lost(Option<Position>),
}

/// A channel's queue. It is there as long as a task hands out what is in it. Where one item comes by itself, which is the rule on small
/// channels, it costs no allocation.
#[derive(Debug, Default)]
pub(super) struct Pending {
    first: Option<Item>,
    /// Items that were taken and are being handed out.
    in_hand: u32,
    more: Option<Box<More>>,
}

/// What there is of a queue only where more than one thing happens.
#[derive(Debug, Default)]
struct More {
    /// Empty if there is no first.
    later: VecDeque<Item>,
    /// Publishers that wait until so many of the channel's items are handed out, in the order of that. A wait is over when its end here is
    /// dropped.
    waiting: VecDeque<(u64, oneshot::Sender<()>)>,
    /// Somebody waits until there is enough for a batch.
    batch: Option<Arc<Notify>>,
}

impl Pending {
    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.as_ref().map_or(0, |more| more.later.len())
    }

    /// Items that are not yet with every subscriber.
    pub(super) fn unfinished(&self) -> usize {
        self.len() + self.in_hand as usize
    }

    pub(super) fn put(&mut self, item: Item) {
        if self.first.is_none() {
            self.first = Some(item);
        } else {
            self.more.get_or_insert_default().later.push_back(item);
        }
        if self.len() >= BATCH_MESSAGES
            && let Some(batch) = self.more.as_mut().and_then(|more| more.batch.take())
        {
            batch.notify_waiters();
        }
    }

    fn push_front(&mut self, item: Item) {
        if let Some(second) = self.first.replace(item) {
            self.more.get_or_insert_default().later.push_front(second);
        }
    }

    fn pop_front(&mut self) -> Option<Item> {
        let next = self.more.as_mut().and_then(|more| more.later.pop_front());
        std::mem::replace(&mut self.first, next)
    }

    /// Nothing to wait for: nothing is there, or as much as a write takes.
    pub(super) fn wait_for_batch(&mut self) -> Option<OwnedNotified> {
        let waits = (1..BATCH_MESSAGES).contains(&self.len());
        waits.then(|| Arc::clone(self.more.get_or_insert_default().batch.get_or_insert_default()).notified_owned())
    }

    /// What comes first may have been lost on the way: its task panicked.
    pub(super) fn interrupted(&mut self) {
        self.push_front(Item::Lost(None));
    }

    /// Takes as many messages as fit one write, or the word of a loss that stands before them. What was taken last is handed out, `done`
    /// items in all.
    pub(super) fn take(&mut self, done: u64) -> Option<Items> {
        if let Some(more) = &mut self.more {
            while more.waiting.front().is_some_and(|(until, _)| *until <= done) {
                more.waiting.pop_front();
            }
        }
        let before = self.len();
        let taken = self.take_batch();
        self.in_hand = u32::try_from(before - self.len()).unwrap_or(u32::MAX);
        taken
    }

    fn take_batch(&mut self) -> Option<Items> {
        if let Item::Lost(position) = self.first.as_ref()? {
            let position = *position;
            self.pop_front();
            return Some(Items::Lost(position));
        }
        let (mut messages, mut bytes) = (SmallVec::new(), 0);
        while messages.len() < BATCH_MESSAGES && bytes < BATCH_BYTES {
            match self.pop_front() {
                Some(Item::Message(message)) => {
                    bytes += message.cost();
                    messages.push(message);
                }
                Some(lost) => {
                    self.push_front(lost);
                    break;
                }
                None => break,
            }
        }
        Some(Items::Messages(messages))
    }

    /// A wait that ends once so many of the channel's items are handed out, or the last one is.
    pub(super) fn wait_until(&mut self, done: u64) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let waiting = &mut self.more.get_or_insert_default().waiting;
        // Nearly always at the end: it is the beginning of a publish that waits for fewer than its end.
        let at = waiting.partition_point(|(until, _)| *until <= done);
        waiting.insert(at, (done, sender));
        receiver
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::{Body, ChannelName};
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    fn message(bytes: usize) -> Item {
        let body = Body::Data(vec![b'0'; bytes].into());
        Item::Message(Arc::new(Publication::new(ChannelName::new("a").unwrap(), None, None, None, body)))
    }

    fn taken(pending: &mut Pending) -> Option<Option<usize>> {
        Some(match pending.take(0)? {
            Items::Messages(messages) => Some(messages.len()),
            Items::Lost(_) => None,
        })
    }

    #[test]
    fn a_batch_is_bounded_by_number_and_bytes_and_ends_before_a_loss() {
        let mut pending = Pending::default();
        (0..BATCH_MESSAGES + 1).for_each(|_| pending.put(message(10)));
        pending.put(Item::Lost(None));
        (0..3).for_each(|_| pending.put(message(BATCH_BYTES / 2)));
        pending.interrupted();
        for expected in [None, Some(BATCH_MESSAGES), Some(1), None, Some(2), Some(1)] {
            assert_eq!(taken(&mut pending), Some(expected));
        }
        assert_eq!(taken(&mut pending), None);
    }

    #[test]
    fn a_wait_ends_when_its_number_is_done_whoever_else_waits() {
        let mut pending = Pending::default();
        let mut waits = [40, 10, 40, 25, 10].map(|done| (done, pending.wait_until(done)));
        for done in 0..50 {
            pending.take(done);
            for (until, wait) in &mut waits {
                assert_eq!(wait.try_recv() == Err(TryRecvError::Closed), *until <= done, "{until} at {done}");
            }
        }
    }
}
