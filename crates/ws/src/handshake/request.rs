//! The server's side: which requests may be answered with 101 (RFC 6455, 4.2.1).

use super::{Fields, is_valid_key, lists, only};

/// Why a request is not answered with 101.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// The method is not GET.
    Method,
    /// HTTP before 1.1.
    HttpVersion,
    /// `Upgrade` or `Connection` do not ask for a WebSocket.
    Upgrade,
    /// No `Sec-WebSocket-Version`, several, or another than 13.
    Version,
    /// No `Sec-WebSocket-Key`, several, or one that is not 16 bytes in base64.
    Key,
}

impl RequestError {
    /// The HTTP status that answers it. With 426 goes `Sec-WebSocket-Version: 13` (4.4), with 405 `Allow: GET`.
    pub const fn status(self) -> u16 {
        match self {
            Self::Method => 405,
            Self::HttpVersion | Self::Key => 400,
            Self::Upgrade | Self::Version => 426,
        }
    }

    /// What to tell the client.
    pub const fn message(self) -> &'static str {
        match self {
            Self::Method => "a WebSocket is opened with GET",
            Self::HttpVersion => "a WebSocket is opened with HTTP/1.1",
            Self::Upgrade => "this is a WebSocket endpoint",
            Self::Version => "the WebSocket version is 13",
            Self::Key => "exactly one Sec-WebSocket-Key of 16 bytes in base 64 is required",
        }
    }
}

impl std::fmt::Display for RequestError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.message())
    }
}

impl std::error::Error for RequestError {}

/// Reads a request strictly and gives its key, to be answered with [`accept_key`](super::accept_key). Origin, subprotocol and extensions are the caller's to judge.
///
/// # Errors
/// The request is none that may be answered with 101.
pub fn check_request<'a>(method: &str, is_http_1_1: bool, fields: &'a impl Fields) -> Result<&'a str, RequestError> {
    if method != "GET" {
        return Err(RequestError::Method);
    }
    if !is_http_1_1 {
        return Err(RequestError::HttpVersion);
    }
    if !lists(fields, "upgrade", "websocket") || !lists(fields, "connection", "upgrade") {
        return Err(RequestError::Upgrade);
    }
    if only(fields, "sec-websocket-version") != Some(b"13") {
        return Err(RequestError::Version);
    }
    let key = only(fields, "sec-websocket-key").and_then(|key| std::str::from_utf8(key).ok());
    key.filter(|key| is_valid_key(key)).ok_or(RequestError::Key)
}
