//! Alarms of very many connections for the same few moments: a list for each moment, and one sleeper for all of them.
//!
//! A timer of its own costs a connection 128 bytes and, on its way down the runtime's wheel, three visits to memory that nobody has
//! touched for half a minute: of what an idle connection costs that was a tenth.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;
use tidegate_core::Moment;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::sleep_until;

use crate::clock::Clock;

/// Woken in a row before everybody else gets their turn: a millisecond's work, and less than the runtime's queue of its own takes.
const IN_A_ROW: usize = 64;

/// The end of a round's list of free places.
const NONE: Place = Place(u32::MAX);

/// Where an alarm stands in the list of its moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u32);

/// The alarms of a gate's connections.
pub(crate) struct Alarms {
    clock: Clock,
    /// Rings what another runtime that has closed leaves behind.
    home: Handle,
    rounds: Mutex<Rounds>,
    /// The first round is another one than before.
    hurry: Notify,
}

#[derive(Default)]
struct Rounds {
    /// Those to come. As many as there are moments, which are few: pings are due on a grid.
    by_moment: BTreeMap<Moment, Round>,
    /// No alarm can be set for this moment, or an earlier one, any more.
    over: Moment,
    /// There is a task that waits for the first of them.
    is_served: bool,
}

/// All alarms of one moment. What was cleared leaves a place for the next.
struct Round {
    bells: Vec<Bell>,
    free: Place,
}

enum Bell {
    Set(Waker),
    /// Nobody's; the next of these.
    Free(Place),
}

impl Alarms {
    pub(crate) fn new(clock: Clock, home: Handle) -> Self {
        Self { clock, home, rounds: Mutex::default(), hurry: Notify::new() }
    }

    /// Sets an alarm, to be cleared once it is not wanted any more and has not rung. `None` if the moment is over. Where nobody rings
    /// them, a task of the caller's own runtime will.
    pub(super) fn set(self: &Arc<Self>, at: Moment, waker: &Waker) -> Option<Place> {
        let mut rounds = self.rounds.lock();
        let is_first = rounds.first().is_none_or(|first| at < first);
        let place = rounds.set(at, waker)?;
        let was_served = mem::replace(&mut rounds.is_served, true);
        // Without the lock: a runtime that is closing drops what is spawned on the spot, and the task's end locks.
        drop(rounds);
        if !was_served {
            tokio::spawn(Serving::new(self, false).run());
        } else if is_first {
            self.hurry.notify_one();
        }
        Some(place)
    }

    /// Takes an alarm back. Nothing happens if it has rung.
    pub(super) fn clear(&self, at: Moment, place: Place) {
        // Dropped without the lock: with it a whole task may go.
        let waker = self.rounds.lock().clear(at, place);
        drop(waker);
    }

    fn first_unless_done(&self) -> Option<Moment> {
        let mut rounds = self.rounds.lock();
        let first = rounds.first();
        rounds.is_served = first.is_some();
        first
    }

    fn take_due(&self) -> Option<(Moment, Round)> {
        self.rounds.lock().take_due(self.clock.now())
    }
}

/// The task. Ends when there are no alarms.
struct Serving {
    alarms: Arc<Alarms>,
    ringing: Option<(Moment, Round)>,
    /// There were none: those set by now have a task of their own.
    is_over: bool,
    /// Nobody takes over from this one but who sets the next.
    is_last: bool,
}

impl Serving {
    fn new(alarms: &Arc<Alarms>, is_last: bool) -> Self {
        Self { alarms: Arc::clone(alarms), ringing: None, is_over: false, is_last }
    }

    /// Rings, round by round, as long as there are any.
    async fn run(mut self) {
        while let Some(first) = self.alarms.first_unless_done() {
            tokio::select! {
                () = sleep_until(self.alarms.clock.instant(first)) => self.ring_due().await,
                () = self.alarms.hurry.notified() => {}
            }
        }
        self.is_over = true;
    }

    async fn ring_due(&mut self) {
        loop {
            self.ringing = self.alarms.take_due();
            let Some((_, round)) = &mut self.ringing else { return };
            round.ring().await;
        }
    }
}

impl Drop for Serving {
    /// With its runtime, or by a panic: the gate's runtime goes on for whoever still waits. If that is closed too, there is only the next who
    /// sets an alarm.
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut rounds = self.alarms.rounds.lock();
        rounds.by_moment.extend(self.ringing.take());
        rounds.is_served = !self.is_last && rounds.first().is_some();
        let goes_on = rounds.is_served;
        drop(rounds);
        if goes_on {
            self.alarms.home.spawn(Self::new(&self.alarms, true).run());
        }
    }
}

impl Rounds {
    fn first(&self) -> Option<Moment> {
        self.by_moment.first_key_value().map(|(&at, _)| at)
    }

    fn set(&mut self, at: Moment, waker: &Waker) -> Option<Place> {
        if at <= self.over {
            return None;
        }
        self.by_moment.entry(at).or_insert(Round { bells: Vec::new(), free: NONE }).set(waker.clone())
    }

    fn clear(&mut self, at: Moment, place: Place) -> Option<Waker> {
        self.by_moment.get_mut(&at)?.clear(place)
    }

    fn take_due(&mut self, now: Moment) -> Option<(Moment, Round)> {
        let first = self.by_moment.first_entry().filter(|first| *first.key() <= now)?;
        let (at, round) = first.remove_entry();
        // Nobody finds another's alarm in the place of one that has rung.
        self.over = self.over.max(at);
        Some((at, round))
    }
}

impl Round {
    fn set(&mut self, waker: Waker) -> Option<Place> {
        if self.free != NONE {
            let place = self.free;
            let Bell::Free(next) = mem::replace(&mut self.bells[place.0 as usize], Bell::Set(waker)) else { return None };
            self.free = next;
            return Some(place);
        }
        let place = u32::try_from(self.bells.len()).ok().map(Place).filter(|&place| place != NONE)?;
        self.bells.push(Bell::Set(waker));
        Some(place)
    }

    fn clear(&mut self, place: Place) -> Option<Waker> {
        let bell = self.bells.get_mut(place.0 as usize)?;
        match mem::replace(bell, Bell::Free(self.free)) {
            Bell::Set(waker) => {
                self.free = place;
                Some(waker)
            }
            free @ Bell::Free(_) => {
                *bell = free;
                None
            }
        }
    }

    /// What has rung leaves a place for nobody: its moment is over.
    async fn ring(&mut self) {
        for (count, bell) in (1..).zip(&mut self.bells) {
            if let Bell::Set(waker) = mem::replace(bell, Bell::Free(NONE)) {
                waker.wake();
            }
            if count % IN_A_ROW == 0 {
                yield_now().await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
