//! The farewell: what was said before the end is written before the close frame, within a deadline.

use std::time::Duration;

use super::timers::Timer;
use super::{Mode, Session, State};
use crate::{CloseCode, Moment};

/// How long a raw application may still answer what came before a violation. Enough for an answer out of memory or from a
/// database nearby; so little that who breaks the protocol gains nothing by it.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// A flush under way, and the close frame that follows it.
#[derive(Debug)]
pub(super) struct Farewell {
    code: CloseCode,
    retry_ms: Option<u64>,
    reason: Option<Box<str>>,
    /// The application has not said yet all that it has to say.
    answering: bool,
    /// Only what came before a violation is answered: the peer is not listened to any more.
    deaf: bool,
    /// The peer's side of the TCP connection has ended; it may still read.
    hung_up: bool,
}

impl Farewell {
    pub(super) const fn new(code: CloseCode, retry_ms: Option<u64>, reason: Option<Box<str>>) -> Self {
        Self { code, retry_ms, reason, answering: false, deaf: false, hung_up: false }
    }

    /// Whether what the peer sends matters.
    pub(super) const fn listens(&self) -> bool {
        !self.deaf
    }
}

impl Session {
    /// Nothing more is taken; what waits has until the close deadline to be written. Of two farewells the first holds.
    pub(super) fn part(&mut self, now: Moment, farewell: Farewell) {
        match &mut self.state {
            State::Flushing(under_way) => under_way.answering = false,
            _ => self.flush(now, farewell, self.settings.limits.close),
        }
    }

    /// The peer broke the protocol. What a raw application was handed before that, it may still answer; sessions of the protocol
    /// close at once, since their client knows what was not answered and asks again.
    pub(super) fn violated(&mut self, now: Moment, code: CloseCode, reason: &str) {
        if self.mode == Mode::Tidegate {
            return self.close(now, code, None, Some(reason));
        }
        let answering = self.state.is_open();
        let farewell = Farewell { answering, deaf: true, ..Farewell::new(code, None, Some(reason.into())) };
        self.flush(now, farewell, ANSWER_WITHIN.min(self.settings.limits.close));
    }

    /// The application has taken all there was and asks for more.
    pub(super) fn answered(&mut self) {
        if let State::Flushing(farewell) = &mut self.state {
            farewell.answering = false;
        }
    }

    /// Whether a raw application may send.
    pub(super) fn takes_raw(&self) -> bool {
        match &self.state {
            State::Open => true,
            State::Flushing(farewell) => farewell.answering,
            _ => false,
        }
    }

    /// Whether a hang-up leaves something to be said: who breaks the protocol and ends its side may still read why it is closed.
    pub(super) fn outlives_hang_up(&mut self) -> bool {
        match &mut self.state {
            // A second time it is the writing that failed.
            State::Flushing(farewell) => farewell.deaf && !std::mem::replace(&mut farewell.hung_up, true),
            _ => false,
        }
    }

    /// Closes a session that is leaving, once nothing waits any more.
    pub(super) fn close_if_flushed(&mut self, now: Moment) {
        if matches!(&self.state, State::Flushing(farewell) if !farewell.answering) && !self.outbox.has_next() {
            self.close_flushed(now);
        }
    }

    /// The flush is over, or its time is.
    pub(super) fn close_flushed(&mut self, now: Moment) {
        let State::Flushing(farewell) = &mut self.state else { return };
        let (code, retry_ms, hung_up) = (farewell.code, farewell.retry_ms, farewell.hung_up);
        let reason = farewell.reason.take();
        self.close(now, code, retry_ms, reason.as_deref());
        self.keep_what_was_taken();
        if hung_up {
            self.expect_no_answer();
        }
    }

    fn flush(&mut self, now: Moment, farewell: Farewell, within: Duration) {
        self.state = State::Flushing(Box::new(farewell));
        self.backlog = None;
        self.depart = None;
        self.timers.stop(Timer::Assemble);
        self.timers.set(Timer::Depart, now + within);
        self.close_if_flushed(now);
    }
}
