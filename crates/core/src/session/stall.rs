//! The write stall: slow is served, stopped is cut.

use std::time::Duration;

use super::timers::Timer;
use super::{Output, Session};
use crate::{CloseCode, Moment};

/// Time for the answer to a measurement, which costs a system call: without one, what is known decides.
const MEASURE_WITHIN: Duration = Duration::from_secs(1);

/// A socket that takes no more.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Stall {
    /// It takes what there is, or nothing waits.
    #[default]
    Flowing,
    /// It is full since, and no byte has gone towards the peer since.
    Blocked {
        since: Moment,
        /// What the kernel held then; unknown until it is measured.
        unsent: Option<u32>,
    },
}

impl Session {
    pub(super) fn blocked(&mut self, now: Moment) {
        if matches!(self.stall, Stall::Flowing) {
            self.watch_stall(now, None);
            self.outputs.push_back(Output::MeasureUnsent);
        }
    }

    pub(super) fn flowed(&mut self, now: Moment, bytes: usize) {
        if bytes > 0 {
            let was_blocked = matches!(std::mem::take(&mut self.stall), Stall::Blocked { .. });
            self.timers.stop(Timer::Stall);
            self.wrote(now, was_blocked);
        }
    }

    /// A number below the last one is progress that no write shows yet.
    pub(super) fn measured(&mut self, now: Moment, unsent: usize) {
        let Stall::Blocked { since, unsent: before } = self.stall else { return };
        let unsent = u32::try_from(unsent).unwrap_or(u32::MAX);
        if before.is_some_and(|before| unsent < before) {
            self.peer_took(now);
            self.watch_stall(now, Some(unsent));
        } else {
            self.stall = Stall::Blocked { since, unsent: Some(unsent) };
            if now >= since + self.settings.outbox.stall {
                self.cut_slow(now);
            }
        }
    }

    /// Half of the time is over, or all of it, or the last measurement was not answered.
    pub(super) fn stall_due(&mut self, now: Moment) {
        let Stall::Blocked { since, .. } = self.stall else { return };
        let deadline = since + self.settings.outbox.stall;
        if now >= deadline + MEASURE_WITHIN {
            return self.cut_slow(now);
        }
        self.outputs.push_back(Output::MeasureUnsent);
        self.timers.set(Timer::Stall, if now >= deadline { deadline + MEASURE_WITHIN } else { deadline });
    }

    /// Ends a session that does not read.
    pub(super) fn cut_slow(&mut self, now: Moment) {
        let code = match self.mode {
            super::Mode::Tidegate => CloseCode::SlowConsumer,
            super::Mode::Raw => CloseCode::PolicyViolation,
        };
        self.close(now, code, None, None);
    }

    fn watch_stall(&mut self, now: Moment, unsent: Option<u32>) {
        self.stall = Stall::Blocked { since: now, unsent };
        self.timers.set(Timer::Stall, now + self.settings.outbox.stall / 2);
    }
}
