//! RFC 6455 framing and RFC 7692 compression as machines: bytes in, events out. No I/O, no clock, no random source, no runtime.
//!
//! A server feeds what it read to [`Decoder::decode`] until nothing whole is left, and writes [`header`]s before its payloads:
//!
//! ```
//! use tidegate_ws::{Decoder, Event, OpCode, Role, header, masked};
//!
//! let mut decoder = Decoder::new(Role::Server, 64 * 1024);
//! let bytes = masked(OpCode::Text, b"hello", [1, 2, 3, 4]);
//! let mut rest = &bytes[..];
//! assert_eq!(decoder.decode(&mut rest), Ok(Some(Event::Text("hello".into()))));
//! assert_eq!(&*header(OpCode::Text, 5), &[0x81, 5]);
//! ```
//!
//! Nothing is allocated between messages: an idle decoder is a few words. Every violation carries the close code that the RFC asks for.

mod close;
mod decoder;
mod deflate;
mod encode;
mod growth;
mod handshake;
mod mask;
mod message;
mod violation;

pub use close::{CloseFrame, is_valid_close_code};
pub use decoder::{Decoder, Event, Role};
pub use deflate::{Compressor, Deflate, OfferError, accept_offer, check_answer};
pub use encode::{Header, OpCode, close_payload, frame_len, header, header_compressed, masked};
pub use handshake::{AnswerError, Fields, RequestError, accept_key, check_accept, check_request, check_response, client_key, is_valid_key};
pub use violation::Violation;
