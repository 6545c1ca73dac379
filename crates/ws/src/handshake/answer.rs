//! The client's side: whether the server's answer is an upgrade (RFC 6455, 4.1).

use super::{Fields, accept_key, lists, only};
use crate::deflate::{Deflate, OfferError, check_answer};

/// Why a server's answer is not an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerError {
    /// The status is not 101.
    Status(u16),
    /// `Upgrade` or `Connection` do not name a WebSocket.
    Upgrade,
    /// `Sec-WebSocket-Accept` does not answer our key, is missing, or is there several times.
    Accept,
    /// A subprotocol that was not offered, or several.
    Subprotocol,
    /// An extension that was not offered, or parameters that it can't have.
    Extension(OfferError),
}

impl std::fmt::Display for AnswerError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(out, "the server answered {status} instead of 101"),
            Self::Upgrade => out.write_str("the answer does not upgrade to a WebSocket"),
            Self::Accept => out.write_str("Sec-WebSocket-Accept does not answer the key"),
            Self::Subprotocol => out.write_str("a subprotocol that was not offered"),
            Self::Extension(problem) => problem.fmt(out),
        }
    }
}

impl std::error::Error for AnswerError {}

/// Checks the server's proof that it read our key (4.1, response point 4).
///
/// # Errors
/// It is not the answer to this key.
pub fn check_accept(key: &str, accept: &str) -> Result<(), AnswerError> {
    if accept.trim() == accept_key(key) { Ok(()) } else { Err(AnswerError::Accept) }
}

/// Checks the whole answer to a request with this key. `subprotocols` are those offered; `offered_deflate` says whether
/// `permessage-deflate; client_max_window_bits` was. Gives what was agreed on for compression.
///
/// # Errors
/// The connection must be failed.
pub fn check_response(
    status: u16,
    fields: &impl Fields,
    key: &str,
    subprotocols: &[&str],
    offered_deflate: bool,
) -> Result<Option<Deflate>, AnswerError> {
    if status != 101 {
        return Err(AnswerError::Status(status));
    }
    if !only(fields, "upgrade").is_some_and(|value| value.eq_ignore_ascii_case(b"websocket")) || !lists(fields, "connection", "upgrade") {
        return Err(AnswerError::Upgrade);
    }
    let accept = only(fields, "sec-websocket-accept").and_then(|value| std::str::from_utf8(value).ok()).ok_or(AnswerError::Accept)?;
    check_accept(key, accept)?;
    if fields.values("sec-websocket-protocol").next().is_some() {
        let chosen = only(fields, "sec-websocket-protocol").ok_or(AnswerError::Subprotocol)?;
        if !subprotocols.iter().any(|offered| offered.as_bytes() == chosen) {
            return Err(AnswerError::Subprotocol);
        }
    }
    if fields.values("sec-websocket-extensions").next().is_none() {
        return Ok(None);
    }
    let extensions = only(fields, "sec-websocket-extensions").and_then(|value| std::str::from_utf8(value).ok());
    match extensions {
        Some(value) if offered_deflate => check_answer(value).map(Some).map_err(AnswerError::Extension),
        _ => Err(AnswerError::Extension(OfferError::Unknown)),
    }
}
