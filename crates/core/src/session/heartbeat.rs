//! Proof of life: protocol pings, application pings, the dead peer, the idle stop.

use std::time::Duration;

use super::timers::Timer;
use super::{Mode, Notice, Output, Session, State};
use crate::{CloseCode, ConnectionId, Moment};

/// Pings of long intervals come at multiples of this, so that those of thousands of sessions share a wake-up of the runtime: it
/// costs more than they do. A ten thousandth of a second's work for each thousand sessions is no burst.
pub const PING_GRID: Duration = Duration::from_millis(250);

/// What is known of the peer's life.
#[derive(Debug)]
pub(super) struct Heartbeat {
    /// The last frame of any kind.
    received: Moment,
    /// The last byte that the socket took; the origin before the first.
    sent: Moment,
    /// From when silence counts: the last frame, the last progress of a socket that had been full (only the peer can have
    /// made room), or when reading was taken up again.
    alive: Moment,
    /// The last application message either way.
    spoken: Moment,
    /// Between the last ping and the next, in milliseconds.
    interval_ms: u32,
    /// Pings sent; the payload of the next.
    pings: u32,
    /// Pings since the last pong.
    unanswered: u32,
    /// A protocol ping waits to be written, and since when.
    due: bool,
    due_since: Moment,
    app_ping_open: bool,
    eaten_told: bool,
    /// Whether silence is the peer's: we read.
    listening: bool,
    random: u64,
}

impl Heartbeat {
    pub(super) fn new(now: Moment, seed: u64) -> Self {
        Self {
            received: now,
            sent: Moment::ZERO,
            alive: now,
            spoken: now,
            interval_ms: 0,
            pings: 0,
            unanswered: 0,
            due: false,
            due_since: now,
            app_ping_open: false,
            eaten_told: false,
            listening: true,
            // A xorshift must not start at zero.
            random: seed | 1,
        }
    }

    /// A random share of `span`, from none of it to the whole.
    fn share(&mut self, span: Duration) -> Duration {
        self.random = xorshift(self.random);
        part_of(span, self.random)
    }

    /// The same, and another one for sessions with the same seed.
    fn own_share(&self, connection: ConnectionId, span: Duration) -> Duration {
        part_of(span, xorshift((self.random ^ connection.as_u64()) | 1))
    }

    /// A span ± 10 %, so that sessions that began together don't stay together.
    fn jittered(&mut self, span: Duration) -> Duration {
        span - span / 10 + self.share(span / 5)
    }

    pub(super) fn spoke(&mut self, now: Moment) {
        self.spoken = now;
    }

    /// A ping is to be written. One that has not been yet will do; a second behind it would tell the peer nothing.
    fn ask(&mut self, now: Moment) {
        if self.due {
            return;
        }
        self.due = true;
        self.due_since = now;
        self.pings = self.pings.wrapping_add(1);
        self.unanswered = self.unanswered.saturating_add(1);
    }

    /// The ping that waits, if one does.
    pub(super) fn take_ping(&mut self) -> Option<[u8; 4]> {
        std::mem::take(&mut self.due).then(|| self.pings.to_be_bytes())
    }

    pub(super) fn sent(&self) -> Option<Moment> {
        Some(self.sent).filter(|&sent| sent != Moment::ZERO)
    }

    pub(super) const fn has_ping(&self) -> bool {
        self.due
    }

    /// What the log says about a session that closes.
    pub(super) fn closing(&self, now: Moment, code: CloseCode) -> Notice {
        Notice::Closing {
            code,
            last_sent_ago: self.sent().map(|sent| now.since(sent)),
            last_received_ago: now.since(self.received),
            pings_unanswered: self.unanswered,
        }
    }
}

impl Session {
    /// When the socket last took bytes, if it has.
    pub fn last_sent(&self) -> Option<Moment> {
        self.heartbeat.sent()
    }

    /// When frames last arrived; before the first, when the session began.
    pub const fn last_received(&self) -> Moment {
        self.heartbeat.received
    }

    pub(super) fn start_heartbeat(&mut self, now: Moment) {
        let settings = self.settings.heartbeat;
        self.schedule_ping(now);
        self.timers.set(Timer::Dead, now + settings.dead_after());
        if let Some(idle) = settings.idle {
            self.timers.set(Timer::Idle, now + idle);
        }
        if let Some(age) = settings.max_age {
            let early = self.heartbeat.own_share(self.connection, age / 10);
            self.timers.set(Timer::Age, now + age - early);
        }
    }

    /// From `welcome` on: before it a peer that does not authenticate is not kept anyway.
    pub(super) fn start_app_pings(&mut self, now: Moment) {
        if let (Mode::Tidegate, Some(app_ping)) = (self.mode, self.settings.heartbeat.app_ping) {
            let early = self.heartbeat.share(app_ping / 10);
            self.timers.set(Timer::AppPing, on_grid(now + app_ping - early, app_ping));
        }
    }

    /// Frames arrived, whatever kind.
    pub(super) fn heard(&mut self, now: Moment) {
        self.heartbeat.received = now;
        self.heartbeat.alive = now;
    }

    /// The socket took bytes; `after_blocking` if it had been full, and so the peer has taken some.
    pub(super) fn wrote(&mut self, now: Moment, after_blocking: bool) {
        self.heartbeat.sent = now;
        if after_blocking {
            self.peer_took(now);
        }
    }

    /// The peer's side took bytes. A slow reader may need longer than the dead time to get to a ping behind what it reads.
    pub(super) fn peer_took(&mut self, now: Moment) {
        self.heartbeat.alive = now;
    }

    pub(super) fn ponged(&mut self) {
        self.heartbeat.unanswered = 0;
    }

    pub(super) fn app_ponged(&mut self) {
        self.heartbeat.app_ping_open = false;
        let missed = self.settings.heartbeat.missed.max(1);
        if self.heartbeat.unanswered >= missed && !std::mem::replace(&mut self.heartbeat.eaten_told, true) {
            self.outputs.push_back(Output::Notice(Notice::ControlFramesEaten));
        }
    }

    /// Silence counts only while we read: pauses the dead timer, or starts it anew.
    pub(super) fn follow_reading(&mut self, now: Moment) {
        let listening = self.wants_read();
        if listening == self.heartbeat.listening || !self.state.is_alive() {
            return;
        }
        self.heartbeat.listening = listening;
        if listening {
            self.heartbeat.alive = now;
            self.timers.set(Timer::Dead, now + self.settings.heartbeat.dead_after());
        } else {
            self.timers.stop(Timer::Dead);
        }
    }

    /// Skipped only if within the interval there was traffic both ways: a proxy's clock may count one direction only.
    pub(super) fn ping_due(&mut self, now: Moment) {
        self.put_off_dead();
        let interval = Duration::from_millis(self.heartbeat.interval_ms.into());
        let quiet_since = self.heartbeat.sent.min(self.heartbeat.received);
        // The last ping and its pong are themselves traffic, a moment younger than the interval: not worth another wake-up.
        if quiet_since + interval > now + interval / 10 {
            return self.timers.set(Timer::Ping, on_grid(quiet_since + interval, interval));
        }
        self.outbox.shrink();
        let was_answered = self.heartbeat.unanswered == 0;
        self.heartbeat.ask(now);
        let next = self.schedule_ping(now);
        if self.app_ping_goes_along(now, next, was_answered) {
            self.app_ping_due(now);
        }
    }

    /// Whether the application ping shares the write, and the peer's wake-up, of a ping: where it would come due before the next.
    /// By at most half of its interval, so that the peer has had time to answer the one before. And where the last ping came back
    /// unanswered: perhaps the path eats control frames, and we ask in the other way before it is too late.
    fn app_ping_goes_along(&self, now: Moment, next: Moment, was_answered: bool) -> bool {
        let (Some(due), Some(every)) = (self.timers.get(Timer::AppPing), self.settings.heartbeat.app_ping) else { return false };
        !was_answered || due <= next && due <= now + every / 2
    }

    /// The dead timer is put off whenever the session is awake for a ping: while pings are answered it wakes nobody.
    fn put_off_dead(&mut self) {
        if let Some(set) = self.timers.get(Timer::Dead) {
            self.timers.set(Timer::Dead, set.max(self.heartbeat.alive + self.settings.heartbeat.dead_after()));
        }
    }

    fn schedule_ping(&mut self, now: Moment) -> Moment {
        let interval = self.heartbeat.jittered(self.settings.heartbeat.ping).max(Duration::from_millis(1));
        let at = on_grid(now + interval, interval);
        self.heartbeat.interval_ms = u32::try_from(at.since(now).as_millis()).unwrap_or(u32::MAX);
        self.timers.set(Timer::Ping, at);
        at
    }

    pub(super) fn app_ping_due(&mut self, now: Moment) {
        if std::mem::replace(&mut self.heartbeat.app_ping_open, true) {
            self.outputs.push_back(Output::Notice(Notice::AppPingUnanswered));
        }
        self.outbox.control.ping();
        self.start_app_pings(now);
    }

    pub(super) fn dead_due(&mut self, now: Moment) {
        let deadline = self.heartbeat.alive + self.settings.heartbeat.dead_after();
        if deadline > now {
            return self.timers.set(Timer::Dead, deadline);
        }
        // A process that was frozen sent no pings: the silence is not the peer's fault until it has been asked, unless what
        // asks has waited for the peer to take bytes.
        let half = self.settings.heartbeat.ping / 2;
        let is_stuck = self.heartbeat.due && self.heartbeat.due_since + half <= now;
        if self.heartbeat.unanswered < self.settings.heartbeat.missed && !is_stuck {
            self.heartbeat.ask(now);
            return self.timers.set(Timer::Dead, now + half);
        }
        self.close(now, CloseCode::HeartbeatTimeout, None, None);
    }

    pub(super) fn idle_due(&mut self, now: Moment) {
        let Some(idle) = self.settings.heartbeat.idle else { return };
        let deadline = self.heartbeat.spoken + idle;
        if deadline > now {
            return self.timers.set(Timer::Idle, deadline);
        }
        if !matches!(self.state, State::Flushing(_)) {
            self.close(now, CloseCode::Normal, None, Some("idle hard stop"));
        }
    }
}

const fn xorshift(mut random: u64) -> u64 {
    random ^= random << 13;
    random ^= random >> 7;
    random ^ (random << 17)
}

fn part_of(span: Duration, random: u64) -> Duration {
    let span = span.as_millis().min(u32::MAX.into()) as u64;
    Duration::from_millis(((random >> 32) * span) >> 32)
}

/// The last place on the grid not after `at`; where a step of it would be a large part of the interval, `at` itself.
fn on_grid(at: Moment, interval: Duration) -> Moment {
    let (at_ms, step_ms) = (at.as_ms(), PING_GRID.as_millis() as u64);
    if interval < PING_GRID * 20 { at } else { Moment::from_ms(at_ms - at_ms % step_ms) }
}
