//! Whether a connection lives: silence is asked before it is believed.

use tidegate_core::message::ClientMessage;

use super::Machine;
use super::io::Action;
use super::link::Phase;

impl<R: FnMut() -> f64> Machine<R> {
    pub(super) fn tick(&mut self) {
        self.outgoing.expire(self.now, &mut self.made);
        self.dirty = true;
        if self.now >= self.open_at {
            self.connect();
        }
        let (now, quiet_ms) = (self.now, self.agreed.dead_ms);
        let silent: Vec<u64> = self.links().filter(|link| now >= link.liveness_deadline(quiet_ms)).map(|link| link.attempt).collect();
        for attempt in silent {
            self.silent(attempt);
        }
    }

    pub(super) fn hold(&mut self) {
        for link in [&mut self.primary, &mut self.leaving].into_iter().flatten() {
            link.heard_at = self.now;
            link.probed_at = None;
        }
    }

    /// Asks a quiet link for a sign of life, and gives up one that gave none. A late timer must not kill a link whose messages
    /// are still to be read, so nothing is given up unasked.
    fn silent(&mut self, attempt: u64) {
        let now = self.now;
        let Some(link) = self.link(attempt) else { return };
        if link.phase == Phase::Ready && link.probed_at.is_none() {
            link.probed_at = Some(now);
            return self.send(attempt, &ClientMessage::Ping { n: None });
        }
        let reason = if link.phase == Phase::Ready { "heartbeat_timeout" } else { "no answer in time" };
        self.made.push(Action::Close { attempt, code: 4104, reason: "heartbeat_timeout" });
        self.lost(attempt, 1006, reason);
    }
}
