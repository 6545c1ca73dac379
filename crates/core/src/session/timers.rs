//! All timers of a session in one table: set, stopped, and the next one due.

use crate::Moment;

/// What a session may wait for, in the order in which timers that are due together are looked at: what ends it comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Timer {
    /// The end of the close handshake.
    Close,
    /// The end of the time to authenticate.
    Authenticate,
    /// The next step of an authority that ends: the request to renew it, then its end.
    Authority,
    /// The next step of a departure: its slot, the end of its grace, the end of its flush.
    Depart,
    /// The next look at a write that makes no progress.
    Stall,
    /// The end of the time for a fragmented message.
    Assemble,
    /// The peer counts as dead, if it was not heard of since this was set.
    Dead,
    /// The next protocol ping, if it can't be skipped.
    Ping,
    /// The next application ping.
    AppPing,
    /// The idle hard stop, if nothing was said since this was set.
    Idle,
    /// The maximum age.
    Age,
    /// The next try of a subscription whose broker failed.
    Retry,
}

impl Timer {
    const ALL: [Self; 12] = [
        Self::Close,
        Self::Authenticate,
        Self::Authority,
        Self::Depart,
        Self::Stall,
        Self::Assemble,
        Self::Dead,
        Self::Ping,
        Self::AppPing,
        Self::Idle,
        Self::Age,
        Self::Retry,
    ];
}

/// When each of them is due. Eight bytes per timer, no list to keep in order: a dozen is quicker scanned than sorted.
#[derive(Debug)]
pub(super) struct Timers([Moment; Timer::ALL.len()]);

const NEVER: Moment = Moment::from_ms(u64::MAX);

impl Timers {
    pub(super) const fn new() -> Self {
        Self([NEVER; Timer::ALL.len()])
    }

    pub(super) fn set(&mut self, timer: Timer, at: Moment) {
        self.0[timer as usize] = at;
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = NEVER;
    }

    pub(super) fn stop_all(&mut self) {
        *self = Self::new();
    }

    pub(super) fn get(&self, timer: Timer) -> Option<Moment> {
        Some(self.0[timer as usize]).filter(|&at| at != NEVER)
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.get(timer).is_some()
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Moment> {
        self.0.iter().copied().min().filter(|&at| at != NEVER)
    }

    /// Stops and gives one that is due.
    pub(super) fn expire(&mut self, now: Moment) -> Option<Timer> {
        let timer = Timer::ALL.into_iter().find(|&timer| self.0[timer as usize] <= now && self.is_set(timer))?;
        self.stop(timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_is_next_and_each_expires_once() {
        let mut timers = Timers::new();
        assert_eq!(timers.next(), None);
        timers.set(Timer::Ping, Moment::from_ms(20));
        timers.set(Timer::Dead, Moment::from_ms(10));
        timers.set(Timer::Close, Moment::from_ms(20));
        assert_eq!(timers.next(), Some(Moment::from_ms(10)));
        assert_eq!(timers.expire(Moment::from_ms(9)), None);
        assert_eq!(timers.expire(Moment::from_ms(20)), Some(Timer::Close));
        assert_eq!(timers.expire(Moment::from_ms(20)), Some(Timer::Dead));
        assert_eq!(timers.expire(Moment::from_ms(20)), Some(Timer::Ping));
        assert_eq!(timers.expire(Moment::from_ms(u64::MAX)), None);
    }

    #[test]
    fn the_table_has_a_place_for_each() {
        for (place, timer) in Timer::ALL.into_iter().enumerate() {
            assert_eq!(timer as usize, place);
        }
    }
}
