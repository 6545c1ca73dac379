//! Bytes to events: one frame header at a time, fragments coalesced, control frames in between.

use bytes::Bytes;

use crate::deflate::{Deflate, Inflater};
use crate::message::Message;
use crate::{CloseFrame, OpCode, Violation, close, mask};

/// Which side the decoder is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads a client's frames, which must be masked.
    Server,
    /// Reads a server's frames, which must not be.
    Client,
}

/// Something whole that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A text message; its bytes are UTF-8.
    Text(Bytes),
    /// A binary message.
    Binary(Bytes),
    /// A ping, at most 125 bytes.
    Ping(Bytes),
    /// A pong, at most 125 bytes.
    Pong(Bytes),
    /// A close frame; what comes after it is not to be decoded.
    Close(Option<CloseFrame>),
}

/// Reads one side of a connection. Idle, it is a few words; what is unfinished lives in one box that goes when it is finished.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    frames: u32,
    role: Role,
    deflate: bool,
    unfinished: Option<Box<Unfinished>>,
    inflater: Inflater,
}

#[derive(Debug, Default)]
struct Unfinished {
    head: Head,
    frame: Option<Frame>,
    control: Vec<u8>,
    message: Option<Message>,
}

/// The bytes of a header that is not whole: 2 to 14.
#[derive(Debug, Default)]
struct Head {
    bytes: [u8; 14],
    length: u8,
}

/// A frame whose header has been read and found good.
#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: OpCode,
    fin: bool,
    key: [u8; 4],
    length: u64,
    done: u64,
}

impl Decoder {
    /// A decoder without extensions. No message may be larger than `limit` bytes.
    pub const fn new(role: Role, limit: usize) -> Self {
        Self { limit, frames: 0, role, deflate: false, unfinished: None, inflater: Inflater::new() }
    }

    /// From now on messages may be compressed as negotiated.
    pub fn enable_deflate(&mut self, deflate: Deflate) {
        self.deflate = true;
        self.inflater.configure(deflate, self.role);
    }

    /// Messages that begin from now on may be so large.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Frames begun so far, modulo 2^32: fragments and control frames count too.
    pub const fn frames(&self) -> u32 {
        self.frames
    }

    /// Whether a fragmented message is unfinished.
    pub fn is_assembling(&self) -> bool {
        self.unfinished.as_ref().is_some_and(|unfinished| unfinished.message.is_some())
    }

    /// Bytes of the frame that has begun that are still to come; 0 between frames and within a header.
    pub fn remaining(&self) -> u64 {
        let frame = self.unfinished.as_ref().and_then(|unfinished| unfinished.frame);
        frame.map_or(0, |frame| frame.length - frame.done)
    }

    /// Takes bytes from the front of `bytes` until something is whole (`Some`) or they are used up (`None`).
    ///
    /// # Errors
    /// The peer broke the protocol; nothing more is to be decoded.
    pub fn decode(&mut self, bytes: &mut &[u8]) -> Result<Option<Event>, Violation> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let keeps = |result: &Result<Option<Event>, Violation>, rest: &Unfinished| matches!(result, Ok(None)) || rest.message.is_some();
        if let Some(mut unfinished) = self.unfinished.take() {
            let result = self.advance(&mut unfinished, bytes);
            self.unfinished = keeps(&result, &unfinished).then_some(unfinished);
            return result;
        }
        // Most messages come whole: then the state never leaves the stack.
        let mut unfinished = Unfinished::default();
        let result = self.advance(&mut unfinished, bytes);
        self.unfinished = keeps(&result, &unfinished).then(|| Box::new(unfinished));
        result
    }

    fn advance(&mut self, unfinished: &mut Unfinished, bytes: &mut &[u8]) -> Result<Option<Event>, Violation> {
        loop {
            let mut frame = match unfinished.frame.take() {
                Some(frame) => frame,
                None => match self.read_head(unfinished, bytes)? {
                    Some(frame) => frame,
                    None => return Ok(None),
                },
            };
            let there = usize::try_from(frame.length - frame.done).unwrap_or(usize::MAX).min(bytes.len());
            let (payload, rest) = bytes.split_at(there);
            *bytes = rest;
            self.read_payload(unfinished, &frame, payload)?;
            frame.done += there as u64;
            if frame.done < frame.length {
                unfinished.frame = Some(frame);
                return Ok(None);
            }
            if let Some(event) = self.end_frame(unfinished, &frame)? {
                return Ok(Some(event));
            }
        }
    }

    /// Reads a header byte by byte as far as it is there, and judges each part as soon as it can be judged.
    fn read_head(&mut self, unfinished: &mut Unfinished, bytes: &mut &[u8]) -> Result<Option<Frame>, Violation> {
        loop {
            let needed = unfinished.head.needed();
            let held = usize::from(unfinished.head.length);
            if held < needed {
                let there = (needed - held).min(bytes.len());
                unfinished.head.bytes[held..held + there].copy_from_slice(&bytes[..there]);
                unfinished.head.length += u8::try_from(there).unwrap_or(0);
                *bytes = &bytes[there..];
                if held + there >= 2 && held < 2 {
                    self.check_start(&unfinished.head, unfinished.message.is_some())?;
                }
                if held + there < needed {
                    return Ok(None);
                }
                continue;
            }
            let head = std::mem::take(&mut unfinished.head);
            return self.begin_frame(unfinished, &head).map(Some);
        }
    }

    /// What the first two bytes tell (5.2): refused before anything else of the frame has come.
    fn check_start(&self, head: &Head, in_message: bool) -> Result<(), Violation> {
        let [first, second, ..] = head.bytes;
        let opcode = head.opcode().ok_or(Violation::ReservedOpCode)?;
        let compressed = first & 0x40 != 0;
        let may_be_compressed = self.deflate && matches!(opcode, OpCode::Text | OpCode::Binary);
        if first & 0x30 != 0 || compressed && !may_be_compressed {
            return Err(Violation::ReservedBit);
        }
        match (self.role, second & 0x80 != 0) {
            (Role::Server, false) => return Err(Violation::Unmasked),
            (Role::Client, true) => return Err(Violation::Masked),
            _ => {}
        }
        match opcode {
            OpCode::Close | OpCode::Ping | OpCode::Pong if first & 0x80 == 0 || second & 0x7f > 125 => Err(Violation::Control),
            OpCode::Continuation if !in_message => Err(Violation::Fragmentation),
            OpCode::Text | OpCode::Binary if in_message => Err(Violation::Fragmentation),
            _ => Ok(()),
        }
    }

    fn begin_frame(&mut self, unfinished: &mut Unfinished, head: &Head) -> Result<Frame, Violation> {
        let length = head.payload_length()?;
        let opcode = head.opcode().ok_or(Violation::ReservedOpCode)?;
        self.frames = self.frames.wrapping_add(1);
        if matches!(opcode, OpCode::Text | OpCode::Binary) {
            unfinished.message = Some(Message::new(opcode, head.bytes[0] & 0x40 != 0));
        }
        if matches!(opcode, OpCode::Text | OpCode::Binary | OpCode::Continuation)
            && !unfinished.message.as_ref().is_some_and(|message| message.admits(length, self.limit))
        {
            return Err(Violation::TooBig);
        }
        Ok(Frame { opcode, fin: head.bytes[0] & 0x80 != 0, key: head.key(), length, done: 0 })
    }

    fn read_payload(&mut self, unfinished: &mut Unfinished, frame: &Frame, payload: &[u8]) -> Result<(), Violation> {
        let offset = usize::try_from(frame.done & 3).unwrap_or(0);
        match (frame.opcode, &mut unfinished.message) {
            (OpCode::Close | OpCode::Ping | OpCode::Pong, _) => mask::append(&mut unfinished.control, payload, frame.key, offset),
            (_, Some(message)) => {
                if frame.fin {
                    message.expect(payload.len(), frame.length - frame.done);
                }
                message.take(payload, frame.key, offset, &mut self.inflater, self.limit)?;
            }
            (_, None) => return Err(Violation::Fragmentation),
        }
        Ok(())
    }

    fn end_frame(&mut self, unfinished: &mut Unfinished, frame: &Frame) -> Result<Option<Event>, Violation> {
        match frame.opcode {
            OpCode::Ping => Ok(Some(Event::Ping(std::mem::take(&mut unfinished.control).into()))),
            OpCode::Pong => Ok(Some(Event::Pong(std::mem::take(&mut unfinished.control).into()))),
            OpCode::Close => close::parse(&std::mem::take(&mut unfinished.control)).map(|close| Some(Event::Close(close))),
            OpCode::Continuation | OpCode::Text | OpCode::Binary if !frame.fin => Ok(None),
            OpCode::Continuation | OpCode::Text | OpCode::Binary => {
                let message = unfinished.message.take().ok_or(Violation::Fragmentation)?;
                message.finish(&mut self.inflater, self.limit).map(Some)
            }
        }
    }
}

impl Head {
    const fn opcode(&self) -> Option<OpCode> {
        Some(match self.bytes[0] & 0x0f {
            0 => OpCode::Continuation,
            1 => OpCode::Text,
            2 => OpCode::Binary,
            8 => OpCode::Close,
            9 => OpCode::Ping,
            10 => OpCode::Pong,
            _ => return None,
        })
    }

    /// Bytes of the whole header, as far as can be told from what is there.
    const fn needed(&self) -> usize {
        if self.length < 2 { 2 } else { self.key_at() + if self.bytes[1] & 0x80 != 0 { 4 } else { 0 } }
    }

    const fn key_at(&self) -> usize {
        match self.bytes[1] & 0x7f {
            126 => 4,
            127 => 10,
            _ => 2,
        }
    }

    fn key(&self) -> [u8; 4] {
        let at = self.key_at();
        std::array::from_fn(|index| if self.bytes[1] & 0x80 != 0 { self.bytes[at + index] } else { 0 })
    }

    /// The payload's length, which must be in its shortest form (5.2).
    fn payload_length(&self) -> Result<u64, Violation> {
        let bytes = &self.bytes;
        let (length, least) = match bytes[1] & 0x7f {
            126 => (u64::from(u16::from_be_bytes([bytes[2], bytes[3]])), 126),
            127 => {
                let long: [u8; 8] = std::array::from_fn(|index| bytes[2 + index]);
                (u64::from_be_bytes(long), 0x1_0000)
            }
            short => (u64::from(short), 0),
        };
        if length < least || length >> 63 != 0 { Err(Violation::Length) } else { Ok(length) }
    }
}
