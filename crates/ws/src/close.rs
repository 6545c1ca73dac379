//! Close frames (RFC 6455, 5.5.1 and 7.4).

use crate::Violation;

/// What a close frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseFrame {
    /// The code.
    pub code: u16,
    /// The reason, perhaps empty.
    pub reason: Box<str>,
}

/// Whether a code may stand in a close frame: those that are registered and not reserved, and the ranges for libraries and applications.
pub const fn is_valid_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Reads a close frame's payload; an empty one says nothing.
pub(crate) fn parse(payload: &[u8]) -> Result<Option<CloseFrame>, Violation> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok(None) } else { Err(Violation::Close) };
    };
    let code = u16::from_be_bytes(*code);
    if !is_valid_close_code(code) {
        return Err(Violation::Close);
    }
    let reason = simdutf8::basic::from_utf8(reason).map_err(|_| Violation::Utf8)?;
    Ok(Some(CloseFrame { code, reason: reason.into() }))
}
