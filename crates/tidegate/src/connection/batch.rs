//! Publications of one channel on their way to its subscribers together: their frames lie side by side, the same bytes for each.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;
use tidegate_core::Publication;

use super::frames::shared_frame;

/// Messages of a batch, at most: by then a message's share of a write is a twentieth of what a write of its own costs.
pub(crate) const BATCH_MESSAGES: usize = 32;
/// Bytes of a batch, past which no message is added: as much as a driver gathers for one write.
pub(crate) const BATCH_BYTES: usize = 64 * 1024;

/// Messages in their order, encoded once for all.
#[derive(Debug)]
pub(crate) struct Batch {
    messages: SmallVec<[Arc<Publication>; 1]>,
    frames: Bytes,
}

impl Batch {
    /// Encodes what is not encoded yet. `keep` gives the bytes back as they are to be held.
    pub(crate) fn new(messages: SmallVec<[Arc<Publication>; 1]>, keep: impl FnOnce(Bytes) -> Bytes) -> Self {
        let frame = |message: &Arc<Publication>| shared_frame(message).clone();
        let frames = match &messages[..] {
            [message] => frame(message),
            messages => {
                let frames: SmallVec<[Bytes; BATCH_MESSAGES]> = messages.iter().map(frame).collect();
                let mut whole = BytesMut::with_capacity(frames.iter().map(Bytes::len).sum());
                frames.iter().for_each(|frame| whole.extend_from_slice(frame));
                keep(whole.freeze())
            }
        };
        Self { messages, frames }
    }

    /// The messages.
    pub(crate) fn messages(&self) -> &[Arc<Publication>] {
        &self.messages
    }

    /// Their frames, one behind the other.
    pub(crate) const fn frames(&self) -> &Bytes {
        &self.frames
    }
}
