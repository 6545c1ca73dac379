//! The session: one connection's life as a machine without I/O.
//!
//! What comes in goes through [`Session::handle`] (and [`Session::deliver`], the one that is called for every subscriber of every
//! message). While the socket takes bytes, [`Session::poll_transmit`]; after any of the three, [`Session::poll_output`] until it
//! gives `None`; and an [`Input::Timeout`] no earlier than [`Session::poll_timeout`].
//!
//! Each concern has a file that adds its part to [`Session`]: what it may do (`authority`), what it asks (`commands`,
//! `subscriptions`), what waits for it (`outbox`), whether it lives (`heartbeat`, `stall`), how it leaves (`depart`,
//! `farewell`, `close`). What is due when is in one table (`timers`).

mod authority;
mod close;
mod commands;
mod depart;
mod farewell;
mod heartbeat;
mod io;
mod outbox;
mod rate;
mod stall;
mod state;
mod subscriptions;
mod timers;

pub use heartbeat::PING_GRID;
pub use io::{Ending, Input, Mode, Notice, Output, Push, Shed, SubscriptionId, Transmit};

use std::collections::VecDeque;
use std::sync::Arc;

use self::authority::Authority;
use self::commands::Backlog;
use self::depart::Departure;
use self::farewell::Farewell;
use self::heartbeat::Heartbeat;
use self::outbox::Outbox;
use self::rate::Rate;
use self::stall::Stall;
use self::state::State;
use self::timers::{Timer, Timers};
use crate::{ConnectionId, Identity, Moment, Publication, SessionSettings};

/// One connection's life.
#[derive(Debug)]
pub struct Session {
    mode: Mode,
    settings: Arc<SessionSettings>,
    connection: ConnectionId,
    state: State,
    timers: Timers,
    heartbeat: Heartbeat,
    stall: Stall,
    rate: Rate,
    authority: Authority,
    /// Commands that hub, broker, backend or authentication have not answered.
    in_flight: u32,
    backlog: Backlog,
    outbox: Outbox,
    depart: Option<Box<Departure>>,
    outputs: VecDeque<Output>,
}

/// What a session begins with.
#[derive(Debug)]
pub struct Opening {
    /// What it speaks.
    pub mode: Mode,
    /// Its settings.
    pub settings: Arc<SessionSettings>,
    /// The connection's id, told in `welcome`.
    pub connection: ConnectionId,
    /// Who it is, if the upgrade authenticated it.
    pub identity: Option<Arc<Identity>>,
    /// Seeds the jitter of its timers. Sessions that share one ping at the same times, as long as they are equally quiet; what is to be
    /// apart for each, its maximum age, depends on the connection's id too.
    pub seed: u64,
}

impl Session {
    /// A session whose upgrade has just been answered with 101.
    pub fn new(now: Moment, opening: Opening) -> Self {
        let Opening { mode, settings, connection, identity, seed } = opening;
        let mut session = Self {
            mode,
            connection,
            state: State::Opening,
            timers: Timers::new(),
            heartbeat: Heartbeat::new(now, seed),
            stall: Stall::default(),
            rate: Rate::new(now, settings.limits.rate),
            authority: Authority::default(),
            in_flight: 0,
            backlog: None,
            outbox: Outbox::new(settings.outbox),
            depart: None,
            outputs: VecDeque::new(),
            settings,
        };
        session.start_heartbeat(now);
        match (mode, identity) {
            (_, Some(identity)) => session.authenticated(now, None, identity),
            (Mode::Raw, None) => session.state = State::Open,
            (Mode::Tidegate, None) => session.timers.set(Timer::Authenticate, now + session.settings.limits.authenticate),
        }
        session
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Moment, input: Input) {
        match self.state {
            State::Opening | State::Open | State::Flushing(_) => self.handle_alive(now, input),
            State::Closing(_) => self.handle_closing(now, &input),
            State::Ended => {}
        }
        self.settle(now);
    }

    /// Takes in a publication of a channel it is attached to. Separate from `handle` because it is the hot path: nothing is
    /// allocated when the outbox has room, and the outcome is a value for the hub to count.
    pub fn deliver(&mut self, now: Moment, subscription: SubscriptionId, publication: &Arc<Publication>) -> Push {
        if !self.state.is_open() {
            return Push::Ignored;
        }
        let push = self.outbox.push(subscription, publication);
        match push {
            Push::Parked => self.ask_for_history(),
            Push::Disconnected => self.cut_slow(now),
            Push::Queued | Push::Full | Push::Dropped(_) | Push::Refused(_) | Push::Conflated | Push::Ignored => {}
        }
        push
    }

    /// Lets publications of a channel past the outbox, as if each had been delivered and taken for the socket at once. Only if
    /// nothing waits and the subscription is up to date; else nothing happens, and they have to be delivered. Whoever was told
    /// `true` writes them next, all of them and in this order.
    pub fn pass(&mut self, now: Moment, subscription: SubscriptionId, publications: &[Arc<Publication>]) -> bool {
        let passes = self.state.is_open() && !self.heartbeat.has_ping() && self.outbox.pass(subscription, publications);
        if passes {
            self.heartbeat.spoke(now);
        }
        passes
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        if self.outputs.is_empty() && self.outputs.capacity() > 0 {
            // Most sessions are idle most of the time: they keep nothing for the next output.
            self.outputs = VecDeque::new();
        }
        output
    }

    /// Whether [`Session::poll_output`] would give something: after a `deliver` the driver has to be woken for it.
    pub fn has_output(&self) -> bool {
        !self.outputs.is_empty()
    }

    /// What is to be written next. Ask only when the socket can take it: what is not asked for can still be conflated,
    /// dropped by policy, or overtaken by a control message.
    pub fn poll_transmit(&mut self, now: Moment) -> Option<Transmit> {
        if !self.state.is_alive() {
            return self.transmit_close();
        }
        if let Some(ping) = self.heartbeat.take_ping() {
            return Some(Transmit::Ping(ping));
        }
        let transmit = self.outbox.next();
        if matches!(transmit, Some(Transmit::Publication(_) | Transmit::Raw { .. })) {
            self.heartbeat.spoke(now);
        }
        self.settle(now);
        // The last of a flush is followed by the close frame.
        transmit.or_else(|| self.transmit_close())
    }

    /// Whether [`Session::poll_transmit`] would give something.
    pub fn wants_write(&self) -> bool {
        match self.state {
            State::Opening | State::Open | State::Flushing(_) => self.heartbeat.has_ping() || self.outbox.has_next(),
            State::Closing(_) => self.has_close_to_write(),
            State::Ended => false,
        }
    }

    /// Whether the socket is to be read: not while too many commands are under way, nor after the end.
    pub fn wants_read(&self) -> bool {
        match &self.state {
            State::Opening | State::Open => self.mode == Mode::Raw || (self.backlog.is_none() && self.has_room_for_command()),
            State::Flushing(farewell) => farewell.listens(),
            State::Closing(_) => self.awaits_peer_close(),
            State::Ended => false,
        }
    }

    /// Whether a raw session takes another message of so many bytes ([`Input::RawSend`]) now, besides so many `under_way`: taken
    /// out, and not yet by the socket. Beside both, the outbox has to have room for a message that is on its way in, one that has
    /// arrived and one that the application is answering, so that its size bounds all of them. What is too large goes alone.
    pub fn has_room_for(&self, bytes: usize, under_way: usize) -> bool {
        let inbound = self.settings.limits.message_bytes.saturating_mul(3).min(self.settings.outbox.bytes / 2);
        self.takes_raw() && self.outbox.has_room_for(bytes.saturating_add(under_way).saturating_add(inbound))
    }

    /// Whether publishers of `pause` channels are to wait: more than half of the outbox is taken. What a [`Push::Full`] began is
    /// over as soon as this does not hold any more, because the subscriber has read or is being closed.
    pub fn wants_pause(&self) -> bool {
        self.state.is_open() && !self.outbox.is_low()
    }

    /// The largest inbound message that is taken now, in bytes: less before it is known who sends it.
    pub fn message_limit(&self) -> usize {
        match self.state {
            State::Opening => self.settings.limits.message_bytes_unauthenticated,
            State::Open | State::Flushing(_) | State::Closing(_) | State::Ended => self.settings.limits.message_bytes,
        }
    }

    /// When [`Input::Timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Moment> {
        self.timers.next()
    }

    /// Bytes that wait in the outbox.
    pub fn outbox_bytes(&self) -> usize {
        self.outbox.bytes()
    }

    /// Lanes that are behind their channel.
    pub fn lanes_behind(&self) -> usize {
        self.outbox.lanes_behind()
    }

    /// Channels subscribed to, those included that are not answered yet.
    pub fn subscriptions(&self) -> usize {
        self.outbox.subscriptions()
    }

    /// Who it is, once that is known.
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.authority.identity.as_ref()
    }

    fn handle_alive(&mut self, now: Moment, input: Input) {
        match input {
            Input::Frames { count, assembling } => self.frames(now, count, assembling),
            Input::Message(message) => self.message(now, message),
            Input::RawReceived => {
                self.assembled(now);
                self.heartbeat.spoke(now);
            }
            Input::RawSend { text, data } if self.takes_raw() => self.outbox.push_raw(text, data),
            Input::PeerPing(payload) => self.outbox.control.pong(payload),
            Input::PeerPong => self.ponged(),
            Input::PeerClosed(code) => self.peer_closed(now, code),
            Input::RawAnswered => self.answered(),
            Input::RawClose { code, reason } => self.part(now, Farewell::new(code, None, reason)),
            Input::Violation(code, reason) => self.violated(now, code, reason),
            Input::Disconnected if self.outlives_hang_up() => {}
            Input::Disconnected => self.disconnected(),
            Input::Wrote(bytes) => self.flowed(now, bytes),
            Input::Blocked => self.blocked(now),
            Input::Unsent(bytes) => self.measured(now, bytes),
            Input::Authenticated { id, identity } => self.authenticated(now, id, identity),
            Input::Refused { id, code } => self.refused(now, id, code),
            Input::PrivilegeChanged => self.privilege_changed(now),
            Input::Depart { reason, at, grace, retry_ms } => self.order_departure(now, reason, at, grace, Some(retry_ms)),
            Input::Close { code, retry_ms, reason } => self.close(now, code, retry_ms, reason.as_deref()),
            Input::Shed(Shed::Events) => self.shed_events(),
            Input::Shed(Shed::Cursors) => self.outbox.shed_cursors(),
            Input::Shed(Shed::Connection) => self.cut_slow(now),
            Input::Timeout => self.fire_timers(now),
            Input::Flushed => {}
            answer if self.state.is_open() => self.answer(now, answer),
            // A flush takes nothing more.
            _ => {}
        }
    }

    /// What hub, broker and backend answer.
    fn answer(&mut self, now: Moment, input: Input) {
        match input {
            Input::Attached(subscription, result) => self.attached(subscription, result),
            Input::Fetched(subscription, result) => self.fetched(now, subscription, result),
            Input::SnapshotTaken(subscription, result) => self.snapshot_taken(now, subscription, result),
            Input::Lost(subscription, position) => self.outbox.lost(subscription, position),
            Input::Published(id, result) => self.published(id, result),
            Input::Responded(id, result) => self.responded(id, result),
            _ => {}
        }
    }

    fn fire_timers(&mut self, now: Moment) {
        while self.state.is_alive()
            && let Some(timer) = self.timers.expire(now)
        {
            match timer {
                Timer::Close => {}
                Timer::Authenticate => self.authenticate_due(now),
                Timer::Authority => self.authority_due(now),
                Timer::Depart => self.depart_due(now),
                Timer::Stall => self.stall_due(now),
                Timer::Assemble => self.assemble_due(now),
                Timer::Dead => self.dead_due(now),
                Timer::Ping => self.ping_due(now),
                Timer::AppPing => self.app_ping_due(now),
                Timer::Idle => self.idle_due(now),
                Timer::Age => self.age_due(now),
                Timer::Retry => self.outbox.retry(now),
            }
        }
    }

    /// What any change may have made possible: commands that waited, pages there is room for now, the end of a flush.
    fn settle(&mut self, now: Moment) {
        self.run_backlog();
        self.ask_for_history();
        self.close_if_flushed(now);
        self.follow_reading(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each part of an idle session takes, so that none grows unnoticed. The measured whole is in `tidegate/tests/idle.rs`.
    #[test]
    fn an_idle_session_is_a_few_hundred_bytes() {
        let parts = [
            ("timers", size_of::<Timers>(), 40),
            ("heartbeat", size_of::<Heartbeat>(), 64),
            ("stall", size_of::<Stall>(), 16),
            ("rate", size_of::<Rate>(), 32),
            ("authority", size_of::<Authority>(), 24),
            ("outbox", size_of::<Outbox>(), 168),
            ("lane", outbox::LANE_BYTES, 96),
            ("session", size_of::<Session>(), 432),
        ];
        for (part, bytes, most) in parts {
            println!("{part}: {bytes}");
            assert!(bytes <= most, "{part}: {bytes} bytes, more than {most}");
        }
    }
}
