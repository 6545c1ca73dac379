//! Compressing messages one by one, each from an empty window: a compressed frame is good for every connection of the same window size.

use flate2::{Compress, Compression, FlushCompress};

use super::TAIL;

/// A reusable compressor without context takeover. It holds about 256 KiB, so a thread keeps one, not a connection.
#[derive(Debug)]
pub struct Compressor {
    inner: Compress,
}

impl Compressor {
    /// A compressor for windows of 2^`bits` bytes, 8 to 15. Level 1: text shrinks nearly as far, in a third of the time.
    ///
    /// For 8 bits a window of 9 is used: its matches reach back at most 250 bytes, which an 8-bit window holds.
    pub fn new(bits: u8) -> Self {
        Self { inner: Compress::new_with_window_bits(Compression::fast(), false, bits.clamp(9, 15)) }
    }

    /// The payload of a compressed frame. `None` if it would not be smaller: then it is better sent as it is.
    pub fn compress(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        self.inner.reset();
        let mut output = Vec::with_capacity(payload.len().min(64 * 1024) / 2 + 64);
        loop {
            let (read, held) = (usize::try_from(self.inner.total_in()).ok()?, output.len());
            self.inner.compress_vec(payload.get(read..)?, &mut output, FlushCompress::Sync).ok()?;
            let done = usize::try_from(self.inner.total_in()).ok()? == payload.len();
            if done && (output.len() < output.capacity() || output.len() == held) {
                break;
            }
            if output.len() >= payload.len() {
                return None;
            }
            output.reserve(output.len().max(256));
        }
        let body = output.len().checked_sub(TAIL.len())?;
        (output.ends_with(&TAIL) && body < payload.len()).then(|| {
            output.truncate(body);
            output
        })
    }
}
