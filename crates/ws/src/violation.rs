//! What a peer did against the protocol, and the close code it is answered with.

/// A breach of RFC 6455 or 7692. The connection is closed with [`Violation::code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A reserved bit is set that no extension gives a meaning (5.2).
    ReservedBit,
    /// An opcode that the RFC reserves (5.2).
    ReservedOpCode,
    /// A client's frame without a mask (5.1).
    Unmasked,
    /// A server's frame with a mask (5.1).
    Masked,
    /// A length that is not in its shortest form, or has the highest bit set (5.2).
    Length,
    /// A control frame that is fragmented or longer than 125 bytes (5.5).
    Control,
    /// A continuation of nothing, or a new message inside another (5.4).
    Fragmentation,
    /// A close frame with one byte, or with a code that must not be sent (5.5.1, 7.4).
    Close,
    /// Compressed data that does not inflate (RFC 7692, 7.2.2).
    Deflate,
    /// Text, or a close reason, that is not UTF-8 (8.1).
    Utf8,
    /// A message over the limit; judged at the frame header, and while it inflates.
    TooBig,
}

impl Violation {
    /// The close code that answers it (7.4.1).
    pub const fn code(self) -> u16 {
        match self {
            Self::Utf8 | Self::Deflate => 1007,
            Self::TooBig => 1009,
            _ => 1002,
        }
    }

    /// The close reason that answers it.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::ReservedBit => "reserved bit set",
            Self::ReservedOpCode => "reserved opcode",
            Self::Unmasked => "frame not masked",
            Self::Masked => "frame masked",
            Self::Length => "length not minimal",
            Self::Control => "control frame too long or fragmented",
            Self::Fragmentation => "fragment out of order",
            Self::Close => "invalid close frame",
            Self::Deflate => "data does not inflate",
            Self::Utf8 => "text is not UTF-8",
            Self::TooBig => "message too big",
        }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.reason())
    }
}

impl std::error::Error for Violation {}
