//! Leaving in good order: a slot, an announcement, a grace, a farewell.

use std::time::Duration;

use super::farewell::Farewell;
use super::timers::Timer;
use super::{Mode, Session, State};
use crate::message::{DepartReason, ServerMessage};
use crate::{CloseCode, Moment};

/// How long a session that reached its maximum age may stay after it was told: what a drain gives by default.
const MAX_AGE_GRACE: Duration = Duration::from_secs(10);

/// A departure that was ordered.
#[derive(Debug)]
pub(super) struct Departure {
    reason: DepartReason,
    grace: Duration,
    /// When the grace is over.
    until: Moment,
    retry_ms: Option<u64>,
    /// Whether the slot has come.
    begun: bool,
}

impl Session {
    /// Orders a departure. Of two, the one with the earlier deadline holds.
    pub(super) fn order_departure(&mut self, now: Moment, reason: DepartReason, at: Moment, grace: Duration, retry_ms: Option<u64>) {
        let until = at + grace;
        if matches!(self.state, State::Flushing(_)) || self.depart.as_ref().is_some_and(|departure| departure.until <= until) {
            return;
        }
        let begun = self.depart.as_ref().is_some_and(|departure| departure.begun);
        self.depart = Some(Box::new(Departure { reason, grace, until, retry_ms, begun }));
        self.timers.set(Timer::Depart, if begun { until } else { at });
        if !begun && at <= now {
            self.timers.stop(Timer::Depart);
            self.depart_due(now);
        }
    }

    /// The slot, the end of the grace, or the end of the flush.
    pub(super) fn depart_due(&mut self, now: Moment) {
        if matches!(self.state, State::Flushing(_)) {
            return self.close_flushed(now);
        }
        let Some(departure) = &mut self.depart else { return };
        if departure.begun || self.mode == Mode::Raw || matches!(self.state, State::Opening) {
            return self.leave(now);
        }
        departure.begun = true;
        let (reason, grace, until) = (departure.reason, departure.grace, departure.until);
        let deadline_ms = until.since(now).min(grace).as_millis() as u64;
        self.outbox.control.tell(ServerMessage::GoingAway { reason, reconnect_after_ms: 0, deadline_ms, handover: None });
        self.timers.set(Timer::Depart, until.max(now));
    }

    pub(super) fn age_due(&mut self, now: Moment) {
        self.order_departure(now, DepartReason::MaxAge, now, MAX_AGE_GRACE, None);
    }

    /// The grace is over.
    fn leave(&mut self, now: Moment) {
        let Some(departure) = self.depart.take() else { return };
        let code = match (self.mode, departure.reason) {
            (Mode::Raw, _) => CloseCode::GoingAway,
            (_, DepartReason::Drain) => CloseCode::Draining,
            (_, DepartReason::Rebalance) => CloseCode::Rebalance,
            (_, DepartReason::MaxAge) => CloseCode::MaxAge,
        };
        let retry_ms = departure.retry_ms.filter(|_| self.mode == Mode::Tidegate);
        self.part(now, Farewell::new(code, retry_ms, None));
    }
}
