//! permessage-deflate (RFC 7692): what was agreed, a bounded inflater, a compressor whose frames may be shared.

mod compress;
mod inflate;
mod offer;

pub use compress::Compressor;
pub(crate) use inflate::Inflater;
pub use offer::{OfferError, accept_offer, check_answer};

/// What both sides agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate {
    /// The server begins every message with an empty window (7.1.1.1), so that a frame may be shared between connections.
    pub server_no_context_takeover: bool,
    /// The client does (7.1.1.2), so that no window has to be kept for it.
    pub client_no_context_takeover: bool,
    /// The server's window, 8 to 15 (7.1.2.1).
    pub server_max_window_bits: u8,
    /// The client's window, 8 to 15 (7.1.2.2).
    pub client_max_window_bits: u8,
}

/// What every message ends with before it is cut off (7.2.1): an empty stored block.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
