//! A session's settings with their defaults and the reasons for them.

use std::sync::Arc;
use std::time::Duration;

use crate::{ChannelName, ChannelRule};

/// Everything that decides a session's behaviour. Shared by all sessions of a listener as `Arc`.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionSettings {
    /// Pings and how long silence may last.
    pub heartbeat: HeartbeatSettings,
    /// The bounded queue between the channels and the socket.
    pub outbox: OutboxSettings,
    /// What a client may ask for.
    pub limits: LimitSettings,
    /// What clients are told about reconnecting.
    pub reconnect: ReconnectSettings,
    /// Longest authority of a session without its own expiry (`auth.session`).
    pub session_lifetime: Duration,
    /// How long before its authority ends a session is asked to authenticate again, and so the time it has for it.
    pub reauth_within: Duration,
    /// What channels are; the first that matches decides.
    pub channels: Vec<Arc<ChannelRule>>,
    /// The name of this node in `welcome`.
    pub node: Box<str>,
}

impl SessionSettings {
    /// The rule that decides what a channel is: the first that matches its name.
    pub fn rule(&self, channel: &ChannelName) -> Option<&Arc<ChannelRule>> {
        self.channels.iter().find(|rule| rule.pattern.matches(channel))
    }
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            heartbeat: HeartbeatSettings::default(),
            outbox: OutboxSettings::default(),
            limits: LimitSettings::default(),
            reconnect: ReconnectSettings::default(),
            session_lifetime: Duration::from_secs(24 * 60 * 60),
            reauth_within: Duration::from_secs(30),
            channels: Vec::new(),
            node: "".into(),
        }
    }
}

/// `[heartbeat]`: pings and how long silence may last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatSettings {
    /// Time between protocol pings, ± 10 %. 25 s is well inside the shortest idle limit met in the wild (55 s) even if one is lost.
    pub ping: Duration,
    /// Unanswered pings until the peer counts as dead: it is cut after `(missed + 0.5) × ping` of silence.
    pub missed: u32,
    /// The longest time between application pings, for paths that eat control frames: one that would come due before the next protocol
    /// ping goes out with this one. `None` turns them off.
    pub app_ping: Option<Duration>,
    /// Close a session without any application message either way for so long. Off by default: silence is normal.
    pub idle: Option<Duration>,
    /// Ask a session to move after this age, −10 % of jitter. Off by default.
    pub max_age: Option<Duration>,
}

impl Default for HeartbeatSettings {
    fn default() -> Self {
        Self { ping: Duration::from_secs(25), missed: 2, app_ping: Some(Duration::from_secs(60)), idle: None, max_age: None }
    }
}

impl HeartbeatSettings {
    /// How long a peer may be silent: `(missed + 0.5) × ping`, so that the last ping has half an interval to be answered.
    pub fn dead_after(&self) -> Duration {
        self.ping * self.missed + self.ping / 2
    }
}

/// `[outbox]`: the one queue between the channels and a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxSettings {
    /// Bytes that may wait. 512 KiB is half a second of a 10 Mbit/s line: more only adds age to what arrives.
    pub bytes: usize,
    /// Messages that may wait: bounds what bookkeeping costs when messages are tiny.
    pub messages: usize,
    /// How long data may wait without the socket taking a byte before the peer is cut.
    pub stall: Duration,
}

impl Default for OutboxSettings {
    fn default() -> Self {
        Self { bytes: 512 * 1024, messages: 1024, stall: Duration::from_secs(30) }
    }
}

/// `[limits]` that concern one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitSettings {
    /// Bytes of an inbound message, judged at its frame header.
    pub message_bytes: usize,
    /// Bytes of an inbound message before authentication.
    pub message_bytes_unauthenticated: usize,
    /// Channels subscribed to at once.
    pub subscriptions: usize,
    /// Commands under way at once; past that the session stops reading its socket.
    pub in_flight: usize,
    /// Inbound frames.
    pub rate: RateSettings,
    /// Time to authenticate after the upgrade.
    pub authenticate: Duration,
    /// From our close frame to the end of the TCP connection.
    pub close: Duration,
    /// Time for a fragmented message to be complete, from its first frame: as long as a stalled write may take.
    pub assemble: Duration,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            message_bytes: 64 * 1024,
            message_bytes_unauthenticated: 16 * 1024,
            subscriptions: 128,
            in_flight: 32,
            rate: RateSettings::default(),
            authenticate: Duration::from_secs(5),
            close: Duration::from_secs(5),
            assemble: Duration::from_secs(30),
        }
    }
}

/// A token bucket: `burst` at once, `per_second` in the long run. Every inbound frame costs at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateSettings {
    /// Tokens that come back each second.
    pub per_second: u32,
    /// Tokens that can be saved up.
    pub burst: u32,
}

impl Default for RateSettings {
    /// Faster than a person can click, slow enough that a loop gone wrong is stopped.
    fn default() -> Self {
        Self { per_second: 20, burst: 40 }
    }
}

/// What `welcome` tells clients about reconnecting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReconnectSettings {
    /// The first try after an unexpected loss comes within U(0, window).
    pub window: Duration,
    /// Base of the exponential backoff.
    pub base: Duration,
    /// Its cap.
    pub cap: Duration,
}

impl Default for ReconnectSettings {
    fn default() -> Self {
        Self { window: Duration::from_secs(8), base: Duration::from_secs(1), cap: Duration::from_secs(60) }
    }
}
