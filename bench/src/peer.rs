//! One client connection: opens, upgrades, subscribes, reads, and answers pings and closes.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use memchr::memmem;
use mio::net::TcpStream;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::frames;
use crate::target::Target;
use crate::wire::Wire;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// TCP is being opened.
    Connecting,
    /// The upgrade is asked for.
    Upgrading,
    /// Waits for the server's first message.
    Welcoming,
    /// Waits to be let in.
    Introducing,
    /// Waits until the subscription is there.
    Subscribing,
    /// Receives.
    Ready,
    /// Is over.
    Ended(End),
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// The server sent a close frame with this code (1005: without one), and then ended TCP.
    Closed(u16),
    /// The server ended TCP without a close frame: 1006.
    Cut,
    /// The upgrade was answered with this HTTP status.
    Refused(u16),
    /// There was no TCP connection.
    Unreachable,
    /// We aborted it.
    Aborted,
}

/// What a client connection is like.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// `SO_RCVBUF` in bytes, set before connecting.
    pub receive_buffer: Option<usize>,
    /// Never reads after its subscription is there.
    pub stalls: bool,
}

/// How much to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// The bytes that are there.
    Bytes,
    /// The same, and the end of the connection behind them: it was seen.
    ToTheEnd,
    /// So many bytes.
    AtMost(usize),
}

pub(crate) struct Peer {
    wire: Option<Wire>,
    pub(crate) state: State,
    pub(crate) stalled: bool,
    stalls: bool,
    /// The beginning of a frame that has not come whole.
    partial: Vec<u8>,
    /// What the socket did not take.
    out: Vec<u8>,
    /// The code of the server's close frame.
    close_code: Option<u16>,
}

impl Peer {
    pub(crate) fn connect(target: &Target, n: usize, options: Options) -> io::Result<Self> {
        let tcp = open_socket(target.address, target.source(n), options.receive_buffer)?;
        Ok(Self {
            wire: Some(Wire::new(tcp, target.tls.as_ref())?),
            state: State::Connecting,
            stalled: false,
            stalls: options.stalls,
            partial: Vec::new(),
            out: Vec::new(),
            close_code: None,
        })
    }

    pub(crate) fn stream_mut(&mut self) -> Option<&mut TcpStream> {
        self.wire.as_mut().map(Wire::tcp_mut)
    }

    /// Our end's address, while it is open.
    pub(crate) fn local_address(&self) -> Option<SocketAddr> {
        self.wire.as_ref()?.tcp().local_addr().ok()
    }

    pub(crate) fn writable(&mut self, target: &Target, n: usize) {
        if self.state == State::Connecting {
            let Some(wire) = &self.wire else { return };
            if !matches!(wire.tcp().take_error(), Ok(None)) {
                return self.end(End::Unreachable);
            }
            if wire.tcp().peer_addr().is_err() {
                return;
            }
            self.state = State::Upgrading;
            self.out.extend_from_slice(target.upgrade(n).as_bytes());
        }
        self.flush();
    }

    /// Reads what is there, as `reading` says, and hands whole messages to `on_message`.
    pub(crate) fn readable(&mut self, scratch: &mut [u8], reading: Reading, target: &Target, n: usize, on_message: &mut dyn FnMut(&[u8])) {
        let mut left = if let Reading::AtMost(bytes) = reading { bytes } else { usize::MAX };
        while left > 0 && !self.stalled {
            let Some(wire) = &mut self.wire else { return };
            let (room, tells_its_end) = (scratch.len().min(left), wire.tells_its_end());
            match wire.read(&mut scratch[..room]) {
                Ok(0) => return self.end(self.close_code.map_or(End::Cut, End::Closed)),
                Ok(length) => {
                    left -= length;
                    self.feed(&scratch[..length], target, n, on_message);
                    // A short read means that no more bytes are there, and saves the call that would say so; an end may be.
                    if length < room && tells_its_end && reading != Reading::ToTheEnd {
                        return;
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) if self.state == State::Connecting => return self.end(End::Unreachable),
                Err(_) => return self.end(self.close_code.map_or(End::Cut, End::Closed)),
            }
        }
    }

    pub(crate) fn send_text(&mut self, text: &str) {
        frames::append(&mut self.out, frames::TEXT, text.as_bytes());
        self.flush();
    }

    /// Bytes as they are, for what no well-behaved client sends.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
        self.flush();
    }

    pub(crate) fn send_close(&mut self, code: u16) {
        frames::append_close(&mut self.out, code);
        self.flush();
    }

    /// Ends with a reset, as a machine does that lost its mind.
    pub(crate) fn abort(&mut self) {
        if let Some(wire) = &self.wire {
            drop(socket2::SockRef::from(wire.tcp()).set_linger(Some(std::time::Duration::ZERO)));
        }
        self.end(End::Aborted);
    }

    fn feed(&mut self, bytes: &[u8], target: &Target, n: usize, on_message: &mut dyn FnMut(&[u8])) {
        if self.partial.is_empty() {
            let used = self.consume(bytes, target, n, on_message);
            self.partial.extend_from_slice(&bytes[used..]);
        } else {
            let mut joined = std::mem::take(&mut self.partial);
            joined.extend_from_slice(bytes);
            let used = self.consume(&joined, target, n, on_message);
            if used < joined.len() {
                joined.drain(..used);
                self.partial = joined;
            }
        }
    }

    /// Handles whole answers and frames at the beginning of `bytes`; says how much that was.
    fn consume(&mut self, bytes: &[u8], target: &Target, n: usize, on_message: &mut dyn FnMut(&[u8])) -> usize {
        let mut used = 0;
        if self.state == State::Upgrading {
            let Some(head) = memmem::find(bytes, b"\r\n\r\n") else { return 0 };
            used = head + 4;
            let status = std::str::from_utf8(&bytes[..head]).ok().and_then(|head| head.split(' ').nth(1)?.parse().ok()).unwrap_or(0);
            if status != 101 {
                self.end(End::Refused(status));
                return bytes.len();
            }
            self.state = State::Welcoming;
            if target.welcome.is_empty() {
                self.introduce(target, n);
            }
        }
        while let Some((frame, length)) = frames::parse(&bytes[used..]) {
            used += length;
            self.frame(&frame, target, n, on_message);
        }
        used
    }

    fn frame(&mut self, frame: &frames::Frame<'_>, target: &Target, n: usize, on_message: &mut dyn FnMut(&[u8])) {
        match frame.opcode {
            frames::PING => {
                frames::append(&mut self.out, frames::PONG, frame.payload);
                self.flush();
            }
            frames::PONG => {}
            frames::CLOSE => {
                self.close_code = Some(frame.payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code)));
                frames::append(&mut self.out, frames::CLOSE, &frame.payload[..frame.payload.len().min(2)]);
                self.flush();
            }
            _ => {
                let says = |what: &str| memmem::find(frame.payload, what.as_bytes()).is_some();
                match self.state {
                    State::Welcoming if says(&target.welcome) => self.introduce(target, n),
                    State::Introducing if says(&target.connected) => self.subscribe(target, n),
                    State::Subscribing if says(&target.ready) => self.become_ready(),
                    _ => {}
                }
                let (asked, answer) = &target.heartbeat;
                if !asked.is_empty() && frame.payload.ends_with(asked.as_bytes()) {
                    self.send_text(answer);
                }
                on_message(frame.payload);
            }
        }
    }

    fn introduce(&mut self, target: &Target, n: usize) {
        if target.connect.is_empty() {
            return self.subscribe(target, n);
        }
        self.state = State::Introducing;
        self.send_text(&target.connect);
    }

    fn subscribe(&mut self, target: &Target, n: usize) {
        self.state = State::Subscribing;
        if !target.subscribe.is_empty() {
            self.send_text(&target.subscription(n));
        }
        if target.ready.is_empty() || target.subscribe.is_empty() {
            self.become_ready();
        }
    }

    fn become_ready(&mut self) {
        if self.state == State::Subscribing {
            self.state = State::Ready;
            self.stalled |= self.stalls;
        }
    }

    fn flush(&mut self) {
        let Some(wire) = &mut self.wire else { return };
        while !self.out.is_empty() {
            match wire.write(&self.out) {
                Ok(length) => drop(self.out.drain(..length)),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // What else is wrong shows when reading: that tells how the server ended it.
                Err(_) => break,
            }
        }
        drop(wire.flush());
        if self.out.is_empty() {
            self.out = Vec::new();
        }
    }

    fn end(&mut self, end: End) {
        self.state = State::Ended(end);
        self.wire = None;
        self.partial = Vec::new();
        self.out = Vec::new();
    }
}

/// A TCP connection that is being opened, from `source` if one is given.
///
/// # Errors
/// When the system has no file descriptor or port left.
pub fn open_socket(address: SocketAddr, source: Option<SocketAddr>, receive_buffer: Option<usize>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(source) = source {
        socket.set_reuse_address(true)?;
        socket.bind(&SockAddr::from(source))?;
    }
    match socket.connect(&SockAddr::from(address)) {
        Err(e) if e.raw_os_error() != Some(IN_PROGRESS) && e.kind() != ErrorKind::WouldBlock => return Err(e),
        _ => {}
    }
    Ok(TcpStream::from_std(socket.into()))
}

/// `EINPROGRESS` of Linux: the normal answer of a connect that doesn't wait.
const IN_PROGRESS: i32 = 115;
