//! The 101: as headers for an HTTP server that says it, or as the bytes themselves.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue};

/// What every 101 begins with.
const HEAD: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: ";

/// A 101 as it is usual: more than its longest extension needs.
const HEAD_BYTES: usize = 256;

/// What a 101 says.
#[derive(Clone, Debug)]
pub(super) struct Switching {
    /// The answer to the request's key.
    pub(super) accept: String,
    pub(super) subprotocol: Option<&'static str>,
    pub(super) extensions: Option<HeaderValue>,
}

impl Switching {
    /// For an HTTP server.
    pub(super) fn into_headers(self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(5);
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        if let Ok(accept) = HeaderValue::try_from(self.accept) {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        if let Some(subprotocol) = self.subprotocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
        }
        if let Some(extensions) = self.extensions {
            headers.insert(SEC_WEBSOCKET_EXTENSIONS, extensions);
        }
        headers
    }

    /// As it goes over the wire.
    pub(super) fn head(&self) -> Bytes {
        let mut head = BytesMut::with_capacity(HEAD_BYTES);
        head.put_slice(HEAD);
        head.put_slice(self.accept.as_bytes());
        if let Some(subprotocol) = self.subprotocol {
            head.put_slice(b"\r\nsec-websocket-protocol: ");
            head.put_slice(subprotocol.as_bytes());
        }
        if let Some(extensions) = &self.extensions {
            head.put_slice(b"\r\nsec-websocket-extensions: ");
            head.put_slice(extensions.as_bytes());
        }
        head.put_slice(b"\r\n\r\n");
        head.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let extensions = Some(HeaderValue::from_static("permessage-deflate; server_no_context_takeover"));
        for (subprotocol, extensions) in
            [(None, None), (Some("tidegate.v1.json"), None), (None, extensions.clone()), (Some("p"), extensions)]
        {
            let switching = Switching { accept: "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned(), subprotocol, extensions };
            let head = switching.head();
            let mut fields = [httparse::EMPTY_HEADER; 8];
            let mut read = httparse::Response::new(&mut fields);
            assert_eq!(read.parse(&head).unwrap(), httparse::Status::Complete(head.len()));
            assert_eq!(read.code, Some(101));
            let said = read.headers.iter().map(|field| (field.name.parse().unwrap(), HeaderValue::from_bytes(field.value).unwrap()));
            assert_eq!(said.collect::<HeaderMap>(), switching.into_headers());
        }
    }
}
