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

/// Publishes that wait for their answer. All of them are in the same batch.
pub(super) struct Request {
    pub(super) terms: Terms,
    pub(super) wish: Wish,
}

pub(super) enum Wish {
    One(Message, oneshot::Sender<Outcome>),
    /// They stand or fall in their order.
    All(Vec<Message>, Arc<Sequence>, oneshot::Sender<Vec<Outcome>>),
}

/// A message that has no offset yet.
pub(super) struct Message {
    pub(super) publish: Publish,
    /// The hash of its id.
    pub(super) id: Option<u128>,
}

/// What became of a publish.
pub(super) type Outcome = Result<Published, BrokerError>;

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

/// What a message takes besides its bytes.
const MESSAGE_COST: usize = 256;

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
        let mut waiting = Vec::with_capacity(1);
        let requests = pieces(messages, self.batch_bytes).into_iter().map(|messages| {
            let (answer, answered) = oneshot::channel();
            waiting.push((messages.len(), answered));
            Request { terms, wish: Wish::All(messages, Arc::clone(sequence), answer) }
        });
        // Where it is closed, the requests are dropped, and so everybody is told below.
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
        for request in requests {
            if self.is_closed() {
                return Err(BrokerError::Closed);
            }
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
        inner.take_batch(taken, self.batch_bytes);
        !(self.is_closed() && taken.is_empty())
    }

    fn sleep(&self, inner: &mut MutexGuard<'_, Inner>, wanted: usize, at_most: Duration) {
        let until = Instant::now() + at_most;
        while inner.messages < wanted && !self.is_closed() {
            inner.wanted = wanted;
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

    /// How many messages wait.
    pub(super) fn len(&self) -> usize {
        self.inner.lock().messages
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

impl Request {
    fn messages(&self) -> &[Message] {
        match &self.wish {
            Wish::One(message, _) => std::slice::from_ref(message),
            Wish::All(messages, ..) => messages,
        }
    }

    fn is_given_up(&self) -> bool {
        match &self.wish {
            Wish::One(_, answer) => answer.is_closed(),
            Wish::All(_, _, answer) => answer.is_closed(),
        }
    }

    /// Nothing of its sequence may follow.
    fn break_off(&self) {
        if let Wish::All(_, sequence, _) = &self.wish {
            sequence.break_off();
        }
    }

    /// Answers that nothing of it was stored.
    pub(super) fn refuse(self, error: &BrokerError) {
        self.break_off();
        match self.wish {
            Wish::One(_, answer) => drop(answer.send(Err(error.clone()))),
            Wish::All(messages, _, answer) => drop(answer.send(vec![Err(error.clone()); messages.len()])),
        }
    }

    fn cost(&self) -> usize {
        self.messages().iter().map(Message::cost).sum()
    }
}

impl Message {
    fn cost(&self) -> usize {
        // The costs of a publication are those of what it is made from.
        let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        let data = match &self.publish.body {
            tidegate_core::Body::Data(data) => data.len(),
            tidegate_core::Body::Deleted => 0,
        };
        // Twice: in the queue and in the batch.
        size_of::<Publication>() + MESSAGE_COST + 2 * (text(&self.publish.message_id) + text(&self.publish.key) + data)
    }
}

/// Cuts them where a batch would be full.
fn pieces(mut messages: Vec<Message>, batch_bytes: usize) -> Vec<Vec<Message>> {
    let (mut ends, mut bytes) = (Vec::new(), 0);
    for (at, message) in messages.iter().enumerate() {
        bytes += message.cost();
        if bytes >= batch_bytes {
            ends.push(at + 1);
            bytes = 0;
        }
    }
    let mut pieces: Vec<Vec<Message>> = ends.into_iter().rev().map(|end| messages.split_off(end)).collect();
    pieces.push(messages);
    pieces.reverse();
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidegate_core::{Body, ChannelKind, ChannelName, Retention};

    use super::*;

    fn message(number: usize) -> Message {
        let data = Body::Data(Bytes::from(vec![b'x'; 1000]));
        let id = Some(number.to_string().into());
        Message { publish: Publish { channel: ChannelName::new("a").unwrap(), message_id: id, key: None, body: data }, id: None }
    }

    fn request(numbers: std::ops::Range<usize>, sequence: &Arc<Sequence>) -> (Request, oneshot::Receiver<Vec<Outcome>>) {
        let (answer, answered) = oneshot::channel();
        let terms = Terms { kind: ChannelKind::Log, retention: Retention { messages: 1, age: Duration::ZERO, bytes: 1 } };
        (Request { terms, wish: Wish::All(numbers.map(message).collect(), sequence.clone(), answer) }, answered)
    }

    fn numbers<'a>(messages: impl IntoIterator<Item = &'a Message>) -> Vec<usize> {
        messages.into_iter().map(|message| message.publish.message_id.as_ref().unwrap().parse().unwrap()).collect()
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
        assert_eq!((queue.inner.lock().bytes, queue.len()), (0, 0));
    }

    #[test]
    fn a_piece_is_not_more_than_a_batch_and_one_message() {
        for count in 0..20 {
            let pieces = pieces((0..count).map(message).collect(), 10_000);
            assert_eq!(numbers(pieces.iter().flatten()), (0..count).collect::<Vec<_>>());
            assert!(pieces.iter().all(|piece| (1..=4).contains(&piece.len())), "{:?}", pieces.iter().map(Vec::len).collect::<Vec<_>>());
            assert_eq!(pieces.len(), count.div_ceil(4));
        }
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
