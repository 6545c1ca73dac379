//! All timers of a session in one table: set, stopped, and the next one due.

use crate::Moment;

/// What a session may wait for, in the order in which timers that are due together are looked at: what ends it comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

    const fn place(self) -> Place {
        match self {
            Self::Authority => Place::Lasting(0),
            Self::Dead => Place::Lasting(1),
            Self::Ping => Place::Lasting(2),
            Self::AppPing => Place::Lasting(3),
            Self::Close => Place::Passing(0),
            Self::Authenticate => Place::Passing(1),
            Self::Depart => Place::Passing(2),
            Self::Stall => Place::Passing(3),
            Self::Assemble => Place::Passing(4),
            Self::Idle => Place::Passing(5),
            Self::Age => Place::Passing(6),
            Self::Retry => Place::Passing(7),
        }
    }
}

/// Where a timer stands in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Set in every session that only stays.
    Lasting(usize),
    /// Set for a while, or where the settings ask for it.
    Passing(usize),
}

const LASTING: usize = 4;
const PASSING: usize = 8;

/// When each of them is due. Eight bytes per timer, no list to keep in order: a dozen is quicker scanned than sorted. Those that are
/// not set in a session at rest have their memory only while one of them is.
#[derive(Debug)]
pub(super) struct Timers {
    lasting: [Moment; LASTING],
    passing: Option<Box<[Moment; PASSING]>>,
}

impl Timers {
    pub(super) const fn new() -> Self {
        Self { lasting: [Moment::NEVER; LASTING], passing: None }
    }

    pub(super) fn set(&mut self, timer: Timer, at: Moment) {
        match timer.place() {
            Place::Lasting(place) => self.lasting[place] = at,
            Place::Passing(place) => self.passing.get_or_insert_with(|| Box::new([Moment::NEVER; PASSING]))[place] = at,
        }
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        match timer.place() {
            Place::Lasting(place) => self.lasting[place] = Moment::NEVER,
            Place::Passing(place) => {
                let Some(passing) = &mut self.passing else { return };
                passing[place] = Moment::NEVER;
                if passing.iter().all(|&at| at == Moment::NEVER) {
                    self.passing = None;
                }
            }
        }
    }

    pub(super) fn stop_all(&mut self) {
        *self = Self::new();
    }

    pub(super) fn get(&self, timer: Timer) -> Option<Moment> {
        let at = match timer.place() {
            Place::Lasting(place) => self.lasting[place],
            Place::Passing(place) => self.passing.as_ref()?[place],
        };
        Some(at).filter(|&at| at != Moment::NEVER)
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.get(timer).is_some()
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Moment> {
        let passing = self.passing.iter().flat_map(|passing| passing.iter());
        self.lasting.iter().chain(passing).copied().min().filter(|&at| at != Moment::NEVER)
    }

    /// Stops and gives one that is due.
    pub(super) fn expire(&mut self, now: Moment) -> Option<Timer> {
        let timer = Timer::ALL.into_iter().find(|&timer| self.get(timer).is_some_and(|at| at <= now))?;
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
        let mut timers = Timers::new();
        for (ms, timer) in (1..).zip(Timer::ALL) {
            timers.set(timer, Moment::from_ms(ms));
        }
        for (ms, timer) in (1..).zip(Timer::ALL) {
            assert_eq!(timers.get(timer), Some(Moment::from_ms(ms)), "{timer:?}");
        }
    }

    #[test]
    fn a_session_at_rest_has_no_memory_for_timers_that_pass() {
        let mut timers = Timers::new();
        for timer in [Timer::Authority, Timer::Dead, Timer::Ping, Timer::AppPing] {
            timers.set(timer, Moment::from_ms(1000));
        }
        assert!(timers.passing.is_none());
        for timer in [Timer::Authenticate, Timer::Stall] {
            timers.set(timer, Moment::from_ms(1));
        }
        timers.stop(Timer::Stall);
        assert!(timers.is_set(Timer::Authenticate) && !timers.is_set(Timer::Stall));
        assert_eq!(timers.expire(Moment::from_ms(1)), Some(Timer::Authenticate));
        assert!(timers.passing.is_none());
    }
}
