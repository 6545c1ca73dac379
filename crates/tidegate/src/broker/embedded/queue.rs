//! Publishes on their way to the disk, in the order in which they came. A batch takes so many bytes of them; the rest stays in line.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tidegate_core::broker::{BrokerError, Sequence};
use tokio::sync::oneshot;

use super::request::{Message, Outcome, Request, Wish, pieces};
use super::terms::Terms;

/// The line to the one thread that writes. Each publish in it has a publisher that waits and holds its message anyway, so publishers
/// bound it; those that have given up are taken out before they are more than the others.
#[derive(Debug)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    wake: Condvar,
    batch_bytes: usize,
    closed: AtomicBool,
}

#[derive(Default)]
struct Inner {
    requests: Vec<Request>,
    /// In all of them.
    messages: usize,
    bytes: usize,
    /// At so many bytes those that have been given up are looked for.
    purge_at: usize,
    /// The thread sleeps until so many wait.
    wanted: usize,
    /// It is to look at something else, at once.
    poked: bool,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} waiting", self.messages)
    }
}

/// Publishers that were answered together come again together, within microseconds. Waiting for them, for a fraction of what the
/// last sync took, makes full batches of what would else be a batch of one and a batch of the rest.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gather {
    pub(super) messages: usize,
    pub(super) at_most: Duration,
}

/// The part of a sync's time that is spent on gathering the next batch, at most.
const GATHER_PART: u32 = 8;
/// An eighth of what a slow disk takes. A sync that took longer was held up, perhaps with the whole process, and says nothing about the next.
const GATHER_MOST: Duration = Duration::from_millis(25);

impl Gather {
    /// What a batch of so many messages, whose sync took so long, says about the next.
    pub(super) fn after(messages: usize, took: Duration) -> Self {
        Self { messages, at_most: (took / GATHER_PART).min(GATHER_MOST) }
    }
}

impl Queue {
    /// A queue whose batches have at most about so many bytes.
    pub(super) fn new(batch_bytes: usize) -> Self {
        let inner = Inner { purge_at: batch_bytes, ..Inner::default() };
        Self { inner: Mutex::new(inner), wake: Condvar::new(), batch_bytes, closed: AtomicBool::new(false) }
    }

    /// Puts a publish in line when first polled, and waits for its answer.
    pub(super) async fn publish(&self, terms: Terms, message: Message) -> Outcome {
        let (answer, answered) = oneshot::channel();
        self.push([Request { terms, wish: Wish::One(message, answer) }])?;
        answered.await.unwrap_or(Err(BrokerError::Closed))
    }

    /// Puts several in line one behind the other, and waits for all of their answers. More than a batch takes goes in pieces.
    pub(super) async fn publish_all(&self, terms: Terms, messages: Vec<Message>, sequence: &Arc<Sequence>) -> Vec<Outcome> {
        let piece = |messages: Vec<Message>| {
            let (answer, answered) = oneshot::channel();
            let count = messages.len();
            (Request { terms, wish: Wish::All(messages, Arc::clone(sequence), answer) }, (count, answered))
        };
        let (requests, waiting): (Vec<_>, Vec<_>) = pieces(messages, self.batch_bytes).into_iter().map(piece).unzip();
        // Where it is closed the requests are dropped, and so each piece is told below.
        self.push(requests).ok();
        let mut outcomes = Vec::new();
        for (count, answered) in waiting {
            let answers = answered.await.unwrap_or_else(|_| vec![Err(BrokerError::Closed); count]);
            // Nearly always there is one piece.
            if outcomes.is_empty() { outcomes = answers } else { outcomes.extend(answers) }
        }
        outcomes
    }

    fn push(&self, requests: impl IntoIterator<Item = Request>) -> Result<(), BrokerError> {
        let mut inner = self.inner.lock();
        if self.is_closed() {
            return Err(BrokerError::Closed);
        }
        for request in requests {
            inner.messages += request.messages().len();
            inner.bytes += request.cost();
            inner.requests.push(request);
        }
        if inner.bytes > inner.purge_at {
            inner.purge(self.batch_bytes);
        }
        if inner.wanted > 0 && inner.messages >= inner.wanted {
            inner.wanted = 0;
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Moves the next batch into `taken` (empty), waiting at most so long for the first, and then for as many as the last batch had.
    /// `false` when it is closed and empty.
    pub(super) fn take(&self, taken: &mut Vec<Request>, wait: Duration, gather: Gather) -> bool {
        let mut inner = self.inner.lock();
        self.sleep(&mut inner, 1, wait);
        if !inner.requests.is_empty() {
            self.sleep(&mut inner, gather.messages, gather.at_most);
        }
        inner.poked = false;
        inner.take_batch(taken, self.batch_bytes);
        !(self.is_closed() && taken.is_empty())
    }

    fn sleep(&self, inner: &mut MutexGuard<'_, Inner>, wanted: usize, at_most: Duration) {
        let until = Instant::now() + at_most;
        while inner.messages < wanted && !inner.poked && !self.is_closed() {
            inner.wanted = wanted;
            if self.wake.wait_until(inner, until).timed_out() {
                break;
            }
        }
        inner.wanted = 0;
    }

    /// Ends the waiting for a batch, now or the next time.
    pub(super) fn poke(&self) {
        self.inner.lock().poked = true;
        self.wake.notify_one();
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.inner.lock().requests.is_empty()
    }

    /// Drops what waits: its publishers are told that it is closed.
    pub(super) fn drop_all(&self) {
        let mut inner = self.inner.lock();
        (inner.messages, inner.bytes) = (0, 0);
        let dropped = std::mem::take(&mut inner.requests);
        drop(inner);
        drop(dropped);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Takes nothing more; what waits is still written.
    pub(super) fn close(&self) {
        let _inner = self.inner.lock();
        self.closed.store(true, Ordering::Release);
        self.wake.notify_one();
    }
}

impl Inner {
    fn take_batch(&mut self, taken: &mut Vec<Request>, batch_bytes: usize) {
        if self.bytes <= batch_bytes {
            std::mem::swap(&mut self.requests, taken);
            (self.messages, self.bytes) = (0, 0);
            return;
        }
        let (mut count, mut messages, mut bytes) = (0, 0, 0);
        while count < self.requests.len() && bytes < batch_bytes {
            messages += self.requests[count].messages().len();
            bytes += self.requests[count].cost();
            count += 1;
        }
        taken.extend(self.requests.drain(..count));
        self.messages -= messages;
        self.bytes -= bytes;
    }

    /// Takes out those whose publishers have given up. What follows them in their sequence goes too, once it is its turn.
    fn purge(&mut self, batch_bytes: usize) {
        let (messages, bytes) = (&mut self.messages, &mut self.bytes);
        self.requests.retain(|request| {
            let is_wanted = !request.is_given_up();
            if !is_wanted {
                *messages -= request.messages().len();
                *bytes -= request.cost();
                request.break_off();
            }
            is_wanted
        });
        self.purge_at = batch_bytes.max(2 * self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::{ChannelKind, Retention};

    use super::super::request::tests::{message, numbers};
    use super::*;

    fn request(numbers: std::ops::Range<usize>, sequence: &Arc<Sequence>) -> (Request, oneshot::Receiver<Vec<Outcome>>) {
        let (answer, answered) = oneshot::channel();
        let terms = Terms { kind: ChannelKind::Log, retention: Retention { messages: 1, age: Duration::ZERO, bytes: 1 } };
        (Request { terms, wish: Wish::All(numbers.map(message).collect(), sequence.clone(), answer) }, answered)
    }

    #[test]
    fn more_than_a_batch_goes_in_pieces_and_in_order() {
        let (queue, sequence) = (Queue::new(10_000), Arc::default());
        let _waiting: Vec<_> = (0..20)
            .step_by(2)
            .map(|number| {
                let (request, answered) = request(number..number + 2, &sequence);
                queue.push([request]).unwrap();
                answered
            })
            .collect();
        let (mut all, mut batches) = (Vec::new(), 0);
        while !queue.is_empty() {
            let mut taken = Vec::new();
            assert!(queue.take(&mut taken, Duration::ZERO, Gather::default()));
            let some = numbers(taken.iter().flat_map(Request::messages));
            assert!((1..=6).contains(&some.len()), "{}", some.len());
            all.extend(some);
            batches += 1;
        }
        assert_eq!(all, (0..20).collect::<Vec<_>>());
        assert!(batches >= 4);
        let inner = queue.inner.lock();
        assert_eq!((inner.messages, inner.bytes), (0, 0));
    }

    #[test]
    fn a_process_that_was_frozen_in_a_sync_gathers_no_longer() {
        assert_eq!(Gather::after(8, Duration::from_millis(16)).at_most, Duration::from_millis(2));
        let queue = Queue::new(10_000);
        let (request, _waiting) = request(0..1, &Arc::default());
        queue.push([request]).unwrap();
        let begun = Instant::now();
        queue.take(&mut Vec::new(), Duration::ZERO, Gather::after(8, Duration::from_secs(3600)));
        assert!(begun.elapsed() < Duration::from_secs(5), "the seven that do not come are not waited for");
    }

    #[test]
    fn what_nobody_waits_for_is_bounded_and_breaks_its_sequence() {
        let (queue, patient, hasty) = (Queue::new(10_000), Arc::default(), Arc::default());
        let (kept, _waiting) = request(0..1, &patient);
        queue.push([kept]).unwrap();
        for number in 1..10_000 {
            let (request, answered) = request(number..number + 1, &hasty);
            queue.push([request]).unwrap();
            drop(answered);
            assert!(queue.inner.lock().bytes < 30_000);
        }
        assert!(hasty.is_broken() && !patient.is_broken());
        let mut taken = Vec::new();
        queue.take(&mut taken, Duration::ZERO, Gather::default());
        assert_eq!(numbers(taken[0].messages()), [0]);
    }
}
