//! Many client connections and a few publishers on one thread, in one `epoll`.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use crate::http::Answer;
use crate::peer::{End, Options, Peer, Reading, State};
use crate::publisher::Publisher;
use crate::target::Target;

/// Connections being opened at once: below every listener's backlog.
const OPENING_MAX: usize = 64;
/// Bytes read at once; more than a socket's receive buffer holds when it is read in time.
const SCRATCH_BYTES: usize = 256 * 1024;
/// Tokens from here on are publishers.
const PUBLISHERS: usize = usize::MAX / 2;

/// Sees what arrives.
pub trait Sink {
    /// A whole text or binary message of connection `peer`.
    fn message(&mut self, peer: usize, payload: &[u8]);

    /// Connection `peer` is over.
    fn ended(&mut self, peer: usize, end: End) {
        let _ = (peer, end);
    }

    /// The oldest unanswered request of a publisher was answered.
    fn answer(&mut self, publisher: usize, answer: Answer) {
        let _ = (publisher, answer);
    }
}

/// Looks at nothing.
impl Sink for () {
    fn message(&mut self, _peer: usize, _payload: &[u8]) {}
}

/// The connections to one server.
pub struct Swarm {
    target: Target,
    poll: Poll,
    events: Events,
    scratch: Box<[u8]>,
    peers: Vec<Option<Peer>>,
    waiting: VecDeque<(usize, Options)>,
    publishers: Vec<Publisher>,
    opening: usize,
    ready: usize,
    ends: BTreeMap<End, usize>,
}

impl Swarm {
    /// A swarm without connections.
    ///
    /// # Errors
    /// When the system has no `epoll` left.
    pub fn new(target: Target) -> io::Result<Self> {
        Ok(Self {
            target,
            poll: Poll::new()?,
            events: Events::with_capacity(4096),
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            peers: Vec::new(),
            waiting: VecDeque::new(),
            publishers: Vec::new(),
            opening: 0,
            ready: 0,
            ends: BTreeMap::new(),
        })
    }

    /// What is under load.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Opens `count` more connections in the turns to come; their numbers follow those that were there.
    pub fn add(&mut self, count: usize, options: Options) {
        for _ in 0..count {
            self.waiting.push_back((self.peers.len(), options));
            self.peers.push(None);
        }
    }

    /// Opens a publisher's connection.
    ///
    /// # Errors
    /// When there is no file descriptor or port left.
    pub fn add_publisher(&mut self) -> io::Result<()> {
        self.publishers.push(Publisher::connect(&self.target)?);
        self.register_publisher(self.publishers.len() - 1)
    }

    /// Sends a request on publisher `which`, behind those under way.
    pub fn request(&mut self, which: usize, request: &str) {
        self.publishers[which].request(request);
    }

    /// Requests of publisher `which` that are not answered.
    pub fn unanswered(&self, which: usize) -> usize {
        self.publishers[which].unanswered
    }

    /// Connections that receive.
    pub fn ready(&self) -> usize {
        self.ready
    }

    /// Connections that are over, by how they ended.
    pub fn ends(&self) -> &BTreeMap<End, usize> {
        &self.ends
    }

    /// How many connections are over.
    pub fn ended(&self) -> usize {
        self.ends.values().sum()
    }

    /// How far connection `peer` is.
    pub fn state(&self, peer: usize) -> State {
        self.peers[peer].as_ref().map_or(State::Connecting, |peer| peer.state)
    }

    /// Our address of connection `peer`, while it is open.
    pub fn local_address(&self, peer: usize) -> Option<SocketAddr> {
        self.peers[peer].as_ref()?.local_address()
    }

    /// One turn: opens what waits, then handles what the sockets have, waiting at most `timeout` for it.
    ///
    /// # Errors
    /// When a publisher's connection broke, or the system has no file descriptor or port left.
    pub fn turn(&mut self, timeout: Duration, sink: &mut dyn Sink) -> io::Result<()> {
        self.open_waiting()?;
        let timeout = if self.target.polls { Duration::ZERO } else { timeout };
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            match event.token().0.checked_sub(PUBLISHERS) {
                Some(which) => self.publisher_turn(which, sink)?,
                None => {
                    let bytes = event.is_readable().then_some(Reading::Bytes);
                    let reading = if event.is_read_closed() { Some(Reading::ToTheEnd) } else { bytes };
                    self.peer_turn(event.token().0, reading, sink);
                }
            }
        }
        self.events = events;
        Ok(())
    }

    /// Turns until `done` or until `limit` has passed; says whether it was done.
    ///
    /// # Errors
    /// Those of [`Swarm::turn`].
    pub fn run_until(&mut self, limit: Duration, sink: &mut dyn Sink, mut done: impl FnMut(&Self) -> bool) -> io::Result<bool> {
        let end = Instant::now() + limit;
        loop {
            if done(self) {
                return Ok(true);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            self.turn(left.min(Duration::from_millis(20)), sink)?;
        }
    }

    /// Sends a text message on connection `peer`.
    pub fn send_text(&mut self, peer: usize, text: &str) {
        self.with(peer, |peer| peer.send_text(text));
    }

    /// Sends bytes as they are on connection `peer`.
    pub fn send_raw(&mut self, peer: usize, bytes: &[u8]) {
        self.with(peer, |peer| peer.send_raw(bytes));
    }

    /// Sends a close frame on connection `peer`.
    pub fn send_close(&mut self, peer: usize, code: u16) {
        self.with(peer, |peer| peer.send_close(code));
    }

    /// Resets connection `peer`.
    pub fn abort(&mut self, number: usize) {
        let before = self.state(number);
        self.with(number, Peer::abort);
        self.note(number, before, &mut ());
    }

    /// Connection `peer` reads no more, until [`Swarm::resume`].
    pub fn stall(&mut self, peer: usize) {
        self.with(peer, |peer| peer.stalled = true);
    }

    /// Connection `peer` reads again, at once and from now on.
    pub fn resume(&mut self, peer: usize, sink: &mut dyn Sink) {
        self.with(peer, |peer| peer.stalled = false);
        self.peer_turn(peer, Some(Reading::ToTheEnd), sink);
    }

    /// A stalled connection reads once, at most `bytes`.
    pub fn sip(&mut self, peer: usize, bytes: usize, sink: &mut dyn Sink) {
        self.with(peer, |peer| peer.stalled = false);
        self.peer_turn(peer, Some(Reading::AtMost(bytes)), sink);
        self.with(peer, |peer| peer.stalled = true);
    }

    fn with(&mut self, peer: usize, act: impl FnOnce(&mut Peer)) {
        if let Some(peer) = &mut self.peers[peer] {
            act(peer);
        }
    }

    fn open_waiting(&mut self) -> io::Result<()> {
        while self.opening < OPENING_MAX {
            let Some((number, options)) = self.waiting.pop_front() else { return Ok(()) };
            let mut peer = Peer::connect(&self.target, number, options)?;
            if let Some(stream) = peer.stream_mut() {
                self.poll.registry().register(stream, Token(number), Interest::READABLE | Interest::WRITABLE)?;
            }
            self.peers[number] = Some(peer);
            self.opening += 1;
        }
        Ok(())
    }

    fn peer_turn(&mut self, number: usize, reading: Option<Reading>, sink: &mut dyn Sink) {
        let Some(peer) = &mut self.peers[number] else { return };
        let before = peer.state;
        peer.writable(&self.target, number);
        if let Some(reading) = reading {
            peer.readable(&mut self.scratch, reading, &self.target, number, &mut |payload| sink.message(number, payload));
        }
        self.note(number, before, sink);
    }

    /// Keeps the counts when a connection went from `before` to what it is now.
    fn note(&mut self, number: usize, before: State, sink: &mut dyn Sink) {
        let now = self.state(number);
        let is_opening = |state| matches!(state, State::Connecting | State::Upgrading);
        if is_opening(before) && !is_opening(now) {
            self.opening -= 1;
        }
        if before != State::Ready && now == State::Ready {
            self.ready += 1;
        }
        if let (false, State::Ended(end)) = (matches!(before, State::Ended(_)), now) {
            self.ready -= usize::from(before == State::Ready);
            *self.ends.entry(end).or_default() += 1;
            sink.ended(number, end);
        }
    }

    fn publisher_turn(&mut self, which: usize, sink: &mut dyn Sink) -> io::Result<()> {
        let publisher = &mut self.publishers[which];
        publisher.flush();
        publisher.readable(&mut self.scratch, &mut |answer| sink.answer(which, answer));
        match &publisher.broken {
            Some(reason) => Err(io::Error::other(format!("publisher {which}: {reason}"))),
            None if publisher.is_new => self.register_publisher(which),
            None => Ok(()),
        }
    }

    fn register_publisher(&mut self, which: usize) -> io::Result<()> {
        let stream = self.publishers[which].stream_mut();
        self.poll.registry().register(stream, Token(PUBLISHERS + which), Interest::READABLE | Interest::WRITABLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swarm_that_polls_does_not_wait() {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        for (polls, waits) in [(true, false), (false, true)] {
            let mut swarm = Swarm::new(Target { polls, ..Target::tidegate(nowhere, nowhere, "topic") }).unwrap();
            let begun = Instant::now();
            swarm.turn(Duration::from_millis(500), &mut ()).unwrap();
            assert_eq!(begun.elapsed() >= Duration::from_millis(500), waits, "polls: {polls}");
        }
    }
}
