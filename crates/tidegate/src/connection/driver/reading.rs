//! Reading: from the socket to the session, in bounded steps, no further than session and application can follow.

use std::cell::RefCell;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tidegate_core::Moment;
use tidegate_core::session::Input;
use tokio::io::ReadBuf;

use super::super::frames::Received;
use super::super::raw::Inbox;
use super::{Driver, Step};

/// Bytes read in one turn, into a buffer that the thread's connections share: an idle connection has none.
const READ_BYTES: usize = 64 * 1024;

/// Less than this is not worth a read of its own.
const LARGE_BYTES: usize = 4 * 1024;

/// Frames decoded in one turn: a flood of empty ones is work for the sender as much as for us, and the others get their turn.
const FRAMES_PER_TURN: u32 = 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

/// The reading side of the socket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    Open,
    /// The peer broke the protocol, or floods: what it still sends is thrown away, so that our close frame is not lost to a reset.
    Discarding,
    /// The peer's side has ended.
    Ended,
}

impl Driver {
    pub(super) fn read(&mut self, cx: &mut Context<'_>, now: Moment, wants_read: bool) -> Step {
        if self.ending.is_some() || !self.may_read(wants_read) {
            return Step::Idle;
        }
        if self.unread.is_some() && self.answers_wait() {
            return Step::Moved;
        }
        if let Some(mut rest) = self.unread.take() {
            let taken = self.take_in(&rest, now);
            rest.advance(taken);
            if !rest.is_empty() {
                self.unread = Some(rest);
            }
            return if taken > 0 { Step::Moved } else { Step::Idle };
        }
        SCRATCH.with_borrow_mut(|scratch| self.read_into(cx, now, scratch))
    }

    /// Answers go out before more is taken in, as long as the socket takes them: so each of several pings gets its pong.
    fn answers_wait(&self) -> bool {
        let state = self.port.lock();
        self.unwritten.is_none() && !state.blocked && state.session.wants_write()
    }

    fn may_read(&self, wants_read: bool) -> bool {
        match self.read {
            Read::Open => wants_read && !self.port.inbox().is_some_and(Inbox::is_full),
            Read::Discarding => true,
            Read::Ended => false,
        }
    }

    fn read_into(&mut self, cx: &mut Context<'_>, now: Moment, scratch: &mut [u8]) -> Step {
        let mut buffer = ReadBuf::new(&mut scratch[..self.read_bytes()]);
        let outcome = match self.socket.poll_read(cx, &mut buffer) {
            Poll::Pending => return Step::Idle,
            Poll::Ready(outcome) => outcome,
        };
        let received = buffer.filled();
        if outcome.is_err() || received.is_empty() {
            self.read = Read::Ended;
            self.port.lock().session.handle(now, Input::Disconnected);
        } else if self.read == Read::Open {
            let taken = self.take_in(received, now);
            if taken < received.len() && self.read == Read::Open {
                self.unread = Some(Box::new(Bytes::copy_from_slice(&received[taken..])));
            }
        }
        Step::Moved
    }

    /// A large frame is read to its end and no further: if it is enough for the session or the application, nothing has to be kept.
    fn read_bytes(&self) -> usize {
        match self.codec.remaining() {
            remaining if remaining < LARGE_BYTES => READ_BYTES,
            remaining => remaining.min(READ_BYTES),
        }
    }

    /// Decodes until the bytes are used up or the session or the application has enough to do. Says how many bytes it used.
    fn take_in(&mut self, bytes: &[u8], now: Moment) -> usize {
        let mut rest = bytes;
        let mut frames = 0;
        while !rest.is_empty() && self.read == Read::Open && frames < FRAMES_PER_TURN {
            self.codec.limit_messages(self.port.lock().session.message_limit());
            let step = self.codec.receive(&mut rest);
            frames += step.frames;
            self.port.lock().session.handle(now, Input::Frames { count: step.frames, assembling: self.codec.is_assembling() });
            let Some(received) = step.received else { break };
            let is_ping = matches!(received, Received::Ping(_));
            self.take_received(received, now);
            if is_ping && self.answers_wait() {
                break;
            }
            let wants_read = self.port.lock().session.wants_read();
            if !self.may_read(wants_read) {
                break;
            }
        }
        self.port.lock().last_received = now;
        if self.read == Read::Open { bytes.len() - rest.len() } else { bytes.len() }
    }

    fn take_received(&mut self, received: Received, now: Moment) {
        let mut state = self.port.lock();
        match received {
            Received::Commands(commands) => commands.into_iter().for_each(|command| state.session.handle(now, Input::Message(command))),
            Received::Raw(message) => {
                state.session.handle(now, Input::RawReceived);
                drop(state);
                if let Some(inbox) = self.port.inbox() {
                    inbox.put(message);
                }
            }
            Received::Ping(payload) => state.session.handle(now, Input::PeerPing(payload)),
            Received::Pong => state.session.handle(now, Input::PeerPong),
            Received::Close(code) => state.session.handle(now, Input::PeerClosed(code)),
            Received::Violation(code, reason) => {
                self.read = Read::Discarding;
                state.session.handle(now, Input::Violation(code, reason));
            }
        }
    }
}
