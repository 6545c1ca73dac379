//! Against foreign implementations over real sockets on loopback: tungstenite both ways, and Node's `ws` with compression.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "foreign peers are reached by sockets, in threads; a test may panic"
)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use tidegate_ws::{
    Decoder, Deflate, Event, OpCode, Role, accept_key, check_request, check_response, client_key, close_payload, header, masked,
};
use tokio_tungstenite::tungstenite::{self, Message};

#[path = "support/head.rs"]
mod head;
use head::Head;

const NONCE: [u8; 16] = *b"the sample nonce";
const LIMIT: usize = 1 << 20;

/// Every length form, and text beyond ASCII.
fn messages() -> Vec<Event> {
    let mut all = vec![Event::Text("".into()), Event::Text("κόσμε 🌊".repeat(50).into())];
    all.extend(
        [0usize, 1, 125, 126, 127, 65_535, 65_536, 200_000].map(|size| Event::Binary((0..size).map(|at| (at % 251) as u8).collect())),
    );
    all
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Reads up to the empty line, a byte at a time: what follows belongs to the frames.
fn read_head(stream: &mut TcpStream) -> Head {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") && bytes.len() < 16 * 1024 {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        bytes.push(byte[0]);
    }
    Head::parse(&bytes).unwrap()
}

/// Reads events until one arrives.
fn next(decoder: &mut Decoder, stream: &mut TcpStream, held: &mut Vec<u8>) -> Event {
    loop {
        let mut rest = &held[..];
        let event = decoder.decode(&mut rest).unwrap();
        let left = rest.len();
        held.drain(..held.len() - left);
        if let Some(event) = event {
            return event;
        }
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).unwrap();
        assert!(read > 0, "the peer hung up");
        held.extend_from_slice(&piece[..read]);
    }
}

/// Opens a connection as a client and echoes every message through the peer, then closes.
fn echo_through(mut stream: TcpStream, offer_deflate: bool) -> Option<Deflate> {
    let offer = if offer_deflate { "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n" } else { "" };
    let key = client_key(NONCE);
    write!(stream, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{offer}\r\n").unwrap();
    let head = read_head(&mut stream);
    let agreed = check_response(head.word(1).parse().unwrap(), &head, &key, &[], offer_deflate).unwrap();
    let mut decoder = Decoder::new(Role::Client, LIMIT);
    if let Some(deflate) = agreed {
        decoder.enable_deflate(deflate);
    }
    let mut held = Vec::new();
    for (at, message) in messages().into_iter().enumerate() {
        let (opcode, data) = match &message {
            Event::Text(data) => (OpCode::Text, data),
            Event::Binary(data) => (OpCode::Binary, data),
            other => panic!("{other:?}"),
        };
        stream.write_all(&masked(OpCode::Ping, &[at as u8], [9, 8, 7, at as u8])).unwrap();
        stream.write_all(&masked(opcode, data, [1, 2, 3, at as u8])).unwrap();
        assert_eq!(next(&mut decoder, &mut stream, &mut held), Event::Pong(vec![at as u8].into()));
        assert_eq!(next(&mut decoder, &mut stream, &mut held), message);
    }
    stream.write_all(&masked(OpCode::Close, &close_payload(Some(4001), "done"), [1; 4])).unwrap();
    let Event::Close(Some(close)) = next(&mut decoder, &mut stream, &mut held) else { panic!("no close frame with a code") };
    assert_eq!(close.code, 4001);
    agreed
}

#[test]
fn tungstenite_as_the_server() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let mut socket = tungstenite::accept(patient(listener.accept().unwrap().0)).unwrap();
        while let Ok(message) = socket.read() {
            if message.is_text() || message.is_binary() {
                socket.send(message).unwrap();
            }
        }
    });
    assert_eq!(echo_through(patient(TcpStream::connect(address).unwrap()), false), None);
    server.join().unwrap();
}

#[test]
fn tungstenite_as_the_client() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let mut stream = patient(listener.accept().unwrap().0);
        let head = read_head(&mut stream);
        let accept = accept_key(check_request(head.word(0), head.word(2) == "HTTP/1.1", &head).unwrap());
        write!(stream, "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n").unwrap();
        let (mut decoder, mut held) = (Decoder::new(Role::Server, LIMIT), Vec::new());
        loop {
            let (opcode, data) = match next(&mut decoder, &mut stream, &mut held) {
                Event::Text(data) => (OpCode::Text, data),
                Event::Binary(data) => (OpCode::Binary, data),
                Event::Ping(data) => (OpCode::Pong, data),
                Event::Pong(_) => continue,
                Event::Close(close) => (OpCode::Close, close_payload(close.map(|close| close.code), "").into()),
            };
            stream.write_all(&[&header(opcode, data.len()), &data[..]].concat()).unwrap();
            if opcode == OpCode::Close {
                return;
            }
        }
    });
    let (mut socket, _) = tungstenite::client("ws://127.0.0.1/", patient(TcpStream::connect(address).unwrap())).unwrap();
    for message in messages() {
        let message = match message {
            Event::Text(data) => Message::Text(String::from_utf8(data.to_vec()).unwrap().into()),
            Event::Binary(data) => Message::Binary(data),
            other => panic!("{other:?}"),
        };
        socket.send(message.clone()).unwrap();
        assert_eq!(socket.read().unwrap(), message);
    }
    socket.close(None).unwrap();
    while socket.read().is_ok() {}
    server.join().unwrap();
}

/// With context takeover on its side, which our own server never asks for.
#[test]
fn node_ws_as_a_compressing_server() {
    const SCRIPT: &str = "
        const { WebSocketServer } = require('ws')
        const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: { threshold: 0 } }, () => console.log(server.address().port))
        server.on('connection', socket => socket.on('message', (data, binary) => socket.send(data, { binary })))
        setTimeout(() => process.exit(0), 60000)";
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let known = Command::new("node").args(["-e", "require('ws')"]).current_dir(root).stderr(Stdio::null()).status();
    if !known.is_ok_and(|status| status.success()) {
        return skip("node's package ws", "not installed (npm ci at the root of the repository)");
    }
    let mut node = Command::new("node").args(["-e", SCRIPT]).current_dir(root).stdout(Stdio::piped()).spawn().unwrap();
    let mut port = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(node.stdout.take().unwrap()), &mut port).unwrap();
    let agreed = echo_through(patient(TcpStream::connect((Ipv4Addr::LOCALHOST, port.trim().parse().unwrap())).unwrap()), true);
    node.kill().unwrap();
    node.wait().unwrap();
    assert_eq!(agreed.map(|deflate| deflate.server_no_context_takeover), Some(false));
}

/// Puts it on the list of what did not run. Who runs the tests without such a list is not to believe that it did.
fn skip(what: &str, why: &str) {
    let list = std::env::var("TIDEGATE_SKIPPED_TESTS").unwrap_or_else(|_| panic!("{what} can't be tested against: {why}"));
    let mut list = std::fs::OpenOptions::new().create(true).append(true).open(list).unwrap();
    writeln!(list, "{what}: {why}").unwrap();
}
