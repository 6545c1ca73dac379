//! What is said when there is room for it: subscribes first, then commands; and the old link's end.

use tidegate_core::ChannelName;
use tidegate_core::message::ClientMessage;

use super::Machine;
use super::io::{Action, text};
use super::link::Link;
use super::outgoing::Outgoing;

impl<R: FnMut() -> f64> Machine<R> {
    pub(super) fn flush(&mut self) {
        if !std::mem::take(&mut self.dirty) || self.now < self.hold_until {
            return;
        }
        let Some(link) = &mut self.primary else { return };
        let window = if self.careful { 1 } else { self.agreed.in_flight };
        let room = |link: &Link, outgoing: &Outgoing| window.saturating_sub(outgoing.in_flight(link.attempt) + link.asked());
        let places = room(link, &self.outgoing);
        let subscribed = self.subscriptions.flush(self.now, link, places, &mut self.last_id, &mut self.made);
        let places = room(link, &self.outgoing);
        let sent = self.outgoing.flush(link.attempt, places, &mut self.made);
        if subscribed && sent && room(link, &self.outgoing) == window {
            self.careful = false;
        }
        // The old link is closed once the new one has everything, and the old one owes no reply.
        let settled = self.subscriptions.settled_on(link);
        if let Some(old) = self.leaving.take_if(|old| settled && self.outgoing.in_flight(old.attempt) == 0) {
            self.close(&old, "moved");
            self.subscriptions.forget_ids();
        }
    }

    pub(super) fn unserve(&mut self, attempt: u64, channel: &ChannelName) {
        if self.link(attempt).is_some_and(|link| link.served.remove(channel).is_some()) {
            let id = self.next_id();
            self.send(attempt, &ClientMessage::Unsubscribe { id, channel: channel.clone() });
        }
    }

    pub(super) fn send(&mut self, attempt: u64, message: &ClientMessage) {
        self.made.push(Action::Send { attempt, text: text(message) });
    }

    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }
}
