//! A glance at a request's head: whether it is one that needs no HTTP server. What is not plainly such is left to one.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

/// Fields of a head that is read here: about three times what browsers send. With more it takes the long way.
const FIELDS: usize = 48;

/// Reads a whole head that asks for an upgrade on this path and has no body; gives what follows it too. `None`: let HTTP judge.
///
/// It is no second judge: what it gives still has to pass every rule of the handshake, and what it does not give is refused or
/// served by the HTTP server, whose parser is the same.
pub(super) fn upgrade_on(path: &str, bytes: &Bytes, max_fields: usize) -> Option<(Parts, Bytes)> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
    let mut head = httparse::Request::new(&mut []);
    let most = max_fields.min(FIELDS);
    let length = match head.parse_with_uninit_headers(bytes, &mut fields[..most]) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) | Err(_) => return None,
    };
    let target = head.path?;
    if head.method != Some("GET") || head.version != Some(1) || target.split('?').next() != Some(path) {
        return None;
    }
    let mut request = Request::new(());
    *request.method_mut() = Method::GET;
    *request.version_mut() = Version::HTTP_11;
    *request.uri_mut() = Uri::from_maybe_shared(bytes.slice_ref(target.as_bytes())).ok()?;
    *request.headers_mut() = shared(bytes, head.headers)?;
    let (parts, ()) = request.into_parts();
    let is_bare = ![CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT].iter().any(|name| parts.headers.contains_key(name));
    (is_bare && parts.headers.contains_key(UPGRADE)).then(|| (parts, bytes.slice(length..)))
}

/// The fields, their values still where they were read.
fn shared(bytes: &Bytes, fields: &[httparse::Header<'_>]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        // An empty value may point anywhere.
        let value = if field.value.is_empty() { Bytes::new() } else { bytes.slice_ref(field.value) };
        headers.append(name, HeaderValue::from_maybe_shared(value).ok()?);
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nEmpty:\r\nX: 1\r\nx: 2\r\n\r\n";

    fn glance(text: &str) -> Option<(Parts, Bytes)> {
        upgrade_on("/ws", &Bytes::copy_from_slice(text.as_bytes()), 100)
    }

    #[test]
    fn an_upgrade_is_read_with_what_follows_it() {
        let (parts, rest) = glance(&format!("{PLAIN}early")).unwrap();
        assert_eq!((parts.method, parts.version, parts.uri.path()), (Method::GET, Version::HTTP_11, "/ws"));
        assert_eq!(parts.headers.get_all("x").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(parts.headers["empty"], "");
        assert_eq!(rest, "early");
        assert_eq!(glance(&PLAIN.replace("/ws", "/ws?a=b")).unwrap().0.uri.query(), Some("a=b"));
    }

    #[test]
    fn everything_else_is_left_to_http() {
        for (what, with) in [
            ("GET", "POST"),
            ("HTTP/1.1", "HTTP/1.0"),
            ("/ws", "/wss"),
            ("/ws", "/ws/"),
            ("/ws", "/%77s"),
            ("/ws", "http://localhost/ws"),
            ("Upgrade: websocket\r\n", ""),
            ("\r\n\r\n", "\r\n"),
            ("X: 1", "Content-Length: 0"),
            ("X: 1", "Transfer-Encoding: chunked"),
            ("X: 1", "Expect: 100-continue"),
            ("X: 1", "X : 1"),
            ("X: 1", " folded"),
            ("X: 1", "X\0: 1"),
        ] {
            let text = PLAIN.replacen(what, with, 1);
            assert_ne!(text, PLAIN);
            assert!(glance(&text).is_none(), "{with:?}");
        }
    }

    #[test]
    fn the_bound_on_fields_is_the_smaller_one() {
        let with = |count: usize| format!("GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n{}\r\n", "X: 1\r\n".repeat(count - 1));
        assert!(glance(&with(FIELDS)).is_some() && glance(&with(FIELDS + 1)).is_none());
        assert!(upgrade_on("/ws", &Bytes::from(with(4)), 3).is_none());
    }
}
