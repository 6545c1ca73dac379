//! An echo server of nothing but this crate and the standard library: a thread per connection.
//!
//! `cargo run --release -p tidegate-ws --example echo_blocking -- 127.0.0.1:9010`; loopback only, messages up to 32 MiB.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "the crate has no sockets and threads, a server needs them")]

use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use tidegate_ws::{
    Compressor, Decoder, Deflate, Event, OpCode, Role, accept_key, accept_offer, check_request, close_payload, header, header_compressed,
};

#[path = "../tests/support/head.rs"]
mod head;
use head::Head;

const MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Long enough for any honest peer to take or send something.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9010".to_owned());
    let listener = TcpListener::bind(address)?;
    if !listener.local_addr()?.ip().is_loopback() {
        return Err(std::io::Error::other("an example listens on loopback only"));
    }
    println!("{}", listener.local_addr()?);
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || drop(serve(stream)));
    }
    Ok(())
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let Some((deflate, rest)) = open(&mut stream)? else { return Ok(()) };
    let mut decoder = Decoder::new(Role::Server, MESSAGE_BYTES_MAX);
    let mut compressor = deflate.map(|deflate| Compressor::new(deflate.server_max_window_bits));
    if let Some(deflate) = deflate {
        decoder.enable_deflate(deflate);
    }
    let mut scratch = vec![0; 64 * 1024];
    let mut fresh = &rest[..];
    loop {
        match decoder.decode(&mut fresh) {
            Ok(Some(Event::Text(data))) => send(&mut stream, OpCode::Text, &data, compressor.as_mut())?,
            Ok(Some(Event::Binary(data))) => send(&mut stream, OpCode::Binary, &data, compressor.as_mut())?,
            Ok(Some(Event::Ping(data))) => send(&mut stream, OpCode::Pong, &data, None)?,
            Ok(Some(Event::Pong(_))) => {}
            Ok(Some(Event::Close(close))) => return end(stream, close.map(|close| close.code), "", &mut scratch),
            Err(violation) => return end(stream, Some(violation.code()), violation.reason(), &mut scratch),
            Ok(None) => {
                let read = stream.read(&mut scratch)?;
                if read == 0 {
                    return Ok(());
                }
                fresh = &scratch[..read];
            }
        }
    }
}

/// The opening handshake. Gives what was agreed and what came behind the request; `None` after a refusal.
fn open(stream: &mut TcpStream) -> std::io::Result<Option<(Option<Deflate>, Vec<u8>)>> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        let mut piece = [0; 2048];
        let read = stream.read(&mut piece)?;
        if read == 0 || bytes.len() > HEAD_BYTES_MAX {
            return Ok(None);
        }
        bytes.extend_from_slice(&piece[..read]);
    };
    let rest = bytes.split_off(end);
    let Some(head) = Head::parse(&bytes) else { return refuse(stream, 400) };
    let key = match check_request(head.word(0), head.word(2) == "HTTP/1.1", &head) {
        Ok(key) => key,
        Err(problem) => return refuse(stream, problem.status()),
    };
    let offers =
        head.fields.iter().filter(|(name, _)| name == "sec-websocket-extensions").filter_map(|(_, value)| std::str::from_utf8(value).ok());
    let agreed = accept_offer(offers);
    let extensions = agreed.as_ref().map(|(_, answer)| format!("Sec-WebSocket-Extensions: {answer}\r\n")).unwrap_or_default();
    let accept = accept_key(key);
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n{extensions}\r\n"
    )?;
    Ok(Some((agreed.map(|(deflate, _)| deflate), rest)))
}

fn refuse<T>(stream: &mut TcpStream, status: u16) -> std::io::Result<Option<T>> {
    let version = if status == 426 { "Sec-WebSocket-Version: 13\r\n" } else { "" };
    write!(stream, "HTTP/1.1 {status} \r\n{version}Connection: close\r\nContent-Length: 0\r\n\r\n")?;
    Ok(None)
}

fn send(stream: &mut TcpStream, opcode: OpCode, payload: &[u8], compressor: Option<&mut Compressor>) -> std::io::Result<()> {
    match compressor.and_then(|compressor| compressor.compress(payload)) {
        Some(small) => write_both(stream, &header_compressed(opcode, small.len()), &small),
        None => write_both(stream, &header(opcode, payload.len()), payload),
    }
}

fn write_both(stream: &mut TcpStream, head: &[u8], payload: &[u8]) -> std::io::Result<()> {
    let written = stream.write_vectored(&[IoSlice::new(head), IoSlice::new(payload)])?;
    match written.checked_sub(head.len()) {
        Some(of_payload) => stream.write_all(&payload[of_payload..]),
        None => stream.write_all(&head[written..]).and_then(|()| stream.write_all(payload)),
    }
}

/// Says goodbye, then reads until the peer hangs up, so that a reset does not overtake the close frame.
fn end(mut stream: TcpStream, code: Option<u16>, reason: &str, scratch: &mut [u8]) -> std::io::Result<()> {
    send(&mut stream, OpCode::Close, &close_payload(code, reason), None)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    const READS_MAX: usize = 10_000;
    for _ in 0..READS_MAX {
        if stream.read(scratch)? == 0 {
            break;
        }
    }
    Ok(())
}
