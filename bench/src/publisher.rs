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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use crate::http::Answer;
    use crate::pusher::App;
    use crate::swarm::{Sink, Swarm};
    use crate::target::{Publishing, Target};

    struct Answers(usize);

    impl Sink for Answers {
        fn message(&mut self, _peer: usize, _payload: &[u8]) {}

        fn answer(&mut self, _publisher: usize, answer: Answer) {
            self.0 += usize::from(answer.status == 200);
        }
    }

    #[test]
    fn a_server_that_ends_each_connection_with_its_answer_gets_every_request_once() {
        use std::io::{Read, Write};
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            for _ in 0..3 {
                let (mut stream, _) = listener.accept().unwrap();
                let length = stream.read(&mut [0; 4096]).unwrap();
                assert!(length > 0);
                stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").unwrap();
            }
        });
        let mut target = Target::tidegate(address, address, "topic");
        target.publishing = Publishing::Pusher(App { key: "key".to_owned(), secret: "secret".to_owned() });
        let mut swarm = Swarm::new(target).unwrap();
        swarm.add_publisher().unwrap();
        (0..3).for_each(|_| swarm.request(0, "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"));
        let mut answers = Answers(0);
        assert!(swarm.run_until(Duration::from_secs(5), &mut answers, |swarm| swarm.unanswered(0) == 0).unwrap());
        assert_eq!(answers.0, 3);
        server.join().unwrap();
    }
}
