//! A driver's alarm: when it is to be polled though nothing happened.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;

use tidegate_core::Moment;
use tidegate_core::session::PING_GRID;
use tokio::task::unconstrained;
use tokio::time::{Sleep, sleep_until};

use super::super::Outside;
use super::super::alarms::Place;

/// The earliest moment asked for since it last rang. Moved only forwards in time, so that most turns don't touch it.
pub(super) struct Alarm {
    at: Moment,
    bell: Bell,
}

enum Bell {
    None,
    /// Pings are due when those of many others are.
    Shared(Place),
    Own(Pin<Box<Sleep>>),
}

impl Alarm {
    pub(super) const fn new() -> Self {
        Self { at: Moment::NEVER, bell: Bell::None }
    }

    /// Whether it rings at this moment or before.
    pub(super) fn is_set_for(&self, at: Moment) -> bool {
        self.at <= at
    }

    /// Sets it to an earlier moment. An own one has to be asked whether it rings before it wakes anybody.
    pub(super) fn set(&mut self, cx: &Context<'_>, at: Moment, outside: &Arc<dyn Outside>) {
        self.clear(outside);
        self.at = at;
        let is_shared = at.as_ms().is_multiple_of(PING_GRID.as_millis() as u64);
        if is_shared && let Some(place) = outside.alarms().set(at, cx.waker()) {
            self.bell = Bell::Shared(place);
            return;
        }
        let instant = outside.clock().instant(at);
        match &mut self.bell {
            Bell::Own(sleep) => sleep.as_mut().reset(instant),
            bell => *bell = Bell::Own(Box::pin(sleep_until(instant))),
        }
    }

    /// Whether it rings, and once only.
    pub(super) fn rings(&mut self, cx: &mut Context<'_>, now: Moment, outside: &Arc<dyn Outside>) -> bool {
        let rings = match &mut self.bell {
            Bell::None => false,
            Bell::Shared(_) => self.at <= now,
            // Unconstrained: with the task's budget used up the poll would come to nothing, and the alarm not be set.
            Bell::Own(sleep) => Pin::new(&mut unconstrained(sleep.as_mut())).poll(cx).is_ready(),
        };
        if rings {
            self.clear(outside);
            self.at = Moment::NEVER;
        }
        rings
    }

    /// A shared one is taken back, unless it has rung. An own one is left: at worst it wakes for nothing.
    pub(super) fn clear(&mut self, outside: &Arc<dyn Outside>) {
        if let Bell::Shared(place) = self.bell {
            outside.alarms().clear(self.at, place);
            self.bell = Bell::None;
        }
    }
}
