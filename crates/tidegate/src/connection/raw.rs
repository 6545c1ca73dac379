//! A guarded socket for a team's own messages: the application's end of it.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tidegate_core::session::Input;
use tidegate_core::{CloseCode, ConnectionId};
use tokio::sync::Notify;

use super::Port;
use crate::budget::Budget;
use crate::clock::Clock;

/// Messages that wait for the application before the socket is read no further: enough to keep it busy, and TCP carries the
/// pressure back to the peer.
const INBOX_MESSAGES: usize = 16;

/// Bytes that wait for it before that, beside the message that reaches this bound: large messages come one by one, so that they
/// cost a connection little beyond its outbox.
const INBOX_BYTES: usize = 16 * 1024;

/// A whole message, as RFC 6455 knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawMessage {
    /// UTF-8, checked.
    Text(Bytes),
    /// Anything.
    Binary(Bytes),
}

impl RawMessage {
    /// Its bytes.
    pub const fn data(&self) -> &Bytes {
        match self {
            Self::Text(data) | Self::Binary(data) => data,
        }
    }
}

/// The connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection is closed")]
pub struct Closed;

/// The application's end of a guarded socket. Dropping it closes the connection with 1000, once what it sent is written.
///
/// If the peer breaks the protocol, the messages before that are still handed out and what is sent in answer is written before the
/// close frame: until [`RawSocket::recv`] is called with nothing left to hand out, for half a second at most.
#[derive(Debug)]
pub struct RawSocket {
    port: Arc<Port>,
    clock: Clock,
    budget: Arc<Budget>,
}

impl RawSocket {
    pub(crate) const fn new(port: Arc<Port>, clock: Clock, budget: Arc<Budget>) -> Self {
        Self { port, clock, budget }
    }

    /// The connection's id.
    pub fn id(&self) -> ConnectionId {
        self.port.id()
    }

    /// The client's address, past trusted proxies.
    pub fn address(&self) -> IpAddr {
        self.port.facts().address
    }

    /// The next message; `None` once the connection is over. Dropping the future loses nothing.
    pub async fn recv(&self) -> Option<RawMessage> {
        let inbox = self.port.inbox()?;
        loop {
            let arrived = inbox.arrived.notified();
            match inbox.take() {
                Taken::Message { message, had_been_full } => {
                    if had_been_full {
                        self.port.tell(self.clock.now(), Input::Frames { count: 0, assembling: false });
                    }
                    return Some(message);
                }
                Taken::Over => return None,
                Taken::Nothing { had_been_asked } => {
                    if had_been_asked {
                        self.port.tell(self.clock.now(), Input::RawAnswered);
                    }
                    arrived.await;
                }
            }
        }
    }

    /// Sends a message once the outbox has room for it: besides what waits, it keeps room for three inbound messages, so that its
    /// size bounds what a connection holds in both directions. A message too large for that goes once nothing else waits. Dropping
    /// the future before it is done sends nothing.
    ///
    /// # Errors
    /// The connection is over.
    pub async fn send(&self, message: RawMessage) -> Result<(), Closed> {
        let inbox = self.port.inbox().ok_or(Closed)?;
        let (is_text, data) = match message {
            RawMessage::Text(data) => (true, data),
            RawMessage::Binary(data) => (false, data),
        };
        let data = self.budget.charge(data, 0);
        loop {
            let room = inbox.room.notified();
            match self.port.send_raw(self.clock.now(), is_text, &data) {
                Sent::Yes => return Ok(()),
                Sent::Closed => return Err(Closed),
                Sent::Full => room.await,
            }
        }
    }

    /// Begins to close with this code and reason text (at most 123 bytes; more is cut). What was sent before is written first, as
    /// far as the peer takes it within the close deadline.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.port.tell(self.clock.now(), Input::RawClose { code, reason: Some(reason.into()) });
    }
}

impl Drop for RawSocket {
    fn drop(&mut self) {
        let code = if std::thread::panicking() { CloseCode::Internal } else { CloseCode::Normal };
        self.port.tell(self.clock.now(), Input::RawClose { code, reason: None });
    }
}

/// What became of a message that was to be sent.
pub(super) enum Sent {
    Yes,
    Full,
    Closed,
}

/// What the driver has read and the application has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    queue: Mutex<Queue>,
    arrived: Notify,
    room: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<RawMessage>,
    bytes: usize,
    over: bool,
    /// The application has been given something since it last found nothing here: it may be about to answer.
    busy: bool,
    /// The driver wants to be told when that is over.
    asked: bool,
}

enum Taken {
    Message { message: RawMessage, had_been_full: bool },
    Nothing { had_been_asked: bool },
    Over,
}

impl Inbox {
    /// Whether the application is to catch up before more is read.
    pub(super) fn is_full(&self) -> bool {
        self.queue.lock().is_full()
    }

    pub(super) fn put(&self, message: RawMessage) {
        let mut queue = self.queue.lock();
        queue.bytes += message.data().len();
        queue.messages.push_back(message);
        queue.busy = true;
        drop(queue);
        self.arrived.notify_one();
    }

    /// Whether the application may still answer what arrived. If so, [`Input::RawAnswered`] comes when it asks for more.
    pub(super) fn asks_for_answers(&self) -> bool {
        let mut queue = self.queue.lock();
        queue.asked = queue.busy;
        queue.busy
    }

    /// Lets a sender try again.
    pub(super) fn give_room(&self) {
        self.room.notify_waiters();
    }

    /// The connection is over: what has arrived can still be taken.
    pub(super) fn end(&self) {
        self.queue.lock().over = true;
        self.arrived.notify_waiters();
        self.arrived.notify_one();
        self.room.notify_waiters();
    }

    fn take(&self) -> Taken {
        let mut queue = self.queue.lock();
        let had_been_full = queue.is_full();
        match queue.messages.pop_front() {
            Some(message) => {
                queue.bytes -= message.data().len();
                Taken::Message { message, had_been_full: had_been_full && !queue.is_full() }
            }
            None if queue.over => Taken::Over,
            None => {
                queue.busy = false;
                Taken::Nothing { had_been_asked: std::mem::take(&mut queue.asked) }
            }
        }
    }
}

impl Queue {
    fn is_full(&self) -> bool {
        self.messages.len() >= INBOX_MESSAGES || self.bytes >= INBOX_BYTES
    }
}
