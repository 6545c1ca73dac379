//! A publisher: one connection that is kept open and may have several requests under way; or, where the server ends the connection with
//! each answer, one connection after the other.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;

use crate::http::{self, Answer};
use crate::nats;
use crate::peer::open_socket;
use crate::target::{Publishing, Target};

pub(crate) struct Publisher {
    api: SocketAddr,
    stream: TcpStream,
    /// The stream has to be registered: it is another than before.
    pub(crate) is_new: bool,
    /// The server ends the connection with each answer.
    is_for_one: bool,
    /// Requests that wait for the next connection. As many as there are unanswered, which the measure bounds.
    waiting: VecDeque<String>,
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
        let is_for_one = matches!(target.publishing, Publishing::Pusher(_));
        let (parse, out): (fn(&[u8]) -> _, _) = match target.publishing {
            Publishing::Nats => (nats::parse, nats::CONNECT.to_vec()),
            Publishing::Http | Publishing::Pusher(_) => (http::parse, Vec::new()),
        };
        Ok(Self {
            api: target.api,
            stream,
            is_new: true,
            is_for_one,
            waiting: VecDeque::new(),
            parse,
            out,
            partial: Vec::new(),
            unanswered: 0,
            broken: None,
        })
    }

    /// The stream, to be registered.
    pub(crate) fn stream_mut(&mut self) -> &mut TcpStream {
        self.is_new = false;
        &mut self.stream
    }

    pub(crate) fn request(&mut self, request: &str) {
        self.unanswered += 1;
        if self.is_for_one && self.unanswered > 1 {
            return self.waiting.push_back(request.to_owned());
        }
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
        let mut has_ended = false;
        while !has_ended && self.broken.is_none() {
            match self.stream.read(scratch) {
                Ok(0) => has_ended = true,
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
            if self.is_for_one {
                return self.renew();
            }
        }
        if has_ended {
            self.broken.get_or_insert("the server ended the connection".to_owned());
        }
    }

    /// Opens the next connection, and sends on it what waits.
    fn renew(&mut self) {
        match open_socket(self.api, None, None) {
            Ok(stream) => (self.stream, self.is_new) = (stream, true),
            Err(e) => self.broken = Some(e.to_string()),
        }
        self.partial.clear();
        self.out.extend(self.waiting.pop_front().into_iter().flat_map(String::into_bytes));
    }
}
