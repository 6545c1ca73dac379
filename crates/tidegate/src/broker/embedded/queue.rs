//! Publishes on their way to the disk, bounded in bytes: whoever finds no room waits for it, in order.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tidegate_core::Publication;
use tidegate_core::broker::{BrokerError, Published};
use tidegate_core::message::Publish;
use tokio::sync::{Semaphore, oneshot};

use super::channel::Terms;

/// A publish that waits for its answer.
pub(super) struct Request {
    pub(super) terms: Terms,
    pub(super) publish: Publish,
    pub(super) id: Option<u128>,
    /// Bytes of room that it takes.
    pub(super) room: u32,
    pub(super) answer: oneshot::Sender<Result<Published, BrokerError>>,
}

/// The queue to the one thread that writes.
#[derive(Debug)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    wake: Condvar,
    room: Semaphore,
    all_room: u32,
}

#[derive(Default)]
struct Inner {
    requests: Vec<Request>,
    /// The thread sleeps until so many wait.
    wanted: usize,
    closed: bool,
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

/// What a request takes besides its bytes.
const REQUEST_COST: usize = 256;

impl Queue {
    pub(super) fn new(bytes: usize) -> Self {
        let all_room = u32::try_from(bytes).unwrap_or(u32::MAX / 2).max(1);
        Self { inner: Mutex::default(), wake: Condvar::new(), room: Semaphore::new(all_room as usize), all_room }
    }

    /// Puts a publish in, when there is room, and waits for its answer.
    pub(super) async fn publish(&self, terms: Terms, publish: Publish, id: Option<u128>) -> Result<Published, BrokerError> {
        let room = u32::try_from(request_cost(&publish)).unwrap_or(u32::MAX).min(self.all_room);
        self.room.acquire_many(room).await.map_err(|_| BrokerError::Closed)?.forget();
        let (answer, answered) = oneshot::channel();
        self.push(Request { terms, publish, id, room, answer })?;
        answered.await.unwrap_or(Err(BrokerError::Closed))
    }

    fn push(&self, request: Request) -> Result<(), BrokerError> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(BrokerError::Closed);
        }
        inner.requests.push(request);
        if inner.requests.len() == inner.wanted {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Swaps everything that waits into `taken` (empty), waiting at most so long for the first, and then for as many as the last
    /// batch had. `false` when it is closed and empty.
    pub(super) fn take(&self, taken: &mut Vec<Request>, wait: Duration, gather: Gather) -> bool {
        let mut inner = self.inner.lock();
        self.sleep(&mut inner, 1, wait);
        if !inner.requests.is_empty() {
            self.sleep(&mut inner, gather.messages, gather.at_most);
        }
        std::mem::swap(&mut inner.requests, taken);
        !(inner.closed && taken.is_empty())
    }

    fn sleep(&self, inner: &mut MutexGuard<'_, Inner>, wanted: usize, at_most: Duration) {
        let until = Instant::now() + at_most;
        inner.wanted = wanted;
        while inner.requests.len() < wanted && !inner.closed {
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

    /// Gives room back.
    pub(super) fn release(&self, room: usize) {
        self.room.add_permits(room);
    }

    /// Drops what waits: its publishers are told that it is closed.
    pub(super) fn drop_all(&self) {
        let dropped = std::mem::take(&mut self.inner.lock().requests);
        drop(dropped);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.room.is_closed()
    }

    /// Takes nothing more; what waits is still written.
    pub(super) fn close(&self) {
        self.inner.lock().closed = true;
        self.room.close();
        self.wake.notify_one();
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
