//! The JSON dialect, `tidegate.v1.json`: one object per text frame, or an array of objects (a batch, in order).

mod client;
mod decode;
mod encode;
mod fields;
mod publication;
mod scan;
mod write;

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use smallvec::SmallVec;

pub use client::{FromServer, Unsendable, decode_server, encode_client, pong};
pub use decode::{NAME_BYTES, PING_BYTES, decode};
pub use encode::{Challenge, encode_challenge, encode_server};
pub use fields::Wrong;
pub use publication::{encode_publication, encode_publication_into, publication_len};
pub use scan::DEPTH;

/// The largest id and offset: 2^53 − 1, since every JSON reader has to hold it exactly (RFC 8259 section 6).
pub const INTEGER_MAX: u64 = (1 << 53) - 1;

/// The payload is not JSON, not an object or an array of objects, or nested deeper than [`DEPTH`].
///
/// It says nothing that could be answered, so the session ends with 4400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON object or an array of objects")]
pub struct Malformed;

/// Reads each object of a frame into `T` and takes it as what `meaning` makes of it. A frame is taken whole or not at all.
///
/// A batch has no limit of its own: it is in the message size that the frame was checked against, and what is read is
/// proportional to that.
fn read_frame<'de, T, M>(frame: &'de [u8], meaning: fn(&T) -> M) -> Result<SmallVec<[M; 1]>, Malformed>
where
    T: Deserialize<'de> + 'de,
{
    if scan::is_too_deep(frame) {
        return Err(Malformed);
    }
    let mut json = serde_json::Deserializer::from_slice(frame);
    let messages = match frame.trim_ascii_start().first() {
        Some(b'[') => json.deserialize_seq(Batch { meaning, object: PhantomData }),
        _ => T::deserialize(&mut json).map(|object| std::iter::once(meaning(&object)).collect()),
    };
    let messages = messages.map_err(|_| Malformed)?;
    json.end().map_err(|_| Malformed)?;
    Ok(messages)
}

/// Turns the objects of an array into messages one by one.
struct Batch<'de, T, M> {
    meaning: fn(&T) -> M,
    object: PhantomData<&'de T>,
}

impl<'de, T: Deserialize<'de>, M> Visitor<'de> for Batch<'de, T, M> {
    type Value = SmallVec<[M; 1]>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut objects: A) -> Result<Self::Value, A::Error> {
        let mut messages = SmallVec::new();
        while let Some(object) = objects.next_element()? {
            messages.push((self.meaning)(&object));
        }
        Ok(messages)
    }
}
