//! Losing a connection: what was on it, when the next try comes, and when none does.

use tidegate_core::{CloseClass, close_class};

use super::io::Action;
use super::link::Link;
use super::{Machine, Mode};
use crate::backoff::{Loss, retry_delay_ms};
use crate::error::Stop;

/// A connection that lasted this long was good: the next loss starts from the first delay again.
pub(super) const STABLE_MS: u64 = 10_000;

/// Closes in a row that ask for a new credential, before it is given up.
const CREDENTIAL_TRIES: u32 = 3;

impl<R: FnMut() -> f64> Machine<R> {
    pub(super) fn lost(&mut self, attempt: u64, code: u16, reason: &str) {
        if self.link(attempt).is_none() {
            return;
        }
        self.outgoing.lost(attempt, &mut self.made);
        self.dirty = true;
        if self.leaving.take_if(|link| link.attempt == attempt).is_some() {
            return self.subscriptions.forget_ids();
        }
        let gone = self.primary.take_if(|link| link.attempt == attempt);
        let welcomed = gone.is_some();
        match gone {
            None => self.candidate = None,
            Some(link) => {
                if self.now - link.ready_at >= STABLE_MS {
                    (self.tries, self.credential_tries) = (0, 0);
                }
                if let Some(old) = self.leaving.take() {
                    self.close(&old, "moved");
                    self.subscriptions.forget_ids();
                }
                self.subscriptions.lost(&mut self.made);
            }
        }
        let loss = Loss { code, reason: reason.into(), welcomed };
        match close_class(code) {
            CloseClass::Stop | CloseClass::Done => return self.stop(code, reason),
            CloseClass::Reauthenticate => {
                self.credential_tries += 1;
                if self.credential_tries > CREDENTIAL_TRIES {
                    return self.stop(code, reason);
                }
            }
            CloseClass::StartAfresh => self.subscriptions.drop_cursors(&mut self.made),
            CloseClass::Resume | CloseClass::BackOff => {}
        }
        self.schedule(&loss);
        self.loss = Some(loss);
    }

    /// Plans the next try, unless one is on its way or `going_away` has named its time.
    fn schedule(&mut self, loss: &Loss) {
        if self.candidate.is_some() || self.moving.as_ref().is_some_and(|moving| !moving.tried) {
            return;
        }
        let delay = retry_delay_ms(loss, self.tries, &self.agreed.reconnect, (self.random)());
        self.tries += 1;
        self.open_at = self.now + delay;
        if self.primary.is_none() {
            self.made.push(Action::Waiting { code: loss.code, reason: loss.reason.clone(), retry_ms: delay });
        }
    }

    pub(super) fn stop(&mut self, code: u16, reason: &str) {
        for link in [self.primary.take(), self.candidate.take(), self.leaving.take()].into_iter().flatten() {
            self.close(&link, "closed");
        }
        self.open_at = u64::MAX;
        let stop = Stop { code: Some(code), reason: reason.into() };
        self.outgoing.stop(&stop, &mut self.made);
        self.subscriptions.stop(&stop, &mut self.made);
        self.made.push(Action::Stopped(stop.clone()));
        self.mode = Mode::Stopped(stop);
    }

    /// Gives a link up. Nothing that its socket says afterwards is heard.
    pub(super) fn close(&mut self, link: &Link, reason: &'static str) {
        self.made.push(Action::Close { attempt: link.attempt, code: 1000, reason });
        self.outgoing.lost(link.attempt, &mut self.made);
    }
}
