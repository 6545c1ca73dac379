//! Frame headers, and whole frames where a mask has to be applied anyway.

use std::ops::Deref;

use crate::mask;

/// A frame's opcode (RFC 6455, 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum OpCode {
    /// Goes on with a fragmented message.
    Continuation = 0,
    /// UTF-8 text.
    Text = 1,
    /// Bytes.
    Binary = 2,
    /// The last frame of a side.
    Close = 8,
    /// To be answered with a pong.
    Ping = 9,
    /// Answers a ping.
    Pong = 10,
}

/// A frame header without a mask: 2, 4 or 10 bytes, on the stack.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    bytes: [u8; 10],
    length: u8,
}

impl Deref for Header {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const MASKED: u8 = 0x80;

/// The header of an unfragmented server frame with so many bytes of payload.
pub fn header(opcode: OpCode, payload_bytes: usize) -> Header {
    build(FIN | opcode as u8, payload_bytes)
}

/// The same for a message compressed by permessage-deflate (RFC 7692, 6).
pub fn header_compressed(opcode: OpCode, payload_bytes: usize) -> Header {
    build(FIN | RSV1 | opcode as u8, payload_bytes)
}

#[allow(clippy::cast_possible_truncation, reason = "each arm's range fits")]
fn build(first: u8, payload_bytes: usize) -> Header {
    let mut bytes = [0; 10];
    bytes[0] = first;
    let length = match payload_bytes {
        0..=125 => {
            bytes[1] = payload_bytes as u8;
            2
        }
        126..=0xffff => {
            bytes[1] = 126;
            bytes[2..4].copy_from_slice(&(payload_bytes as u16).to_be_bytes());
            4
        }
        _ => {
            bytes[1] = 127;
            bytes[2..10].copy_from_slice(&(payload_bytes as u64).to_be_bytes());
            10
        }
    };
    Header { bytes, length }
}

/// The length of the server frame that begins here, header included; `None` if not all of its header is there. For who has to find
/// the boundaries in frames that it has made itself.
pub fn frame_len(bytes: &[u8]) -> Option<usize> {
    let (header, payload) = match *bytes.get(1)? {
        126 => (4, u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
        length => (2, u64::from(length)),
    };
    Some(usize::try_from(payload).ok()?.saturating_add(header))
}

/// A whole unfragmented client frame. The mask must be unpredictable (5.3); this crate has no random source.
pub fn masked(opcode: OpCode, payload: &[u8], key: [u8; 4]) -> Vec<u8> {
    let header = header(opcode, payload.len());
    let mut frame = Vec::with_capacity(header.len() + 4 + payload.len());
    frame.extend_from_slice(&header);
    frame[1] |= MASKED;
    frame.extend_from_slice(&key);
    mask::append(&mut frame, payload, key, 0);
    frame
}

/// A close frame's payload. The reason is cut, at a character, to the 123 bytes that fit.
pub fn close_payload(code: Option<u16>, reason: &str) -> Vec<u8> {
    const REASON_BYTES_MAX: usize = 123;
    let Some(code) = code else { return Vec::new() };
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut payload = Vec::with_capacity(2 + end);
    payload.extend_from_slice(&code.to_be_bytes());
    payload.extend_from_slice(&reason.as_bytes()[..end]);
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_as_long_as_its_header_says() {
        for payload in [0, 125, 126, 0xffff, 0x1_0000] {
            let header = header(OpCode::Text, payload);
            assert_eq!(frame_len(&header), Some(header.len() + payload));
            assert_eq!(frame_len(&header[..header.len() - 1]), None);
        }
    }
}
