//! A message while its frames come in: one buffer, inflated and checked as it grows, so that a bad byte ends it at once.

use bytes::Bytes;

use crate::deflate::Inflater;
use crate::{Event, OpCode, Violation, growth, mask};

/// An unfinished message.
#[derive(Debug)]
pub(crate) struct Message {
    text: bool,
    compressed: bool,
    data: Vec<u8>,
    /// Bytes of compressed input so far.
    received: usize,
    /// How much of `data` is known to be UTF-8.
    checked: usize,
    scratch: Vec<u8>,
}

impl Message {
    pub(crate) const fn new(opcode: OpCode, compressed: bool) -> Self {
        Self { text: matches!(opcode, OpCode::Text), compressed, data: Vec::new(), received: 0, checked: 0, scratch: Vec::new() }
    }

    /// Whether a frame of so many more bytes is within the limit; asked before any of them is kept.
    pub(crate) fn admits(&self, frame_bytes: u64, limit: usize) -> bool {
        let (held, limit) = if self.compressed {
            // What can't be compressed grows a little: five bytes for each stored block.
            (self.received, limit.saturating_add(limit / 1024).saturating_add(64))
        } else {
            (self.data.len(), limit)
        };
        usize::try_from(frame_bytes).ok().and_then(|bytes| bytes.checked_add(held)).is_some_and(|total| total <= limit)
    }

    /// Makes room for `there` bytes of the last frame, of which `left` are still to come with them: never more than what is there
    /// already and as much again, since a claimed length reserves nothing, and never more than the message will need.
    pub(crate) fn expect(&mut self, there: usize, left: u64) {
        if !self.compressed && self.data.capacity() - self.data.len() < there {
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            self.data.reserve_exact(left.min(self.data.len().max(there)));
        }
    }

    /// Takes in bytes of a frame that has been admitted.
    pub(crate) fn take(
        &mut self,
        bytes: &[u8],
        key: [u8; 4],
        offset: usize,
        inflater: &mut Inflater,
        limit: usize,
    ) -> Result<(), Violation> {
        if self.compressed {
            self.scratch.clear();
            mask::append(&mut self.scratch, bytes, key, offset);
            self.received += bytes.len();
            inflater.inflate(&self.scratch, &mut self.data, limit)?;
        } else {
            growth::reserve(&mut self.data, bytes.len(), limit);
            mask::append(&mut self.data, bytes, key, offset);
        }
        self.check_text()
    }

    /// The last frame is there.
    pub(crate) fn finish(mut self, inflater: &mut Inflater, limit: usize) -> Result<Event, Violation> {
        // No bytes at all are an empty message to most peers, though the strict form of it is a single zero (RFC 7692, 7.2.3.6).
        if self.compressed && self.received > 0 {
            inflater.finish(&mut self.data, limit)?;
        }
        self.check_text()?;
        if self.text && self.checked < self.data.len() {
            return Err(Violation::Utf8);
        }
        let data = Bytes::from(self.data);
        Ok(if self.text { Event::Text(data) } else { Event::Binary(data) })
    }

    /// Looks only at what is new, and at up to three bytes of a character that was not whole before.
    fn check_text(&mut self) -> Result<(), Violation> {
        if !self.text {
            return Ok(());
        }
        match simdutf8::compat::from_utf8(&self.data[self.checked..]) {
            Ok(_) => self.checked = self.data.len(),
            Err(problem) if problem.error_len().is_none() => self.checked += problem.valid_up_to(),
            Err(_) => return Err(Violation::Utf8),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of 60,000 bytes that came in pieces kept up to twice that until the application let go of it.
    #[test]
    fn an_unfragmented_message_takes_no_more_room_than_it_needs() {
        for piece in [1, 1000, 29_999, 60_000] {
            let bytes = vec![0; 60_000];
            let mut message = Message::new(OpCode::Binary, false);
            let mut grown = 0;
            for (at, part) in bytes.chunks(piece).enumerate() {
                let before = message.data.capacity();
                message.expect(part.len(), (bytes.len() - at * piece) as u64);
                assert!(message.data.capacity() <= 2 * (at * piece + part.len()), "a claimed length reserves nothing");
                grown += u32::from(message.data.capacity() != before);
                message.take(part, [0; 4], 0, &mut Inflater::new(), usize::MAX).expect("bytes");
            }
            assert_eq!((message.data.len(), message.data.capacity()), (60_000, 60_000));
            assert!(grown <= 17, "room is made in steps that double: {grown}");
        }
    }
}
