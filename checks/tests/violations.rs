//! What a well-behaved client never sends, and what the Autobahn suite leaves out: each gets its exact answer, in words.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bench::frames;
use checks::{Gateway, measured};

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";
const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(8);

#[test]
fn every_handshake_gets_its_status() {
    let gateway = Gateway::setup().start();
    let get = |headers: &str| format!("GET /ws HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
    let many: String = (0..5000).map(|n| format!("X-{n}: 1\r\n")).collect();
    let long = format!("X-A: {}\r\n", "a".repeat(1 << 20));
    let cases = [
        ("complete", get(&format!("{UPGRADE}{KEY}{VERSION}")), 101),
        ("a list in Connection", get(&format!("Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n{KEY}{VERSION}")), 101),
        ("other case", get(&format!("upgrade: WebSocket\r\nconnection: upgrade\r\n{KEY}{VERSION}")), 101),
        ("no key", get(&format!("{UPGRADE}{VERSION}")), 400),
        ("a short key", get(&format!("{UPGRADE}Sec-WebSocket-Key: YWJj\r\n{VERSION}")), 400),
        ("a key that is not base64", get(&format!("{UPGRADE}Sec-WebSocket-Key: ????????????????????????\r\n{VERSION}")), 400),
        ("two keys", get(&format!("{UPGRADE}{KEY}{KEY}{VERSION}")), 400),
        ("version 8", get(&format!("{UPGRADE}{KEY}Sec-WebSocket-Version: 8\r\n")), 426),
        ("no version", get(&format!("{UPGRADE}{KEY}")), 426),
        ("no upgrade", get(&format!("{KEY}{VERSION}")), 426),
        ("an upgrade to something else", get(&format!("Upgrade: h2c\r\nConnection: Upgrade\r\n{KEY}{VERSION}")), 426),
        ("POST", get(&format!("{UPGRADE}{KEY}{VERSION}")).replace("GET ", "POST "), 405),
        ("HTTP/1.0", get(&format!("{UPGRADE}{KEY}{VERSION}")).replace("HTTP/1.1", "HTTP/1.0"), 400),
        ("another path", get(&format!("{UPGRADE}{KEY}{VERSION}")).replace("/ws", "/other"), 404),
        ("only unknown subprotocols", get(&format!("{UPGRADE}{KEY}{VERSION}Sec-WebSocket-Protocol: chat\r\n")), 400),
        ("a browser's origin that is not allowed", get(&format!("{UPGRADE}{KEY}{VERSION}Origin: https://elsewhere.example\r\n")), 403),
        ("5,000 headers", get(&format!("{UPGRADE}{KEY}{VERSION}{many}")), 431),
        ("a header of 1 MiB", get(&format!("{UPGRADE}{KEY}{VERSION}{long}")), 431),
    ];
    let mut wrong = Vec::new();
    for (what, request, expected) in &cases {
        let head = answer(&gateway, request);
        let status = head.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
        let head = head.to_ascii_lowercase();
        let closes = *expected == 101 || head.contains("connection: close");
        let names_version = *expected != 426 || head.contains("sec-websocket-version: 13");
        if status != Some(*expected) || !closes || !names_version {
            wrong.push(format!("{what}: {expected} expected, not {}", head.replace("\r\n", " | ")));
        }
    }
    measured("handshakes", &format!("{} of {} answered as they should", cases.len() - wrong.len(), cases.len()));
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn a_handshake_may_come_byte_by_byte() {
    let gateway = Gateway::setup().start();
    let mut stream = connect(&gateway);
    for byte in format!("GET /ws HTTP/1.1\r\nHost: x\r\n{UPGRADE}{KEY}{VERSION}X-A: {}\r\n\r\n", "a".repeat(3000)).bytes() {
        stream.write_all(&[byte]).expect("a byte");
    }
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 101 "));
}

#[test]
fn every_violation_gets_its_close_frame() {
    let gateway = Gateway::setup().start();
    let cases: [(&str, Vec<u8>, u16); 22] = [
        ("an unmasked frame", vec![0x81, 2, b'h', b'i'], 1002),
        ("a length of 16 bits that fits 7", masked(&[0x81, 0xfe, 0, 2], b"{}"), 1002),
        ("a length of 64 bits that fits 7", masked(&[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0, 2], b"{}"), 1002),
        ("a length with its highest bit", masked(&[0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], b""), 1002),
        ("a length of 2^62", masked(&[0x82, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0], b"x"), 1009),
        ("a length of 1 GiB", masked(&[0x81, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0], b"x"), 1009),
        ("one byte over the limit", masked(&[0x81, 0xff, 0, 0, 0, 0, 0, 1, 0, 1], b"x"), 1009),
        ("a ping of 126 bytes", masked(&[0x89, 0xfe, 0, 126], &[b'p'; 126]), 1002),
        ("a fragmented ping", masked(&[0x09, 0x81], b"p"), 1002),
        ("a close of one byte", masked(&[0x88, 0x81], &[3]), 1002),
        ("close 1005", masked(&[0x88, 0x82], &1005_u16.to_be_bytes()), 1002),
        ("close 999", masked(&[0x88, 0x82], &999_u16.to_be_bytes()), 1002),
        ("close 5000", masked(&[0x88, 0x82], &5000_u16.to_be_bytes()), 1002),
        ("a close reason that is not UTF-8", masked(&[0x88, 0x84], &[3, 0xe8, 0xff, 0xfe]), 1007),
        ("text that is not UTF-8", masked(&[0x81, 0x82], &[0xc3, 0x28]), 1007),
        ("RSV1 without compression", masked(&[0xc1, 0x82], b"{}"), 1002),
        ("RSV3", masked(&[0x91, 0x82], b"{}"), 1002),
        ("opcode 3", masked(&[0x83, 0x82], b"{}"), 1002),
        ("opcode 11", masked(&[0x8b, 0x80], b""), 1002),
        ("a continuation of nothing", masked(&[0x80, 0x82], b"{}"), 1002),
        ("a binary frame", masked(&[0x82, 0x82], b"{}"), 1003),
        ("text that is not JSON", masked(&[0x81, 0x81], b"{"), 4400),
    ];
    let mut wrong = Vec::new();
    for (what, bytes, expected) in &cases {
        let mut stream = upgraded(&gateway);
        stream.write_all(bytes).expect("bytes");
        let code = close_code(&mut stream);
        if code != Ok(*expected) {
            wrong.push(format!("{what}: {expected} expected, not {code:?}"));
        }
    }
    measured("violations", &format!("{} of {} closed as they should", cases.len() - wrong.len(), cases.len()));
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn what_comes_after_a_close_is_ignored() {
    let gateway = Gateway::setup().start();
    let mut stream = upgraded(&gateway);
    let mut bytes = masked(&[0x88, 0x82], &1000_u16.to_be_bytes());
    bytes.extend(masked(&[0x81, 0x84], b"late").repeat(50));
    stream.write_all(&bytes).expect("bytes");
    assert_eq!(close_code(&mut stream), Ok(1000));
}

fn masked(head: &[u8], payload: &[u8]) -> Vec<u8> {
    [head, &[0; 4], payload].concat()
}

fn connect(gateway: &Gateway) -> TcpStream {
    let stream = TcpStream::connect(gateway.public).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_nodelay(true).expect("no delay");
    stream
}

/// The head of the answer to `request`; the server may end the connection before it has read all.
fn answer(gateway: &Gateway, request: &str) -> String {
    let mut stream = connect(gateway);
    let _may_be_cut = stream.write_all(request.as_bytes());
    read_head(&mut stream)
}

fn read_head(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// A session that has been welcomed.
fn upgraded(gateway: &Gateway) -> TcpStream {
    let mut stream = connect(gateway);
    stream.write_all(format!("GET /ws HTTP/1.1\r\nHost: x\r\n{UPGRADE}{KEY}{VERSION}\r\n").as_bytes()).expect("a request");
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 101 "));
    let mut start = [0; 2];
    stream.peek(&mut start).expect("a welcome");
    stream
}

/// The code of the close frame that the server sends before it ends the connection; else what happened instead.
fn close_code(stream: &mut TcpStream) -> Result<u16, String> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let mut at = 0;
        while let Some((frame, length)) = frames::parse(&bytes[at..]) {
            at += length;
            if frame.opcode == frames::CLOSE {
                return frame
                    .payload
                    .first_chunk()
                    .map(|code| u16::from_be_bytes(*code))
                    .ok_or_else(|| "a close without a code".to_owned());
            }
        }
        match stream.read(&mut piece) {
            Ok(0) => return Err("a bare end".to_owned()),
            Ok(length) => bytes.extend_from_slice(&piece[..length]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Err("no answer".to_owned()),
            Err(e) => return Err(e.to_string()),
        }
    }
}
