//! Between bytes and meaning: WebSocket frames to commands or raw messages, and what the session wants said to frames.

use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use smallvec::SmallVec;
use tidegate_core::message::{ClientMessage, GapReason, ServerMessage};
use tidegate_core::session::Transmit;
use tidegate_core::{CloseCode, Dialect, LimitSettings, Publication};
use tidegate_wire::json;
use tidegate_ws::{Decoder, Event, OpCode, Role, close_payload, header};

use super::compression;
use super::raw::RawMessage;
use crate::upgrade::Speech;

/// Raw messages up to here are copied next to their header: one slice fewer costs less than the copy.
const COPIED_BYTES: usize = 1024;

/// What a message of the protocol that is not a publication is taken to weigh before it is encoded.
const MESSAGE_ESTIMATE: usize = 256;

/// What such a message is encoded into: `welcome`, which everybody gets, is the longest usual one and need not grow it.
const MESSAGE_BYTES: usize = 512;

/// One connection's way of speaking.
pub(crate) struct Codec {
    decoder: Decoder,
    speech: Speech,
    /// The window for what is sent, where permessage-deflate was agreed on.
    deflate_bits: Option<u8>,
}

/// What became of some bytes.
pub(super) struct Progress {
    /// Frames that began.
    pub(super) frames: u32,
    /// What is to be done about them; `None` when more bytes are needed.
    pub(super) received: Option<Received>,
}

/// Something whole that arrived.
pub(super) enum Received {
    Commands(SmallVec<[ClientMessage; 1]>),
    Raw(RawMessage),
    Ping(Bytes),
    Pong,
    Close(Option<u16>),
    Violation(CloseCode, &'static str),
}

/// What a frame will take of a write.
pub(super) struct Size {
    pub(super) bytes: usize,
    pub(super) slices: usize,
}

impl Codec {
    /// No frame takes more slices than this.
    pub(super) const SLICES_PER_FRAME: usize = 2;

    /// A way of speaking, and the header that answers what the client offered for extensions, if they may be used.
    pub(crate) fn negotiate<'a>(
        speech: Speech,
        limits: &LimitSettings,
        offered: Option<impl IntoIterator<Item = &'a str>>,
    ) -> (Self, Option<HeaderValue>) {
        let mut codec = Self { decoder: Decoder::new(Role::Server, limits.message_bytes), speech, deflate_bits: None };
        let agreed = offered.and_then(tidegate_ws::accept_offer);
        let Some((deflate, answer)) = agreed.and_then(|(deflate, text)| Some((deflate, HeaderValue::try_from(text).ok()?))) else {
            return (codec, None);
        };
        codec.decoder.enable_deflate(deflate);
        codec.deflate_bits = Some(deflate.server_max_window_bits);
        (codec, Some(answer))
    }

    /// Whether publications go out as they were encoded once for all.
    pub(super) const fn is_plain(&self) -> bool {
        self.deflate_bits.is_none()
    }

    /// Messages are at most so large from now on.
    pub(super) fn limit_messages(&mut self, bytes: usize) {
        self.decoder.set_limit(bytes);
    }

    /// Whether a fragmented message is unfinished.
    pub(super) fn is_assembling(&self) -> bool {
        self.decoder.is_assembling()
    }

    /// Bytes that the frame that has begun still needs.
    pub(super) fn remaining(&self) -> usize {
        usize::try_from(self.decoder.remaining()).unwrap_or(usize::MAX)
    }

    /// Takes bytes from the front until something is whole.
    pub(super) fn receive(&mut self, bytes: &mut &[u8]) -> Progress {
        let before = self.decoder.frames();
        let event = self.decoder.decode(bytes);
        let frames = self.decoder.frames().wrapping_sub(before);
        let received = match event {
            Ok(None) => None,
            Ok(Some(event)) => Some(self.understand(event)),
            Err(violation) => Some(Received::Violation(code_of(violation.code()), violation.reason())),
        };
        Progress { frames, received }
    }

    fn understand(&self, event: Event) -> Received {
        match (event, self.speech) {
            (Event::Ping(payload), _) => Received::Ping(payload),
            (Event::Pong(_), _) => Received::Pong,
            (Event::Close(frame), _) => Received::Close(frame.map(|frame| frame.code)),
            (Event::Text(data), Speech::Raw) => Received::Raw(RawMessage::Text(data)),
            (Event::Binary(data), Speech::Raw) => Received::Raw(RawMessage::Binary(data)),
            (Event::Binary(_), Speech::Tidegate) => Received::Violation(CloseCode::UnsupportedData, "unsupported_data"),
            (Event::Text(data), Speech::Tidegate) => match json::decode(&data) {
                Ok(commands) => Received::Commands(commands),
                Err(_malformed) => Received::Violation(CloseCode::BadFrame, "bad_frame"),
            },
        }
    }

    /// What a frame will take of a write, before it is encoded.
    pub(super) fn size(transmit: &Transmit) -> Size {
        let (bytes, slices) = match transmit {
            Transmit::Publication(publication) => (publication.cost(), 1),
            Transmit::Raw { data, .. } if data.len() > COPIED_BYTES => (data.len(), 2),
            Transmit::Raw { data, .. } => (data.len(), 1),
            Transmit::Message(message) => (estimate(message), 1),
            Transmit::Ping(_) | Transmit::Pong(_) | Transmit::Close { .. } => (MESSAGE_ESTIMATE, 1),
        };
        Size { bytes, slices }
    }

    /// The reason, if this is a gap.
    pub(super) fn gap_in(transmit: &Transmit) -> Option<GapReason> {
        match transmit {
            Transmit::Message(message) => match &**message {
                ServerMessage::Gap(gap) => Some(gap.reason),
                _ => None,
            },
            _ => None,
        }
    }

    /// Puts the frame's bytes behind those that are there.
    pub(super) fn encode<const N: usize>(&self, transmit: Transmit, out: &mut SmallVec<[Bytes; N]>) {
        match transmit {
            Transmit::Publication(publication) => {
                let plain = shared_frame(&publication);
                let compressed = self.deflate_bits.and_then(|bits| compression::shared_frame(plain, bits));
                out.push(compressed.unwrap_or_else(|| plain.clone()));
            }
            Transmit::Message(message) => {
                let mut payload = Vec::with_capacity(MESSAGE_BYTES);
                json::encode_server(&message, &mut payload);
                out.push(self.compressed(OpCode::Text, &payload).unwrap_or_else(|| whole(OpCode::Text, &payload)));
            }
            Transmit::Raw { text, data } => {
                let opcode = if text { OpCode::Text } else { OpCode::Binary };
                if let Some(frame) = self.compressed(opcode, &data) {
                    out.push(frame);
                } else if data.len() > COPIED_BYTES {
                    out.push(Bytes::copy_from_slice(&header(opcode, data.len())));
                    out.push(data);
                } else {
                    out.push(whole(opcode, &data));
                }
            }
            Transmit::Ping(payload) => out.push(whole(OpCode::Ping, &payload)),
            Transmit::Pong(payload) => out.push(whole(OpCode::Pong, &payload)),
            Transmit::Close { code, reason } => out.push(whole(OpCode::Close, &close_payload(code, &reason))),
        }
    }

    fn compressed(&self, opcode: OpCode, payload: &[u8]) -> Option<Bytes> {
        compression::frame(opcode, payload, self.deflate_bits?)
    }
}

/// A publication's frame, made by whoever asks first.
pub(super) fn shared_frame(publication: &Publication) -> &Bytes {
    publication.frame(Dialect::Json, |publication| publication_frame(publication).into())
}

/// A publication's frame, header included: the same bytes for every subscriber, in one buffer of their exact size.
pub(crate) fn publication_frame(publication: &Publication) -> Vec<u8> {
    let length = json::publication_len(publication);
    let header = header(OpCode::Text, length);
    let mut frame = Vec::with_capacity(header.len() + length);
    frame.extend_from_slice(&header);
    json::encode_publication_into(publication, &mut frame);
    debug_assert_eq!(frame.len(), header.len() + length);
    frame
}

fn whole(opcode: OpCode, payload: &[u8]) -> Bytes {
    let header = header(opcode, payload.len());
    let mut frame = BytesMut::with_capacity(header.len() + payload.len());
    frame.extend_from_slice(&header);
    frame.extend_from_slice(payload);
    frame.freeze()
}

fn estimate(message: &ServerMessage) -> usize {
    match message {
        ServerMessage::Snapshot { entries, .. } => entries.iter().map(|entry| entry.cost()).sum(),
        ServerMessage::Response { data, .. } => MESSAGE_ESTIMATE + data.len(),
        _ => MESSAGE_ESTIMATE,
    }
}

/// The protocol's code for a violation; what it does not name is a protocol error.
fn code_of(number: u16) -> CloseCode {
    CloseCode::from_number(number).unwrap_or(CloseCode::ProtocolError)
}
