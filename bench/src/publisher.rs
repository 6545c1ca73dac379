//! A publisher: one connection that is kept open and may have several requests under way.

use std::io::{self, ErrorKind, Read, Write};

use mio::net::TcpStream;

use crate::http::{self, Answer};
use crate::nats;
use crate::peer::open_socket;
use crate::target::{Publishing, Target};

pub(crate) struct Publisher {
    stream: TcpStream,
    /// Finds the first whole answer, and where it ends.
    parse: fn(&[u8]) -> Option<(Answer, usize)>,
    out: Vec<u8>,
    partial: Vec<u8>,
    /// Requests that are not answered.
    pub(crate) unanswered: usize,
    /// Why it ended.
    pub(crate) broken: Option<String>,
}

impl Publisher {
    pub(crate) fn connect(target: &Target) -> io::Result<Self> {
        let stream = open_socket(target.api, None, None)?;
        let (parse, out): (fn(&[u8]) -> _, _) = match target.publishing {
            Publishing::Nats => (nats::parse, nats::CONNECT.to_vec()),
            Publishing::Http | Publishing::Pusher(_) => (http::parse, Vec::new()),
        };
        Ok(Self { stream, parse, out, partial: Vec::new(), unanswered: 0, broken: None })
    }

    pub(crate) fn stream_mut(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub(crate) fn request(&mut self, request: &str) {
        self.unanswered += 1;
        self.out.extend_from_slice(request.as_bytes());
        self.flush();
    }

    pub(crate) fn flush(&mut self) {
        if self.stream.peer_addr().is_err() {
            return;
        }
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(length) => drop(self.out.drain(..length)),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) => return self.broken = Some(e.to_string()),
            }
        }
    }

    pub(crate) fn readable(&mut self, scratch: &mut [u8], on_answer: &mut dyn FnMut(Answer)) {
        while self.broken.is_none() {
            match self.stream.read(scratch) {
                Ok(0) => self.broken = Some("the server ended the connection".to_owned()),
                Ok(length) => self.partial.extend_from_slice(&scratch[..length]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) => self.broken = Some(e.to_string()),
            }
        }
        while let Some((answer, length)) = (self.parse)(&self.partial) {
            self.partial.drain(..length);
            self.unanswered = self.unanswered.saturating_sub(1);
            on_answer(answer);
        }
    }
}
