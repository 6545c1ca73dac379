//! What every frame and every upgrade costs: reading, writing, judging the request.

use std::hint::black_box;

use tidegate_ws::{Decoder, Fields, OpCode, Role, accept_key, check_request, header, masked};

const PAYLOAD: [u8; 128] = [b'x'; 128];

/// A masked text frame of 128 bytes, as a client sends it.
pub(crate) fn parse(times: u64) {
    let bytes = masked(OpCode::Text, &PAYLOAD, [1, 2, 3, 4]);
    let mut decoder = Decoder::new(Role::Server, 64 * 1024);
    for _ in 0..times {
        let mut rest = black_box(&bytes[..]);
        let event = decoder.decode(&mut rest);
        assert!(matches!(black_box(event), Ok(Some(_))));
    }
}

/// A frame of 128 bytes with its header, in a buffer of its own.
pub(crate) fn write(times: u64) {
    for _ in 0..times {
        let payload = black_box(&PAYLOAD[..]);
        let header = header(black_box(OpCode::Text), payload.len());
        let mut frame = Vec::with_capacity(header.len() + payload.len());
        frame.extend_from_slice(&header);
        frame.extend_from_slice(payload);
        black_box(frame);
    }
}

/// What a browser sends.
const HEAD: [(&str, &[u8]); 12] = [
    ("host", b"gateway.example"),
    ("connection", b"keep-alive, Upgrade"),
    ("pragma", b"no-cache"),
    ("cache-control", b"no-cache"),
    ("user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("upgrade", b"websocket"),
    ("origin", b"https://app.example"),
    ("sec-websocket-version", b"13"),
    ("accept-encoding", b"gzip, deflate, br, zstd"),
    ("accept-language", b"en-GB,en;q=0.9"),
    ("sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    ("sec-websocket-protocol", b"tidegate.v1.json"),
];

struct Head;

impl Fields for Head {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        HEAD.iter().filter(move |(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }
}

/// The strict check of an upgrade request, and the key that answers it.
pub(crate) fn handshake(times: u64) {
    for _ in 0..times {
        let key = check_request(black_box("GET"), true, black_box(&Head)).map(accept_key);
        assert!(black_box(key).is_ok());
    }
}
