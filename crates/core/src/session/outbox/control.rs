//! The control lane: replies, pongs, announcements. Always first, small, bounded.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::message::ServerMessage;

/// Application pings that wait for their pong. A client that sends more than these before it reads one learns nothing from
/// the oldest.
const PONGS: usize = 8;

/// What goes out before anything of a channel. Replies are bounded by what may be in flight, the rest by its kind: one ping, one
/// protocol pong, eight application pongs, one announcement per authority, departure and ended subscription.
#[derive(Debug)]
pub(in crate::session) struct Control {
    told: VecDeque<Box<ServerMessage>>,
    #[expect(clippy::box_collection, reason = "idle sessions have none, and each has room for this field")]
    pongs: Option<Box<VecDeque<Option<Bytes>>>>,
    pong: Option<Box<Bytes>>,
    ping: bool,
}

impl Control {
    pub(super) const fn new() -> Self {
        Self { told: VecDeque::new(), pongs: None, pong: None, ping: false }
    }

    /// A reply or an announcement.
    pub(in crate::session) fn tell(&mut self, message: ServerMessage) {
        self.told.push_back(Box::new(message));
    }

    /// An application ping of ours; a second before the first is written says nothing more.
    pub(in crate::session) fn ping(&mut self) {
        self.ping = true;
    }

    /// Answers an application ping.
    pub(in crate::session) fn answer(&mut self, n: Option<Bytes>) {
        let pongs = self.pongs.get_or_insert_default();
        if pongs.len() == PONGS {
            pongs.pop_front();
        }
        pongs.push_back(n);
    }

    /// Answers a protocol ping; only the newest is answered (RFC 6455, 5.5.3).
    pub(in crate::session) fn pong(&mut self, payload: Bytes) {
        self.pong = Some(Box::new(payload));
    }

    pub(in crate::session) fn take_pong(&mut self) -> Option<Bytes> {
        self.pong.take().map(|payload| *payload)
    }

    pub(in crate::session) fn next(&mut self) -> Option<Box<ServerMessage>> {
        if let Some(pongs) = &mut self.pongs {
            let next = pongs.pop_front();
            if pongs.is_empty() {
                self.pongs = None;
            }
            if let Some(n) = next {
                return Some(Box::new(ServerMessage::Pong { n }));
            }
        }
        if let Some(message) = self.told.pop_front() {
            if self.told.is_empty() {
                self.told = VecDeque::new();
            }
            return Some(message);
        }
        std::mem::take(&mut self.ping).then(|| Box::new(ServerMessage::Ping))
    }

    pub(in crate::session) fn has_next(&self) -> bool {
        self.ping || self.pong.is_some() || self.pongs.is_some() || !self.told.is_empty()
    }

    /// Replies and announcements that wait.
    pub(in crate::session) fn len(&self) -> usize {
        self.told.len()
    }
}
