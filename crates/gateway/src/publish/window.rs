//! What was read and is not acknowledged: bounded, in order, repeated as it is.

use std::collections::VecDeque;

/// Lines under way at once, as many as the gateway takes from one request.
const LINES: usize = 2048;
/// Bytes of them.
const BYTES: usize = 4 << 20;

/// Messages between being read and being acknowledged.
#[derive(Debug, Default)]
pub(super) struct Window {
    messages: VecDeque<String>,
    bytes: usize,
    /// How many of them were sent on the current connection.
    sent: usize,
    acknowledged: u64,
    refused: u64,
}

impl Window {
    pub(super) fn has_room(&self) -> bool {
        self.messages.len() < LINES && self.bytes < BYTES
    }

    pub(super) fn push(&mut self, message: String) {
        self.bytes += message.len();
        self.messages.push_back(message);
    }

    /// A new connection: nothing was sent on it.
    pub(super) const fn rewind(&mut self) {
        self.sent = 0;
    }

    /// The next message to send on this connection.
    pub(super) fn next_to_send(&mut self) -> Option<&str> {
        let message = self.messages.get(self.sent)?;
        self.sent += 1;
        Some(message)
    }

    pub(super) fn is_all_sent(&self) -> bool {
        self.sent == self.messages.len()
    }

    /// The oldest message was acknowledged. False if none was sent: then the answer answers nothing.
    pub(super) fn acknowledge(&mut self) -> bool {
        self.acknowledged += u64::from(self.sent > 0);
        self.pop()
    }

    /// The oldest message was refused for good.
    pub(super) fn refuse(&mut self) -> bool {
        self.refused += u64::from(self.sent > 0);
        self.pop()
    }

    fn pop(&mut self) -> bool {
        if self.sent == 0 {
            return false;
        }
        self.sent -= 1;
        if let Some(message) = self.messages.pop_front() {
            self.bytes -= message.len();
        }
        true
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(super) fn waiting(&self) -> usize {
        self.messages.len()
    }

    pub(super) const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    pub(super) const fn refused(&self) -> u64 {
        self.refused
    }

    /// The number of the oldest message, counted from 1.
    pub(super) const fn first_line(&self) -> u64 {
        self.acknowledged + self.refused + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_acknowledged_is_sent_again_in_order() {
        let mut window = Window::default();
        ["a", "b", "c"].iter().for_each(|text| window.push((*text).to_owned()));
        assert_eq!(window.next_to_send(), Some("a"));
        assert_eq!(window.next_to_send(), Some("b"));
        assert!(window.acknowledge());
        window.rewind();
        assert!(!window.acknowledge(), "an answer before anything was sent answers nothing");
        let again: Vec<String> = std::iter::from_fn(|| window.next_to_send().map(str::to_owned)).collect();
        assert_eq!(again, ["b", "c"]);
        assert!(window.refuse() && window.acknowledge() && window.is_empty());
        assert_eq!((window.acknowledged(), window.refused(), window.first_line()), (2, 1, 4));
    }

    #[test]
    fn it_is_bounded() {
        let mut window = Window::default();
        while window.has_room() {
            window.push("x".repeat(100));
        }
        assert_eq!(window.waiting(), LINES);
        let mut window = Window::default();
        while window.has_room() {
            window.push("x".repeat(1 << 20));
        }
        assert_eq!(window.waiting(), 4);
    }
}
