//! Compressed frames. Each message begins with an empty window, so what one connection was sent is good for the next.

use std::cell::RefCell;
use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use tidegate_ws::{Compressor, OpCode, header_compressed};

/// Shorter payloads are sent as they are: the few bytes saved are not worth the receiver's work.
const COMPRESSED_FROM_BYTES: usize = 128;

/// Frames that a thread remembers. A fan-out's connections write the same few frames one after the other.
const REMEMBERED: usize = 8;

thread_local! {
    /// A compressor holds about 256 KiB: a thread has one per window size in use, a connection none.
    static WORKSHOP: RefCell<Workshop> = RefCell::default();
}

#[derive(Default)]
struct Workshop {
    compressors: Vec<(u8, Compressor)>,
    remembered: VecDeque<Remembered>,
}

/// The plain frame is kept too, so that its address stays its own.
struct Remembered {
    plain: Bytes,
    bits: u8,
    compressed: Option<Bytes>,
}

/// The frame of a compressed message for a window of so many bits; `None` if compressing gains nothing.
pub(super) fn frame(opcode: OpCode, payload: &[u8], bits: u8) -> Option<Bytes> {
    WORKSHOP.with_borrow_mut(|workshop| workshop.compress(opcode, payload, bits))
}

/// The same for a text frame that many connections share, made once per thread. `plain` is the whole uncompressed frame.
pub(super) fn shared_frame(plain: &Bytes, bits: u8) -> Option<Bytes> {
    WORKSHOP.with_borrow_mut(|workshop| {
        let known = |known: &&Remembered| known.plain.as_ptr() == plain.as_ptr() && known.bits == bits;
        if let Some(known) = workshop.remembered.iter().find(known) {
            return known.compressed.clone();
        }
        let compressed = workshop.compress(OpCode::Text, payload_of(plain), bits);
        if workshop.remembered.len() == REMEMBERED {
            workshop.remembered.pop_front();
        }
        workshop.remembered.push_back(Remembered { plain: plain.clone(), bits, compressed: compressed.clone() });
        compressed
    })
}

impl Workshop {
    fn compress(&mut self, opcode: OpCode, payload: &[u8], bits: u8) -> Option<Bytes> {
        if payload.len() < COMPRESSED_FROM_BYTES {
            return None;
        }
        let at = self.compressors.iter().position(|(of, _)| *of == bits).unwrap_or_else(|| {
            self.compressors.push((bits, Compressor::new(bits)));
            self.compressors.len() - 1
        });
        let compressed = self.compressors[at].1.compress(payload)?;
        let header = header_compressed(opcode, compressed.len());
        let mut frame = BytesMut::with_capacity(header.len() + compressed.len());
        frame.extend_from_slice(&header);
        frame.extend_from_slice(&compressed);
        Some(frame.freeze())
    }
}

/// What comes after an unmasked frame's header.
fn payload_of(frame: &[u8]) -> &[u8] {
    let header = match frame.get(1) {
        Some(126) => 4,
        Some(127) => 10,
        _ => 2,
    };
    frame.get(header..).unwrap_or_default()
}
