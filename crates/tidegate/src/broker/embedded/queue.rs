//! Publishes on their way to the disk, in the order in which they came. A batch takes so many bytes of them; the rest stays in line.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tidegate_core::Publication;
use tidegate_core::broker::{BrokerError, Published, Sequence};
use tidegate_core::message::Publish;
use tokio::sync::oneshot;

use super::terms::Terms;

/// A publish that waits for its answer.
pub(super) struct Request {
    pub(super) terms: Terms,
    pub(super) publish: Publish,
    pub(super) id: Option<u128>,
    /// Whose order it stands or falls in.
    pub(super) sequence: Option<Arc<Sequence>>,
    pub(super) answer: Answer,
}

/// Where a publisher waits.
pub(super) type Answer = oneshot::Sender<Result<Published, BrokerError>>;

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
    bytes: usize,
    /// At so many bytes those that have been given up are looked for.
    purge_at: usize,
    /// The thread sleeps until so many wait.
    wanted: usize,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} waiting", self.requests.len())
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

/// What a request takes besides its bytes.
const REQUEST_COST: usize = 256;

impl Queue {
    /// A queue whose batches have at most about so many bytes.
    pub(super) fn new(batch_bytes: usize) -> Self {
        let inner = Inner { purge_at: batch_bytes, ..Inner::default() };
        Self { inner: Mutex::new(inner), wake: Condvar::new(), batch_bytes, closed: AtomicBool::new(false) }
    }

    /// Puts a publish in line when first polled, and waits for its answer.
    pub(super) async fn publish(
        &self,
        terms: Terms,
        publish: Publish,
        id: Option<u128>,
        sequence: Option<&Arc<Sequence>>,
    ) -> Result<Published, BrokerError> {
        let (answer, answered) = oneshot::channel();
        self.push(Request { terms, publish, id, sequence: sequence.cloned(), answer })?;
        answered.await.unwrap_or(Err(BrokerError::Closed))
    }

    fn push(&self, request: Request) -> Result<(), BrokerError> {
        let cost = request_cost(&request.publish);
        let mut inner = self.inner.lock();
        if self.is_closed() {
            return Err(BrokerError::Closed);
        }
        inner.requests.push(request);
        inner.bytes += cost;
        if inner.bytes > inner.purge_at {
            inner.purge(self.batch_bytes);
        }
        if inner.requests.len() == inner.wanted {
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
        inner.take_batch(taken, self.batch_bytes);
        !(self.is_closed() && taken.is_empty())
    }

    fn sleep(&self, inner: &mut MutexGuard<'_, Inner>, wanted: usize, at_most: Duration) {
        let until = Instant::now() + at_most;
        inner.wanted = wanted;
        while inner.requests.len() < wanted && !self.is_closed() {
            if self.wake.wait_until(inner, until).timed_out() {
                break;
            }
        }
        inner.wanted = 0;
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.inner.lock().requests.is_empty()
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.inner.lock().requests.len()
    }

    /// Drops what waits: its publishers are told that it is closed.
    pub(super) fn drop_all(&self) {
        let dropped = std::mem::take(&mut self.inner.lock().requests);
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
            self.bytes = 0;
            return;
        }
        let (mut count, mut bytes) = (0, 0);
        while count < self.requests.len() && bytes < batch_bytes {
            bytes += request_cost(&self.requests[count].publish);
            count += 1;
        }
        taken.extend(self.requests.drain(..count));
        self.bytes -= bytes;
    }

    /// Takes out those whose publishers have given up. What follows them in their sequence goes too, once it is its turn.
    fn purge(&mut self, batch_bytes: usize) {
        let bytes = &mut self.bytes;
        self.requests.retain(|request| {
            let is_wanted = !request.answer.is_closed();
            if !is_wanted {
                *bytes -= request_cost(&request.publish);
                request.break_off();
            }
            is_wanted
        });
        self.purge_at = batch_bytes.max(2 * self.bytes);
    }
}

impl Request {
    /// Nothing of its sequence may follow.
    pub(super) fn break_off(&self) {
        if let Some(sequence) = &self.sequence {
            sequence.break_off();
        }
    }
}

fn request_cost(publish: &Publish) -> usize {
    // The costs of a publication are those of what it is made from.
    let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
    let data = match &publish.body {
        tidegate_core::Body::Data(data) => data.len(),
        tidegate_core::Body::Deleted => 0,
    };
    // Twice: in the queue and in the batch.
    size_of::<Publication>() + REQUEST_COST + 2 * (text(&publish.message_id) + text(&publish.key) + data)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidegate_core::{Body, ChannelKind, ChannelName, Retention};

    use super::*;

    fn request(number: usize, sequence: &Arc<Sequence>) -> (Request, oneshot::Receiver<Result<Published, BrokerError>>) {
        let (answer, answered) = oneshot::channel();
        let terms = Terms { kind: ChannelKind::Log, retention: Retention { messages: 1, age: Duration::ZERO, bytes: 1 } };
        let data = Body::Data(Bytes::from(vec![b'x'; 1000]));
        let id = Some(number.to_string().into());
        let publish = Publish { channel: ChannelName::new("a").unwrap(), message_id: id, key: None, body: data };
        (Request { terms, publish, id: None, sequence: Some(sequence.clone()), answer }, answered)
    }

    fn numbers(taken: &[Request]) -> Vec<usize> {
        taken.iter().map(|request| request.publish.message_id.as_ref().unwrap().parse().unwrap()).collect()
    }

    #[test]
    fn more_than_a_batch_goes_in_pieces_and_in_order() {
        let (queue, sequence) = (Queue::new(10_000), Arc::default());
        let _waiting: Vec<_> = (0..20)
            .map(|number| {
                let (request, answered) = request(number, &sequence);
                queue.push(request).unwrap();
                answered
            })
            .collect();
        let (mut all, mut batches) = (Vec::new(), 0);
        while !queue.is_empty() {
            let mut taken = Vec::new();
            assert!(queue.take(&mut taken, Duration::ZERO, Gather::default()));
            assert!((1..=6).contains(&taken.len()), "{}", taken.len());
            all.extend(numbers(&taken));
            batches += 1;
        }
        assert_eq!(all, (0..20).collect::<Vec<_>>());
        assert!(batches >= 4);
        assert_eq!(queue.inner.lock().bytes, 0);
    }

    #[test]
    fn a_process_that_was_frozen_in_a_sync_gathers_no_longer() {
        assert_eq!(Gather::after(8, Duration::from_millis(16)).at_most, Duration::from_millis(2));
        let queue = Queue::new(10_000);
        let (request, _waiting) = request(0, &Arc::default());
        queue.push(request).unwrap();
        let begun = Instant::now();
        queue.take(&mut Vec::new(), Duration::ZERO, Gather::after(8, Duration::from_secs(3600)));
        assert!(begun.elapsed() < Duration::from_secs(5), "the seven that do not come are not waited for");
    }

    #[test]
    fn what_nobody_waits_for_is_bounded_and_breaks_its_sequence() {
        let (queue, patient, hasty) = (Queue::new(10_000), Arc::default(), Arc::default());
        let (kept, _waiting) = request(0, &patient);
        queue.push(kept).unwrap();
        for number in 1..10_000 {
            let (request, answered) = request(number, &hasty);
            queue.push(request).unwrap();
            drop(answered);
            assert!(queue.inner.lock().bytes < 30_000);
        }
        assert!(hasty.is_broken() && !patient.is_broken());
        let mut taken = Vec::new();
        queue.take(&mut taken, Duration::ZERO, Gather::default());
        assert_eq!(numbers(&taken)[0], 0);
    }
}
