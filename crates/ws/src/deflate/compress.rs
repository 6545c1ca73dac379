//! Compressing messages one by one, each from an empty window: a compressed frame is good for every connection of the same window size.

use flate2::{Compress, Compression, FlushCompress};

use super::TAIL;

/// Not 1: zlib-rs 0.6.8 panics there on data that does not shrink, when the output comes in several pieces.
const LEVEL: u32 = 2;

/// A reusable compressor without context takeover. It holds about 256 KiB, so a thread keeps one, not a connection.
#[derive(Debug)]
pub struct Compressor {
    inner: Compress,
}

impl Compressor {
    /// A compressor for windows of 2^`bits` bytes, 8 to 15. A low level: text shrinks nearly as far, in less time.
    ///
    /// For 8 bits a window of 9 is used: its matches reach back at most 250 bytes, which an 8-bit window holds.
    pub fn new(bits: u8) -> Self {
        Self { inner: Compress::new_with_window_bits(Compression::new(LEVEL), false, bits.clamp(9, 15)) }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Level 1 panicked from 4 KiB of noise on: any client could have ended a thread by having such a message echoed.
    #[test]
    fn noise_does_not_shrink_and_does_not_panic() {
        let mut state = 1u64;
        let mut noise = |size: usize| -> Vec<u8> {
            let step = |_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state.to_be_bytes()[0]
            };
            (0..size).map(step).collect()
        };
        for bits in 8..=15 {
            let mut compressor = Compressor::new(bits);
            for size in [256, 1024, 4096, 4097, 8192, 20_000, 131_072] {
                for _ in 0..8 {
                    assert_eq!(compressor.compress(&noise(size)), None, "{bits} {size}");
                }
            }
        }
    }
}
