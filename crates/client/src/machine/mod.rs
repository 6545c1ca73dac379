//! The connection as a state machine: no socket, no timer, no clock, no random source of its own. Time comes in as `now` in
//! milliseconds, inputs go in by [`Machine::handle`], and what is to be done comes out of [`Machine::poll`].
//!
//! Each concern has a file that adds its part to [`Machine`]: getting a connection (`connecting`), losing it (`losing`), whether
//! it lives (`liveness`), what the server says (`hearing`) and what is said to it (`saying`).

mod agreed;
mod connecting;
mod hearing;
mod io;
mod link;
mod liveness;
mod losing;
mod outgoing;
mod saying;
mod subscriptions;

use std::collections::VecDeque;

use agreed::Agreed;
use io::Actions;
pub(crate) use io::{Action, Command, Input, Reply};
use link::{Link, Phase};
use outgoing::Outgoing;
use subscriptions::Subscriptions;

use crate::backoff::Loss;
use crate::error::{Error, Stop};
use crate::event::Event;

/// Whether it wants to be connected.
#[derive(Debug, PartialEq, Eq)]
enum Mode {
    Off,
    On,
    Stopped(Stop),
}

/// Set by `going_away`, until the next welcome.
#[derive(Debug)]
struct Move {
    handover: Option<Box<str>>,
    tried: bool,
}

pub(crate) struct Machine<R> {
    authenticates: bool,
    random: R,
    now: u64,
    mode: Mode,
    attempt: u64,
    last_id: u64,
    /// Tries since a connection was last stable.
    tries: u32,
    credential_tries: u32,
    /// The newest welcomed link, the one on its way, and the one that is being left.
    primary: Option<Link>,
    candidate: Option<Link>,
    leaving: Option<Link>,
    /// When the next try is due.
    open_at: u64,
    moving: Option<Move>,
    /// Why the last connection ended, for the credential's source.
    loss: Option<Loss>,
    agreed: Agreed,
    /// Nothing is sent before this moment: the server asked to slow down. One command at a time while `careful`.
    hold_until: u64,
    careful: bool,
    dirty: bool,
    outgoing: Outgoing,
    subscriptions: Subscriptions,
    made: Actions,
    ready: VecDeque<Action>,
}

impl<R: FnMut() -> f64> Machine<R> {
    /// A machine that does nothing before [`Input::Start`]. `random` gives numbers in [0, 1).
    pub(crate) fn new(authenticates: bool, random: R) -> Self {
        Self {
            authenticates,
            random,
            now: 0,
            mode: Mode::Off,
            attempt: 0,
            last_id: 0,
            tries: 0,
            credential_tries: 0,
            primary: None,
            candidate: None,
            leaving: None,
            open_at: u64::MAX,
            moving: None,
            loss: None,
            agreed: Agreed::default(),
            hold_until: 0,
            careful: false,
            dirty: false,
            outgoing: Outgoing::new(),
            subscriptions: Subscriptions::default(),
            made: Vec::new(),
            ready: VecDeque::new(),
        }
    }

    /// When [`Input::Tick`] is wanted next; `u64::MAX` if never.
    pub(crate) fn deadline(&self) -> u64 {
        if matches!(self.mode, Mode::Stopped(_)) {
            return u64::MAX;
        }
        let hold = if self.hold_until > self.now { self.hold_until } else { u64::MAX };
        let refused = if self.primary.is_some() { self.subscriptions.deadline(self.now) } else { u64::MAX };
        let links = self.links().map(|link| link.liveness_deadline(self.agreed.dead_ms));
        links.chain([self.open_at, self.outgoing.deadline(), hold, refused]).min().unwrap_or(u64::MAX)
    }

    /// The next thing to do.
    pub(crate) fn poll(&mut self) -> Option<Action> {
        self.ready.pop_front()
    }

    pub(crate) fn handle(&mut self, now: u64, input: Input) {
        self.now = now;
        match &self.mode {
            Mode::Stopped(stop) => {
                let stop = stop.clone();
                self.too_late(input, stop);
            }
            Mode::Off | Mode::On => self.input(input),
        }
        self.flush();
        self.ready.extend(self.made.drain(..));
    }

    fn input(&mut self, input: Input) {
        match input {
            Input::Start => {
                self.mode = Mode::On;
                self.connect();
            }
            Input::Stop => self.stop(1000, "closed"),
            Input::Tick => self.tick(),
            Input::Held => self.hold(),
            Input::Credential { attempt, credential } => self.credential(attempt, credential),
            // For a link that is ready the server will ask again, or close with 42xx.
            Input::NoCredential { attempt, reason } => {
                if self.link(attempt).is_some_and(|link| link.phase != Phase::Ready) {
                    self.lost(attempt, 1006, &reason);
                }
            }
            Input::Opened { attempt } => {
                if let Some(link) = self.link(attempt).filter(|link| link.phase == Phase::Opening) {
                    link.phase = Phase::Opened;
                }
            }
            Input::Received { attempt, text } => self.received(attempt, &text),
            Input::Closed { attempt, code, reason } => self.lost(attempt, code, &reason),
            Input::Subscribe { reference, channel, kind, since } => {
                self.dirty = true;
                self.subscriptions.add(channel, reference, kind, since, &mut self.made);
            }
            Input::Unsubscribe { reference } => {
                if let Some(channel) = self.subscriptions.remove(reference) {
                    for attempt in self.links().map(|link| link.attempt).collect::<Vec<_>>() {
                        self.unserve(attempt, &channel);
                    }
                }
            }
            Input::Command { reference, command, timeout_ms } => {
                self.dirty = true;
                let (id, limit) = (self.next_id(), self.agreed.message_bytes);
                self.outgoing.add(id, reference, command, self.now.saturating_add(timeout_ms), limit, &mut self.made);
            }
        }
    }

    fn too_late(&mut self, input: Input, stop: Stop) {
        match input {
            Input::Command { reference, .. } => self.made.push(Action::Settle { reference, result: Err(Error::Stopped(stop)) }),
            Input::Subscribe { reference, .. } => {
                self.made.push(Action::Tell { reference, event: Event::Stopped(stop), cursor: None });
            }
            _ => {}
        }
    }

    fn links(&self) -> impl Iterator<Item = &Link> {
        [&self.primary, &self.candidate, &self.leaving].into_iter().flatten()
    }

    fn link(&mut self, attempt: u64) -> Option<&mut Link> {
        [&mut self.primary, &mut self.candidate, &mut self.leaving].into_iter().flatten().find(|link| link.attempt == attempt)
    }
}

#[cfg(test)]
mod lossy_tests;
#[cfg(test)]
mod tests;
