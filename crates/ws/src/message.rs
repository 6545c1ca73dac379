//! A message while its frames come in: one buffer, inflated and checked as it grows, so that a bad byte ends it at once.

use bytes::Bytes;

use crate::deflate::Inflater;
use crate::{Event, OpCode, Violation, mask};

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

    /// Makes room for the rest of a frame that has been admitted, as far as it is there already: a claimed length reserves nothing.
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
