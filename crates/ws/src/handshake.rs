//! The key exchange of the opening handshake (RFC 6455, 4.1 and 4.2).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Why a server's answer is not an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerError {
    /// `Sec-WebSocket-Accept` does not answer our key.
    Accept,
}

/// Whether a `Sec-WebSocket-Key` is 16 bytes in base64 (4.2.1, point 5).
pub fn is_valid_key(key: &str) -> bool {
    key.len() == 24 && STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16)
}

/// The value of `Sec-WebSocket-Accept` that answers this key (4.2.2, point 5.4).
pub fn accept_key(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(GUID);
    STANDARD.encode(hash.finalize())
}

/// Checks the server's proof that it read our key (4.1, response point 4).
///
/// # Errors
/// It is not the answer to this key.
pub fn check_accept(key: &str, accept: &str) -> Result<(), AnswerError> {
    if accept.trim() == accept_key(key) { Ok(()) } else { Err(AnswerError::Accept) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(is_valid_key("dGhlIHNhbXBsZSBub25jZQ=="));
        for bad in ["", "YWJj", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZQ==x", "dGhlIHNhbXBsZSBub25jZ!=="] {
            assert!(!is_valid_key(bad), "{bad}");
        }
    }
}
