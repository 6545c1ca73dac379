//! The connection as a state machine: no socket, no timer, no clock, no random source of its own. Time comes in as `now` in
//! milliseconds, inputs go in by [`Machine::handle`], and what is to be done comes out of [`Machine::poll`].

mod link;
mod outgoing;
mod subscriptions;

use std::collections::VecDeque;

use serde_json::value::RawValue;
use tidegate_core::{ChannelKind, CloseClass, close_class};

use crate::backoff::{Loss, close_name, retry_delay_ms};
use crate::client::Credential;
use crate::error::{Error, Stop};
use crate::event::{Cursor, Event, Since};
use crate::frame::{Frame, Reply, Say, Welcome, decode};
use link::{Link, Phase, STEP_MS};
use outgoing::Outgoing;
use subscriptions::{Heard, Subscriptions};

/// A connection that lasted this long was good: the next loss starts from the first delay again.
const STABLE_MS: u64 = 10_000;

/// Closes in a row that ask for a new credential, before it is given up.
const CREDENTIAL_TRIES: u32 = 3;

/// What happens. Inputs of a socket carry its attempt number; those of an older one change nothing.
#[derive(Debug)]
pub(crate) enum Input {
    Start,
    Stop,
    Tick,
    /// Nothing was read from the sockets lately, because the application takes no more events: silence means nothing.
    Held,
    Credential {
        attempt: u64,
        credential: Option<Credential>,
    },
    NoCredential {
        attempt: u64,
        reason: Box<str>,
    },
    Opened {
        attempt: u64,
    },
    Received {
        attempt: u64,
        text: Box<str>,
    },
    Closed {
        attempt: u64,
        code: u16,
        reason: Box<str>,
    },
    Subscribe {
        reference: u64,
        channel: Box<str>,
        kind: Option<ChannelKind>,
        since: Option<Since>,
    },
    Unsubscribe {
        reference: u64,
    },
    Command {
        reference: u64,
        command: Command,
        timeout_ms: u64,
    },
}

/// What a client wants done.
#[derive(Debug)]
pub(crate) enum Command {
    Publish { channel: Box<str>, message_id: Box<str>, key: Option<Box<str>>, data: Option<Box<RawValue>> },
    Request { method: Box<str>, data: Box<RawValue> },
}

/// What is to be done, in order.
#[derive(Debug)]
pub(crate) enum Action {
    Authenticate {
        attempt: u64,
        tries: u32,
        reason: Box<str>,
    },
    Open {
        attempt: u64,
        query: Vec<(&'static str, Box<str>)>,
    },
    Send {
        attempt: u64,
        text: String,
    },
    Close {
        attempt: u64,
        code: u16,
        reason: &'static str,
    },
    Settle {
        reference: u64,
        result: Result<Reply, Error>,
    },
    /// For a subscription; with its cursor if that has changed.
    Tell {
        reference: u64,
        event: Event,
        cursor: Option<Cursor>,
    },
    /// There is no connection; the next try comes in so many milliseconds.
    Waiting {
        code: u16,
        reason: Box<str>,
        retry_ms: u64,
    },
    /// The client is over.
    Stopped(Stop),
}

type Actions = Vec<Action>;

/// Whether it wants to be connected.
#[derive(Debug, PartialEq, Eq)]
enum Mode {
    Off,
    On,
    Stopped(Stop),
}

/// Set by `going_away`, until the next welcome.
#[derive(Debug)]
struct Move {
    handover: Option<Box<str>>,
    tried: bool,
}

pub(crate) struct Machine<R> {
    authenticates: bool,
    random: R,
    now: u64,
    mode: Mode,
    attempt: u64,
    last_id: u64,
    /// Tries since a connection was last stable.
    tries: u32,
    credential_tries: u32,
    /// The newest welcomed link, the one on its way, and the one that is being left.
    primary: Option<Link>,
    candidate: Option<Link>,
    leaving: Option<Link>,
    /// When the next try is due.
    open_at: u64,
    moving: Option<Move>,
    /// Why the last connection ended, for the credential's source.
    loss: Option<Loss>,
    agreed: Welcome,
    /// Nothing is sent before this moment: the server asked to slow down. One command at a time while `careful`.
    hold_until: u64,
    careful: bool,
    dirty: bool,
    outgoing: Outgoing,
    subscriptions: Subscriptions,
    made: Actions,
    ready: VecDeque<Action>,
}

impl<R: FnMut() -> f64> Machine<R> {
    /// A machine that does nothing before [`Input::Start`]. `random` gives numbers in [0, 1).
    pub(crate) fn new(authenticates: bool, random: R) -> Self {
        Self {
            authenticates,
            random,
            now: 0,
            mode: Mode::Off,
            attempt: 0,
            last_id: 0,
            tries: 0,
            credential_tries: 0,
            primary: None,
            candidate: None,
            leaving: None,
            open_at: u64::MAX,
            moving: None,
            loss: None,
            agreed: Welcome::default(),
            hold_until: 0,
            careful: false,
            dirty: false,
            outgoing: Outgoing::new(),
            subscriptions: Subscriptions::default(),
            made: Vec::new(),
            ready: VecDeque::new(),
        }
    }

    /// When [`Input::Tick`] is wanted next; `u64::MAX` if never.
    pub(crate) fn deadline(&self) -> u64 {
        if matches!(self.mode, Mode::Stopped(_)) {
            return u64::MAX;
        }
        let hold = if self.hold_until > self.now { self.hold_until } else { u64::MAX };
        let refused = if self.primary.is_some() { self.subscriptions.deadline(self.now) } else { u64::MAX };
        let links = self.links().map(|link| link.liveness_deadline(self.agreed.heartbeat.dead_ms));
        links.chain([self.open_at, self.outgoing.deadline(), hold, refused]).min().unwrap_or(u64::MAX)
    }

    /// The next thing to do.
    pub(crate) fn poll(&mut self) -> Option<Action> {
        self.ready.pop_front()
    }

    pub(crate) fn handle(&mut self, now: u64, input: Input) {
        self.now = now;
        match &self.mode {
            Mode::Stopped(stop) => {
                let stop = stop.clone();
                self.too_late(input, stop);
            }
            Mode::Off | Mode::On => self.input(input),
        }
        self.flush();
        self.ready.extend(self.made.drain(..));
    }

    fn input(&mut self, input: Input) {
        match input {
            Input::Start => {
                self.mode = Mode::On;
                self.connect();
            }
            Input::Stop => self.stop(1000, "closed"),
            Input::Tick => self.tick(),
            Input::Held => self.hold(),
            Input::Credential { attempt, credential } => self.credential(attempt, credential),
            // For a link that is ready the server will ask again, or close with 42xx.
            Input::NoCredential { attempt, reason } => {
                if self.link(attempt).is_some_and(|link| link.phase != Phase::Ready) {
                    self.lost(attempt, 1006, &reason);
                }
            }
            Input::Opened { attempt } => {
                if let Some(link) = self.link(attempt).filter(|link| link.phase == Phase::Opening) {
                    link.phase = Phase::Opened;
                }
            }
            Input::Received { attempt, text } => self.received(attempt, &text),
            Input::Closed { attempt, code, reason } => self.lost(attempt, code, &reason),
            Input::Subscribe { reference, channel, kind, since } => {
                self.dirty = true;
                self.subscriptions.add(channel, reference, kind, since, &mut self.made);
            }
            Input::Unsubscribe { reference } => {
                if let Some(channel) = self.subscriptions.remove(reference) {
                    for attempt in self.links().map(|link| link.attempt).collect::<Vec<_>>() {
                        self.unserve(attempt, &channel);
                    }
                }
            }
            Input::Command { reference, command, timeout_ms } => {
                self.dirty = true;
                let (id, limit) = (self.next_id(), self.agreed.limits.message_bytes);
                self.outgoing.add(id, reference, &command, self.now.saturating_add(timeout_ms), limit, &mut self.made);
            }
        }
    }

    fn too_late(&mut self, input: Input, stop: Stop) {
        match input {
            Input::Command { reference, .. } => self.made.push(Action::Settle { reference, result: Err(Error::Stopped(stop)) }),
            Input::Subscribe { reference, .. } => {
                self.made.push(Action::Tell { reference, event: Event::Stopped(stop), cursor: None });
            }
            _ => {}
        }
    }
}

/// Getting connected.
impl<R: FnMut() -> f64> Machine<R> {
    fn connect(&mut self) {
        self.open_at = u64::MAX;
        if let Some(moving) = &mut self.moving {
            moving.tried = true;
        }
        self.attempt += 1;
        let attempt = self.attempt;
        self.candidate = Some(Link::new(attempt, self.now));
        if !self.authenticates {
            return self.credential(attempt, None);
        }
        let told = self.loss.as_ref().filter(|loss| close_class(loss.code) == CloseClass::Reauthenticate);
        let reason = told.map_or(if attempt == 1 { "connect" } else { "reconnect" }, |loss| close_name(&loss.reason)).into();
        self.made.push(Action::Authenticate { attempt, tries: self.tries + 1, reason });
    }

    fn credential(&mut self, attempt: u64, credential: Option<Credential>) {
        let handover = self.moving.as_ref().filter(|_| self.primary.is_some()).and_then(|moving| moving.handover.clone());
        let (now, id) = (self.now, self.last_id + 1);
        let Some(link) = self.link(attempt) else { return };
        if link.phase == Phase::Ready {
            if let Some(credential) = credential {
                let text = Say::of(&credential, id).encode();
                self.last_id = id;
                self.made.push(Action::Send { attempt, text });
            }
            return;
        }
        if link.phase != Phase::Credential {
            return;
        }
        link.phase = Phase::Opening;
        link.deadline = now + STEP_MS;
        let mut query = Vec::new();
        if let Some(Credential::Ticket(ticket)) = &credential {
            query.push(("ticket", ticket.as_str().into()));
        }
        query.extend(handover.map(|handover| ("handover", handover)));
        link.credential = credential;
        self.made.push(Action::Open { attempt, query });
    }

    fn welcome(&mut self, attempt: u64, welcome: Welcome) {
        self.agreed = welcome;
        let Some(mut link) = self.candidate.take_if(|link| link.attempt == attempt) else { return };
        link.phase = Phase::Ready;
        link.ready_at = self.now;
        if let Some(old) = self.leaving.take() {
            self.close(&old, "moved");
        }
        self.leaving = self.primary.replace(link);
        self.moving = None;
        self.loss = None;
        self.open_at = u64::MAX;
        self.dirty = true;
    }
}

/// Losing it.
impl<R: FnMut() -> f64> Machine<R> {
    fn lost(&mut self, attempt: u64, code: u16, reason: &str) {
        if self.link(attempt).is_none() {
            return;
        }
        self.outgoing.lost(attempt, &mut self.made);
        self.dirty = true;
        if self.leaving.take_if(|link| link.attempt == attempt).is_some() {
            return self.subscriptions.forget_ids();
        }
        let gone = self.primary.take_if(|link| link.attempt == attempt);
        let welcomed = gone.is_some();
        match gone {
            None => self.candidate = None,
            Some(link) => {
                if self.now - link.ready_at >= STABLE_MS {
                    (self.tries, self.credential_tries) = (0, 0);
                }
                if let Some(old) = self.leaving.take() {
                    self.close(&old, "moved");
                    self.subscriptions.forget_ids();
                }
                self.subscriptions.lost(&mut self.made);
            }
        }
        let loss = Loss { code, reason: reason.into(), welcomed };
        match close_class(code) {
            CloseClass::Stop | CloseClass::Done => return self.stop(code, reason),
            CloseClass::Reauthenticate => {
                self.credential_tries += 1;
                if self.credential_tries > CREDENTIAL_TRIES {
                    return self.stop(code, reason);
                }
            }
            CloseClass::StartAfresh => self.subscriptions.drop_cursors(&mut self.made),
            CloseClass::Resume | CloseClass::BackOff => {}
        }
        self.schedule(&loss);
        self.loss = Some(loss);
    }

    /// Plans the next try, unless one is on its way or `going_away` has named its time.
    fn schedule(&mut self, loss: &Loss) {
        if self.candidate.is_some() || self.moving.as_ref().is_some_and(|moving| !moving.tried) {
            return;
        }
        let delay = retry_delay_ms(loss, self.tries, &self.agreed.reconnect, (self.random)());
        self.tries += 1;
        self.open_at = self.now + delay;
        if self.primary.is_none() {
            self.made.push(Action::Waiting { code: loss.code, reason: loss.reason.clone(), retry_ms: delay });
        }
    }

    fn stop(&mut self, code: u16, reason: &str) {
        for link in [self.primary.take(), self.candidate.take(), self.leaving.take()].into_iter().flatten() {
            self.close(&link, "closed");
        }
        self.open_at = u64::MAX;
        let stop = Stop { code: Some(code), reason: reason.into() };
        self.outgoing.stop(&stop, &mut self.made);
        self.subscriptions.stop(&stop, &mut self.made);
        self.made.push(Action::Stopped(stop.clone()));
        self.mode = Mode::Stopped(stop);
    }

    /// Gives a link up. Nothing that its socket says afterwards is heard.
    fn close(&mut self, link: &Link, reason: &'static str) {
        self.made.push(Action::Close { attempt: link.attempt, code: 1000, reason });
        self.outgoing.lost(link.attempt, &mut self.made);
    }
}

/// Time.
impl<R: FnMut() -> f64> Machine<R> {
    fn tick(&mut self) {
        self.outgoing.expire(self.now, &mut self.made);
        self.dirty = true;
        if self.now >= self.open_at {
            self.connect();
        }
        let (now, quiet_ms) = (self.now, self.agreed.heartbeat.dead_ms);
        let silent: Vec<u64> = self.links().filter(|link| now >= link.liveness_deadline(quiet_ms)).map(|link| link.attempt).collect();
        for attempt in silent {
            self.silent(attempt);
        }
    }

    fn hold(&mut self) {
        for link in [&mut self.primary, &mut self.leaving].into_iter().flatten() {
            link.heard_at = self.now;
            link.probed_at = None;
        }
    }

    /// Asks a quiet link for a sign of life, and gives up one that gave none. A late timer must not kill a link whose messages
    /// are still to be read, so nothing is given up unasked.
    fn silent(&mut self, attempt: u64) {
        let now = self.now;
        let Some(link) = self.link(attempt) else { return };
        if link.phase == Phase::Ready && link.probed_at.is_none() {
            link.probed_at = Some(now);
            self.made.push(Action::Send { attempt, text: r#"{"type":"ping"}"#.to_owned() });
            return;
        }
        let reason = if link.phase == Phase::Ready { "heartbeat_timeout" } else { "no answer in time" };
        self.made.push(Action::Close { attempt, code: 4104, reason: "heartbeat_timeout" });
        self.lost(attempt, 1006, reason);
    }
}

/// What the server says.
impl<R: FnMut() -> f64> Machine<R> {
    fn received(&mut self, attempt: u64, text: &str) {
        let now = self.now;
        let Some(link) = self.link(attempt) else { return };
        link.heard_at = now;
        link.probed_at = None;
        match decode(text) {
            Ok(frames) => frames.into_iter().for_each(|frame| self.frame(attempt, frame)),
            Err(problem) => {
                self.made.push(Action::Close { attempt, code: 4400, reason: "bad_frame" });
                self.lost(attempt, 1006, &format!("bad frame from the server: {problem}"));
            }
        }
    }

    fn frame(&mut self, attempt: u64, frame: Frame) {
        match frame {
            Frame::Challenge => self.challenged(attempt),
            Frame::Welcome(welcome) => self.welcome(attempt, welcome),
            Frame::Ping { n } => self.send(attempt, &Say::Pong { n: n.as_deref() }),
            Frame::Reauth { reason } if self.authenticates => {
                self.made.push(Action::Authenticate { attempt, tries: 1, reason });
            }
            Frame::GoingAway { reconnect_after_ms, handover } => self.going_away(attempt, reconnect_after_ms, handover),
            Frame::Done { id, reply } => {
                self.dirty = true;
                self.outgoing.done(id, reply, &mut self.made);
            }
            Frame::Refused { id, code, message, retry_after_ms } => self.refused(attempt, id, code, message, retry_after_ms),
            Frame::Pong | Frame::Reauth { .. } | Frame::Unknown => {}
            about_channel => self.about_channel(attempt, about_channel),
        }
    }

    fn challenged(&mut self, attempt: u64) {
        let id = self.next_id();
        match self.link(attempt).and_then(|link| link.credential.clone()) {
            Some(credential @ Credential::Token(_)) => self.made.push(Action::Send { attempt, text: Say::of(&credential, id).encode() }),
            Some(Credential::Ticket(_)) | None => self.stop(4401, "the server wants a token, and there is none"),
        }
    }

    fn going_away(&mut self, attempt: u64, reconnect_after_ms: u64, handover: Option<Box<str>>) {
        if self.primary.as_ref().is_none_or(|link| link.attempt != attempt) || self.moving.is_some() {
            return;
        }
        self.moving = Some(Move { handover, tried: false });
        self.open_at = self.now.saturating_add(reconnect_after_ms);
        if reconnect_after_ms == 0 {
            self.connect();
        }
    }

    fn refused(&mut self, attempt: u64, id: Option<u64>, code: Box<str>, message: Box<str>, retry_after_ms: Option<u64>) {
        self.dirty = true;
        let Some(id) = id else { return };
        let hold = match self.link(attempt).and_then(|link| take_asked(link, id)) {
            Some(channel) => {
                let (text, hold) = (format!("{code}: {message}"), if &*code == "rate_limited" { retry_after_ms } else { None });
                self.subscriptions.refused(self.now, &channel, text, retry_after_ms, &mut self.made);
                hold.unwrap_or(0)
            }
            None => {
                let error = Error::Refused { code, message, retry_after_ms };
                self.outgoing.refused(self.now, id, error, retry_after_ms, &mut self.made)
            }
        };
        if hold > 0 {
            self.careful = true;
            self.hold_until = self.hold_until.max(self.now.saturating_add(hold));
        }
    }

    fn about_channel(&mut self, attempt: u64, frame: Frame) {
        let newest = self.primary.as_ref().is_some_and(|link| link.attempt == attempt);
        let channel: Box<str> = match &frame {
            Frame::Message(message) => message.channel.clone(),
            Frame::Snapshot { snapshot, .. } => snapshot.channel.clone(),
            Frame::Gap { gap, .. } => gap.channel.clone(),
            Frame::Subscribed { channel, .. } | Frame::Live { channel, .. } | Frame::Unsubscribed { channel, .. } => channel.clone(),
            _ => return,
        };
        let elsewhere =
            if newest { None } else { self.primary.as_ref().and_then(|link| link.served.get(&channel)).map(|served| served.state) };
        let heard = Heard { newest, elsewhere };
        let links = [&mut self.primary, &mut self.leaving];
        let Some(link) = links.into_iter().flatten().find(|link| link.attempt == attempt) else { return };
        let Some(served) = link.served.get_mut(&channel) else { return };
        // What comes before `subscribed` belongs to an earlier subscription that has been given up.
        let answers = matches!(&frame, Frame::Subscribed { id, .. } if *id == served.id);
        if served.state == link::Serving::Asked && !answers {
            return;
        }
        self.dirty |= !matches!(frame, Frame::Message(_));
        let (subscriptions, made) = (&mut self.subscriptions, &mut self.made);
        match frame {
            Frame::Message(message) => subscriptions.message(served, heard, message, made),
            Frame::Live { offset, .. } => subscriptions.live(served, heard, &channel, offset, made),
            Frame::Snapshot { snapshot, more } => subscriptions.snapshot(served, heard, snapshot, more, made),
            Frame::Subscribed { kind, position, recovery_none, .. } => {
                subscriptions.subscribed(served, heard, &channel, kind, (position, recovery_none), made);
            }
            Frame::Gap { gap, position } => {
                let goes_on = subscriptions.gap(served, heard, gap, position, made);
                if !goes_on {
                    link.served.remove(&channel);
                }
            }
            Frame::Unsubscribed { code, retry_after_ms, .. } => {
                link.served.remove(&channel);
                if newest {
                    subscriptions.refused(self.now, &channel, code.into(), retry_after_ms, made);
                }
            }
            _ => {}
        }
        if !self.subscriptions.has(&channel) {
            self.unserve(attempt, &channel);
        }
    }
}

/// What we say.
impl<R: FnMut() -> f64> Machine<R> {
    fn flush(&mut self) {
        if !std::mem::take(&mut self.dirty) || self.now < self.hold_until {
            return;
        }
        let Some(link) = &mut self.primary else { return };
        let window = if self.careful { 1 } else { self.agreed.limits.in_flight };
        let room = |link: &Link, outgoing: &Outgoing| window.saturating_sub(outgoing.in_flight(link.attempt) + link.asked());
        let places = room(link, &self.outgoing);
        let subscribed = self.subscriptions.flush(self.now, link, places, &mut self.last_id, &mut self.made);
        let places = room(link, &self.outgoing);
        let sent = self.outgoing.flush(link.attempt, places, &mut self.made);
        if subscribed && sent && room(link, &self.outgoing) == window {
            self.careful = false;
        }
        // The old link is closed once the new one has everything, and the old one owes no reply.
        let settled = self.subscriptions.settled_on(link);
        if let Some(old) = self.leaving.take_if(|old| settled && self.outgoing.in_flight(old.attempt) == 0) {
            self.close(&old, "moved");
            self.subscriptions.forget_ids();
        }
    }

    fn unserve(&mut self, attempt: u64, channel: &str) {
        if self.link(attempt).is_some_and(|link| link.served.remove(channel).is_some()) {
            let id = self.next_id();
            self.send(attempt, &Say::Unsubscribe { id, channel });
        }
    }

    fn send(&mut self, attempt: u64, frame: &Say<'_>) {
        self.made.push(Action::Send { attempt, text: frame.encode() });
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn links(&self) -> impl Iterator<Item = &Link> {
        [&self.primary, &self.candidate, &self.leaving].into_iter().flatten()
    }

    fn link(&mut self, attempt: u64) -> Option<&mut Link> {
        [&mut self.primary, &mut self.candidate, &mut self.leaving].into_iter().flatten().find(|link| link.attempt == attempt)
    }
}

/// The channel whose `subscribe` had this id, which is no longer served.
fn take_asked(link: &mut Link, id: u64) -> Option<Box<str>> {
    let channel = link.served.iter().find(|(_, served)| served.id == id).map(|(channel, _)| channel.clone())?;
    link.served.remove(&channel);
    Some(channel)
}

impl Command {
    /// A publish has an id by which a repetition is recognised; whether a request was begun can't be known.
    const fn is_repeatable(&self) -> bool {
        matches!(self, Self::Publish { .. })
    }

    fn encode(&self, id: u64) -> String {
        match self {
            Self::Publish { channel, message_id, key, data } => {
                let (data, deleted) = (data.as_deref(), data.is_none());
                Say::Publish { id, channel, message_id, key: key.as_deref(), data, deleted }.encode()
            }
            Self::Request { method, data } => Say::Request { id, method, data }.encode(),
        }
    }
}
