//! The opening handshake (RFC 6455, 4): what a request must have, the key exchange, what an answer must have.

mod answer;
mod request;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

pub use answer::{AnswerError, check_accept, check_response};
pub use request::{RequestError, check_request};

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The header fields of a request or an answer, whatever type the caller's HTTP library has for them.
pub trait Fields {
    /// Every value of the field, in order. `name` is in lower case; names are compared without case.
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]>;
}

/// The key that a client sends: 16 bytes, chosen at random for each connection, in base64 (4.1, request point 7).
pub fn client_key(nonce: [u8; 16]) -> String {
    STANDARD.encode(nonce)
}

/// Whether a `Sec-WebSocket-Key` is 16 bytes in base64 (4.2.1, point 5).
pub fn is_valid_key(key: &str) -> bool {
    key.len() == 24 && STANDARD.decode_slice(key, &mut [0; 18]).is_ok_and(|length| length == 16)
}

/// The value of `Sec-WebSocket-Accept` that answers this key (4.2.2, point 5.4).
pub fn accept_key(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(GUID);
    STANDARD.encode(hash.finalize())
}

/// The field's value if it is there once.
fn only<'a>(fields: &'a impl Fields, name: &'a str) -> Option<&'a [u8]> {
    let mut values = fields.values(name);
    values.next().filter(|_| values.next().is_none())
}

/// Whether a comma-separated field has this token, in any case. Lines with anything but visible ASCII don't count.
fn lists(fields: &impl Fields, name: &str, token: &str) -> bool {
    let is_plain = |line: &&[u8]| line.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
    let mut tokens = fields.values(name).filter(is_plain).flat_map(|value| value.split(|&byte| byte == b','));
    tokens.any(|found| found.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Line(&'static [u8]);

    impl Fields for Line {
        fn values<'a>(&'a self, _name: &'a str) -> impl Iterator<Item = &'a [u8]> {
            std::iter::once(self.0)
        }
    }

    #[test]
    fn a_line_that_is_not_plain_lists_nothing() {
        assert!(lists(&Line(b"keep-alive,\tUpgrade "), "connection", "upgrade"));
        assert!(!lists(&Line(b"Upgrade, \xff"), "connection", "upgrade"));
        assert!(!lists(&Line(b"Upgrades"), "connection", "upgrade"));
    }

    #[test]
    fn the_example_of_the_rfc() {
        assert_eq!(client_key(*b"the sample nonce"), "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(is_valid_key("dGhlIHNhbXBsZSBub25jZQ=="));
        for bad in ["", "YWJj", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZQ==x", "dGhlIHNhbXBsZSBub25jZ!=="] {
            assert!(!is_valid_key(bad), "{bad}");
        }
    }
}
