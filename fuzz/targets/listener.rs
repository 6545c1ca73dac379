//! What must hold for the first bytes of any connection: the body of the fuzz target of `tidegate`'s listener, which an ordinary test
//! runs too.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING, UPGRADE};
use http::{Method, Version};

/// The module itself: nothing outside of the crate can call it.
#[path = "../../crates/tidegate/src/listener/head.rs"]
mod head;

const PATH: &str = "/ws";
const FIELDS: usize = 16;

/// A head is taken only if it is a bodiless upgrade on the path, and whatever follows it is given back untouched.
pub(crate) fn upgrade(input: &[u8]) {
    let Some((parts, rest)) = head::upgrade_on(PATH, &Bytes::copy_from_slice(input), FIELDS) else { return };
    assert_eq!((&parts.method, parts.version, parts.uri.path()), (&Method::GET, Version::HTTP_11, PATH));
    assert!(parts.headers.contains_key(UPGRADE) && parts.headers.len() <= FIELDS);
    assert!(![CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT].iter().any(|name| parts.headers.contains_key(name)));
    assert!(input.ends_with(&rest));
    let whole = &input[..input.len() - rest.len()];
    assert!(whole.ends_with(b"\n\r\n") || whole.ends_with(b"\n\n"));
    for value in parts.headers.values() {
        assert!(value.is_empty() || whole.windows(value.len()).any(|window| window == value.as_bytes()));
    }
    // Neither more bytes behind it nor fewer in front of its end change what it says.
    let longer = [input, b"GET / HTTP/1.1\r\n"].concat();
    let again = head::upgrade_on(PATH, &Bytes::from(longer), FIELDS).map(|(parts, _)| (parts.uri, parts.headers));
    assert_eq!(again, Some((parts.uri, parts.headers)));
    assert!(head::upgrade_on(PATH, &Bytes::copy_from_slice(&whole[..whole.len() - 1]), FIELDS).is_none());
}
