//! What the tests of real sockets share: a gate on a port of its own, and a client that sends whatever bytes it is told to.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test is a crate of its own and uses its part")]

pub mod child;

use std::net::SocketAddr;
use std::time::Duration;

use tidegate::{Config, Gate, Listener, RawSocket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

pub const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZg==";

/// A gate that serves `/` (raw echo), `/ws` (the protocol) and `/metrics` until it is dropped.
pub struct Rig {
    pub gate: Gate,
    pub address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Rig {
    pub async fn start(gate: Gate) -> Self {
        let listener = Listener::bind("127.0.0.1:0", gate.config().upgrade).await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = gate.clone();
        let metrics = axum::routing::get(async move || metrics.metrics().encode());
        let app = axum::Router::new().route("/", gate.raw(echo)).route("/metrics", metrics);
        let serving = tokio::spawn({
            let gate = gate.clone();
            async move { gate.serve_at("/ws", listener, app).await }
        });
        Self { gate, address, serving }
    }

    /// An open gate with this configuration.
    pub async fn echo(config: Config) -> Self {
        Self::start(Gate::builder(config).build().await.unwrap()).await
    }

    pub async fn connect(&self) -> Peer {
        let mut peer = Peer::open(self.address).await;
        peer.send(handshake("/", "").as_bytes()).await;
        let head = peer.head().await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        peer
    }

    /// The number behind a metric's line.
    pub fn metric(&self, line: &str) -> f64 {
        let text = self.gate.metrics().encode();
        let found = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' ')?.parse().ok());
        found.unwrap_or(0.0)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A gate whose `/` runs this.
pub async fn serve<F: Future<Output = ()> + Send + 'static>(
    config: Config,
    run: impl Fn(RawSocket) -> F + Send + Sync + 'static,
) -> (Gate, Peer) {
    let gate = Gate::builder(config).build().await.unwrap();
    let listener = Listener::bind("127.0.0.1:0", gate.config().upgrade).await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = axum::Router::new().route("/", gate.raw(run));
    tokio::spawn({
        let gate = gate.clone();
        async move { gate.serve(listener, app).await }
    });
    let mut peer = Peer::open(address).await;
    peer.send(handshake("/", "").as_bytes()).await;
    assert!(peer.head().await.starts_with("HTTP/1.1 101"));
    (gate, peer)
}

pub async fn echo(socket: RawSocket) {
    while let Some(message) = socket.recv().await {
        if socket.send(message).await.is_err() {
            break;
        }
    }
}

pub fn handshake(path: &str, extra: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{extra}\r\n"
    )
}

/// A masked frame with the mask 0.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..65536 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// A client that sends what it is told and says what it sees.
pub struct Peer {
    pub stream: TcpStream,
    received: Vec<u8>,
}

/// What a peer saw.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    Frame(u8, Vec<u8>),
    End,
    Reset,
    Nothing,
}

impl Seen {
    pub fn close(code: u16, reason: &str) -> Self {
        Self::Frame(0x88, [&code.to_be_bytes()[..], reason.as_bytes()].concat())
    }
}

impl Peer {
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, received: Vec::new() }
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The head of an HTTP answer; what follows it stays.
    pub async fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.received.windows(4).position(|window| window == b"\r\n\r\n") {
                let rest = self.received.split_off(end + 4);
                return String::from_utf8(std::mem::replace(&mut self.received, rest)).unwrap();
            }
            let seen = self.more(Duration::from_secs(5)).await;
            assert_eq!(seen, None, "no whole head: {:?}", String::from_utf8_lossy(&self.received));
        }
    }

    /// Everything to the end.
    pub async fn rest(&mut self) -> String {
        while self.more(Duration::from_secs(5)).await.is_none() {}
        String::from_utf8(std::mem::take(&mut self.received)).unwrap()
    }

    /// Bytes read and not looked at.
    pub fn received(&self) -> usize {
        self.received.len()
    }

    pub async fn see(&mut self) -> Seen {
        self.see_within(Duration::from_secs(5)).await
    }

    /// The next frame, or how it ended.
    pub async fn see_within(&mut self, time: Duration) -> Seen {
        loop {
            if let Some(frame) = self.take_frame() {
                return frame;
            }
            if let Some(end) = self.more(time).await {
                return end;
            }
        }
    }

    fn take_frame(&mut self) -> Option<Seen> {
        let (&first, &second) = (self.received.first()?, self.received.get(1)?);
        assert!(second < 128, "servers do not mask");
        let (start, length) = match second {
            126 => (4, usize::from(u16::from_be_bytes(self.received.get(2..4)?.try_into().unwrap()))),
            127 => (10, u64::from_be_bytes(self.received.get(2..10)?.try_into().unwrap()) as usize),
            length => (2, usize::from(length)),
        };
        let payload = self.received.get(start..start + length)?.to_vec();
        self.received.drain(..start + length);
        Some(Seen::Frame(first, payload))
    }

    async fn more(&mut self, time: Duration) -> Option<Seen> {
        let mut buffer = vec![0; 65536];
        match tokio::time::timeout(time, self.stream.read(&mut buffer)).await {
            Ok(Ok(0)) => Some(Seen::End),
            Ok(Ok(count)) => {
                self.received.extend_from_slice(&buffer[..count]);
                None
            }
            Ok(Err(_)) => Some(Seen::Reset),
            Err(_) => Some(Seen::Nothing),
        }
    }
}

/// Waits until something holds; a test that waits in vain says for what.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 5 s: {what}");
}

/// Runs a measurement up to three times, until it finds nothing wrong: what a machine does that stands still for a moment is gone at the next.
/// Everything else has to hold in each try, and panics there.
pub async fn one_of_three<E: std::fmt::Debug>(what: &str, once: impl AsyncFn() -> Result<(), E>) {
    let mut wrong = Vec::new();
    while wrong.len() < 3 {
        match once().await {
            Ok(()) => return,
            Err(found) => wrong.push(found),
        }
    }
    panic!("{what}: {wrong:?}, each of three times");
}
