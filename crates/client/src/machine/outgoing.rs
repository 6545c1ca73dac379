//! Commands that wait for their reply: kept across connections, repeated where that is safe, bounded in number and time.

use std::collections::BTreeMap;

use super::io::{Action, Actions, Command, Reply, text};
use crate::error::{Error, Stop};

/// Most commands that wait at once; more are refused, because a program that is offline must not grow without end.
pub(super) const CAPACITY: usize = 1024;

#[derive(Debug)]
struct Pending {
    reference: u64,
    text: String,
    deadline: u64,
    repeatable: bool,
    /// The attempt it was sent on.
    sent_on: Option<u64>,
    /// The refusal that it is being repeated after.
    refusal: Option<Error>,
}

#[derive(Debug)]
pub(super) struct Outgoing {
    pending: BTreeMap<u64, Pending>,
}

impl Outgoing {
    pub(super) const fn new() -> Self {
        Self { pending: BTreeMap::new() }
    }

    /// The next moment at which a command's time is over.
    pub(super) fn deadline(&self) -> u64 {
        self.pending.values().map(|pending| pending.deadline).min().unwrap_or(u64::MAX)
    }

    /// Takes a command in, or refuses it at once.
    pub(super) fn add(&mut self, id: u64, reference: u64, command: Command, deadline: u64, limit: usize, actions: &mut Actions) {
        let repeatable = command.is_repeatable();
        let text = text(&command.with_id(id));
        let error = if self.pending.len() >= CAPACITY {
            Error::QueueFull
        } else if text.len() > limit {
            Error::TooLarge { limit }
        } else {
            let pending = Pending { reference, text, deadline, repeatable, sent_on: None, refusal: None };
            self.pending.insert(id, pending);
            return;
        };
        actions.push(Action::Settle { reference, result: Err(error) });
    }

    /// How many sent on this attempt wait for their reply.
    pub(super) fn in_flight(&self, attempt: u64) -> usize {
        self.pending.values().filter(|pending| pending.sent_on == Some(attempt)).count()
    }

    /// Sends what is to be sent, oldest first, while there is room. True if nothing is left.
    pub(super) fn flush(&mut self, attempt: u64, mut room: usize, actions: &mut Actions) -> bool {
        for pending in self.pending.values_mut().filter(|pending| pending.sent_on.is_none()) {
            if room == 0 {
                return false;
            }
            room -= 1;
            pending.sent_on = Some(attempt);
            actions.push(Action::Send { attempt, text: pending.text.clone() });
        }
        true
    }

    /// A command was done.
    pub(super) fn done(&mut self, id: u64, reply: Reply, actions: &mut Actions) {
        if let Some(pending) = self.pending.remove(&id) {
            actions.push(Action::Settle { reference: pending.reference, result: Ok(reply) });
        }
    }

    /// A command was refused. One that is safe to repeat, with a refusal that names a time, is repeated until its own time is
    /// over. Milliseconds for which the server asks to hold everything back.
    pub(super) fn refused(&mut self, now: u64, id: u64, error: Error, retry_after_ms: Option<u64>, actions: &mut Actions) -> u64 {
        let Some(pending) = self.pending.get_mut(&id) else { return 0 };
        match retry_after_ms {
            Some(retry) if pending.repeatable && now.saturating_add(retry) < pending.deadline => {
                pending.sent_on = None;
                pending.refusal = Some(error);
                retry.max(1)
            }
            _ => {
                actions.push(Action::Settle { reference: pending.reference, result: Err(error) });
                self.pending.remove(&id);
                0
            }
        }
    }

    /// The attempt is over: what is safe to repeat is to be sent again, the rest can't be known to have happened or not.
    pub(super) fn lost(&mut self, attempt: u64, actions: &mut Actions) {
        self.pending.retain(|_, pending| {
            let here = pending.sent_on == Some(attempt);
            if here && !pending.repeatable {
                actions.push(Action::Settle { reference: pending.reference, result: Err(Error::Timeout) });
                return false;
            }
            if here {
                pending.sent_on = None;
            }
            true
        });
    }

    /// Fails what is out of time.
    pub(super) fn expire(&mut self, now: u64, actions: &mut Actions) {
        self.pending.retain(|_, pending| {
            if now < pending.deadline {
                return true;
            }
            let error = pending.refusal.take().unwrap_or(Error::Timeout);
            actions.push(Action::Settle { reference: pending.reference, result: Err(error) });
            false
        });
    }

    /// Fails everything.
    pub(super) fn stop(&mut self, stop: &Stop, actions: &mut Actions) {
        for pending in std::mem::take(&mut self.pending).into_values() {
            actions.push(Action::Settle { reference: pending.reference, result: Err(Error::Stopped(stop.clone())) });
        }
    }
}
