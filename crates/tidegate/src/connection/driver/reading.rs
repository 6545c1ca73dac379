//! Reading: from the socket to the session, in bounded steps, no further than session and application can follow.

use std::cell::RefCell;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tidegate_core::Moment;
use tidegate_core::session::{Input, Session};
use tokio::io::ReadBuf;

use super::super::frames::{Progress, Received};
use super::super::raw::Inbox;
use super::{Driver, Step};

/// Bytes read in one turn, into a buffer that the thread's connections share: an idle connection has none.
const READ_BYTES: usize = 64 * 1024;

/// Less than this is not worth a read of its own.
const LARGE_BYTES: usize = 4 * 1024;

/// Frames decoded in one turn: a flood of empty ones is work for the sender as much as for us, and the others get their turn.
const FRAMES_PER_TURN: u32 = 1024;

/// What of a peer that is not understood any more is thrown away in a row, and how long the socket is left alone after that. Who is well and
/// only wrong ends within the first; who floods meets a window that is closed most of the time, and costs four reads a second.
const DISCARDED_IN_A_ROW: usize = 64 * 1024;
const DISCARD_PAUSE: Duration = Duration::from_millis(250);

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

/// What most connections never have: in one box, since an idle one pays for each field.
pub(super) enum Aside {
    /// What was read and can't be handled yet: the session or the application has enough to do.
    Unread(Bytes),
    /// What was thrown away since the last pause, of a peer that is not understood any more.
    Discarded(usize),
    /// And the end of the pause.
    Pausing(Moment),
}

impl Aside {
    /// When reading goes on.
    pub(super) const fn resumes(&self) -> Option<Moment> {
        match self {
            Self::Pausing(until) => Some(*until),
            Self::Unread(_) | Self::Discarded(_) => None,
        }
    }
}

/// What the session takes now.
#[derive(Clone, Copy)]
pub(super) struct Appetite {
    pub(super) wants_read: bool,
    message_limit: usize,
}

impl Appetite {
    pub(super) fn of(session: &Session) -> Self {
        Self { wants_read: session.wants_read(), message_limit: session.message_limit() }
    }
}

impl Driver {
    pub(super) fn read(&mut self, cx: &mut Context<'_>, now: Moment, appetite: Appetite) -> Step {
        if self.ending.is_some() || !self.may_read(appetite.wants_read) || self.pauses_discarding(now) {
            return Step::Idle;
        }
        if self.has_unread() && self.answers_wait() {
            return Step::Moved;
        }
        if let Some(mut rest) = self.take_unread() {
            let taken = self.take_in(&rest, now, appetite);
            rest.advance(taken);
            if !rest.is_empty() {
                self.set_aside(Aside::Unread(rest));
            }
            return if taken > 0 { Step::Moved } else { Step::Idle };
        }
        SCRATCH.with_borrow_mut(|scratch| self.read_into(cx, now, appetite, scratch))
    }

    /// Answers go out before more is taken in, as long as the socket takes them: so each of several pings gets its pong.
    fn answers_wait(&self) -> bool {
        self.unwritten.is_none() && self.port.lock().wants_answered()
    }

    fn may_read(&self, wants_read: bool) -> bool {
        match self.read {
            Read::Open => wants_read && !self.port.inbox().is_some_and(Inbox::is_full),
            Read::Discarding => true,
            Read::Ended => false,
        }
    }

    pub(super) fn has_unread(&self) -> bool {
        matches!(self.aside.as_deref(), Some(Aside::Unread(_)))
    }

    fn take_unread(&mut self) -> Option<Bytes> {
        match self.aside.as_deref_mut() {
            Some(Aside::Unread(rest)) => {
                let rest = std::mem::take(rest);
                self.aside = None;
                Some(rest)
            }
            _ => None,
        }
    }

    fn set_aside(&mut self, aside: Aside) {
        self.aside = Some(Box::new(aside));
    }

    fn pauses_discarding(&mut self, now: Moment) -> bool {
        let pauses = self.aside.as_ref().and_then(|aside| aside.resumes());
        if pauses.is_some_and(|until| until <= now) {
            self.aside = None;
        }
        pauses.is_some_and(|until| until > now)
    }

    fn discarded(&mut self, bytes: usize, now: Moment) {
        let before = if let Some(Aside::Discarded(bytes)) = self.aside.as_deref() { *bytes } else { 0 };
        let is_enough = before + bytes >= DISCARDED_IN_A_ROW;
        self.set_aside(if is_enough { Aside::Pausing(now + DISCARD_PAUSE) } else { Aside::Discarded(before + bytes) });
    }

    fn read_into(&mut self, cx: &mut Context<'_>, now: Moment, appetite: Appetite, scratch: &mut [u8]) -> Step {
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
            let taken = self.take_in(received, now, appetite);
            if taken < received.len() && self.read == Read::Open {
                self.set_aside(Aside::Unread(Bytes::copy_from_slice(&received[taken..])));
            }
        } else {
            self.discarded(received.len(), now);
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
    fn take_in(&mut self, bytes: &[u8], now: Moment, mut appetite: Appetite) -> usize {
        let mut rest = bytes;
        let mut frames = 0;
        while !rest.is_empty() && self.read == Read::Open && frames < FRAMES_PER_TURN {
            self.codec.limit_messages(appetite.message_limit);
            let progress = self.codec.receive(&mut rest);
            frames += progress.frames;
            let is_whole = progress.received.is_some();
            let may_go_on;
            (appetite, may_go_on) = self.take_progress(progress, now);
            if !is_whole || !may_go_on || !self.may_read(appetite.wants_read) {
                break;
            }
        }
        if self.read == Read::Open { bytes.len() - rest.len() } else { bytes.len() }
    }

    /// Tells the session what was decoded, in one go under its lock. Says what it takes now, and whether reading on may come
    /// before writing: each ping's answer goes out before more is taken in.
    fn take_progress(&mut self, progress: Progress, now: Moment) -> (Appetite, bool) {
        let mut state = self.port.lock();
        let session = &mut state.session;
        session.handle(now, Input::Frames { count: progress.frames, assembling: self.codec.is_assembling() });
        let (mut is_ping, mut raw) = (false, None);
        match progress.received {
            None => {}
            Some(Received::Commands(commands)) => commands.into_iter().for_each(|command| session.handle(now, Input::Message(command))),
            Some(Received::Raw(message)) => {
                session.handle(now, Input::RawReceived);
                raw = Some(message);
            }
            Some(Received::Ping(payload)) => {
                session.handle(now, Input::PeerPing(payload));
                is_ping = true;
            }
            Some(Received::Pong) => session.handle(now, Input::PeerPong),
            Some(Received::Close(code)) => session.handle(now, Input::PeerClosed(code)),
            Some(Received::Violation(code, reason)) => {
                self.read = Read::Discarding;
                session.handle(now, Input::Violation(code, reason));
                if !self.port.inbox().is_some_and(Inbox::asks_for_answers) {
                    session.handle(now, Input::RawAnswered);
                }
            }
        }
        let appetite = Appetite::of(session);
        let may_go_on = !(is_ping && self.unwritten.is_none() && state.wants_answered());
        drop(state);
        if let (Some(message), Some(inbox)) = (raw, self.port.inbox()) {
            inbox.put(message);
        }
        (appetite, may_go_on)
    }
}
