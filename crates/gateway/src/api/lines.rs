//! Lines out of chunks as they come, each bounded: one that is too long is skipped, not kept.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

/// A line, or the fact that there was one that is too long.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Whole(Bytes),
    TooLong,
}

/// Splits chunks into lines.
#[derive(Debug)]
pub(super) struct Lines {
    limit: usize,
    chunk: Bytes,
    /// The beginning of a line whose end has not come.
    begun: BytesMut,
    skipping: bool,
}

impl Lines {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, chunk: Bytes::new(), begun: BytesMut::new(), skipping: false }
    }

    /// Takes the next chunk. The one before has to be read to its end.
    pub(super) fn feed(&mut self, chunk: Bytes) {
        debug_assert!(self.chunk.is_empty(), "the chunk before has lines left");
        self.chunk = chunk;
    }

    /// The next whole line, without its end.
    pub(super) fn next(&mut self) -> Option<Line> {
        let Some(end) = memchr(b'\n', &self.chunk) else {
            self.keep(self.chunk.len());
            return None;
        };
        let line = if self.begun.is_empty() && !self.skipping {
            let line = self.chunk.split_to(end);
            if line.len() > self.limit { Line::TooLong } else { Line::Whole(line) }
        } else {
            self.keep(end);
            self.take()
        };
        self.chunk.advance(1);
        Some(line)
    }

    /// The last line, if its end never came.
    pub(super) fn rest(&mut self) -> Option<Line> {
        (self.skipping || !self.begun.is_empty()).then(|| self.take())
    }

    fn keep(&mut self, count: usize) {
        let part = self.chunk.split_to(count);
        if self.skipping || self.begun.len() + part.len() > self.limit {
            self.skipping = true;
            self.begun = BytesMut::new();
        } else {
            self.begun.extend_from_slice(&part);
        }
    }

    fn take(&mut self) -> Line {
        let begun = std::mem::take(&mut self.begun).freeze();
        if std::mem::take(&mut self.skipping) { Line::TooLong } else { Line::Whole(begun) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that comes out when `text` is fed in chunks of `size`.
    fn lines(text: &[u8], size: usize, limit: usize) -> Vec<Line> {
        let mut lines = Lines::new(limit);
        let mut found = Vec::new();
        for chunk in text.chunks(size) {
            lines.feed(Bytes::copy_from_slice(chunk));
            found.extend(std::iter::from_fn(|| lines.next()));
        }
        found.extend(lines.rest());
        found
    }

    #[test]
    fn chunks_of_every_size_give_the_same_lines() {
        let text = b"one\n\ntwo\r\nthis one is too long\nthree\nlast";
        let whole = |text: &'static str| Line::Whole(Bytes::from_static(text.as_bytes()));
        for size in 1..=text.len() {
            let expected = vec![whole("one"), whole(""), whole("two\r"), Line::TooLong, whole("three"), whole("last")];
            assert_eq!(lines(text, size, 8), expected, "in chunks of {size}");
        }
        assert_eq!(lines(b"a line without end that is too long", 3, 8), [Line::TooLong]);
        assert_eq!(lines(b"", 1, 8), []);
    }
}
