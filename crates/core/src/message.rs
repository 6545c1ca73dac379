//! The model of the wire protocol: what clients and servers say to each other, whatever the dialect. Fields are those of protocol.md.

use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

use crate::{Body, ChannelKind, ChannelName, ErrorCode, MessageId, Position, Publication};

/// A command's id, chosen by the client: 1 to 2^53 − 1.
pub type CommandId = u64;

/// What a client says. Every command gets exactly one reply that carries its id.
#[allow(missing_docs, reason = "fields are those of protocol.md")]
#[derive(Clone, Debug, PartialEq)]
pub enum ClientMessage {
    /// Presents a credential.
    Auth { id: CommandId, credential: Credential },
    /// Wants a channel's messages.
    Subscribe { id: CommandId, channel: ChannelName, since: Option<Since> },
    /// Wants them no longer.
    Unsubscribe { id: CommandId, channel: ChannelName },
    /// Publishes a message.
    Publish { id: CommandId, publish: Publish },
    /// Asks the team's backend.
    Request { id: CommandId, method: Box<str>, data: Bytes },
    /// Answered at once with a pong that echoes `n` (its JSON text).
    Ping { n: Option<Bytes> },
    /// Answers ours.
    Pong,
    /// A `type` that this version does not know.
    Unknown { id: Option<CommandId>, kind: Box<str> },
    /// A known `type` with a field that is missing or wrong.
    Invalid { id: Option<CommandId>, field: &'static str, problem: Box<str> },
}

/// Proof of who the client is.
#[allow(missing_docs, reason = "fields are those of protocol.md")]
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A JWT.
    Token(Box<str>),
    /// A single-use ticket.
    Ticket(Box<str>),
    /// A signature over the challenge's nonce.
    Signature { key: Box<str>, claims: Box<str>, signature: Box<str> },
}

impl std::fmt::Debug for Credential {
    /// Names the kind; a secret is never shown.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Token(_) => "Token(…)",
            Self::Ticket(_) => "Ticket(…)",
            Self::Signature { .. } => "Signature(…)",
        })
    }
}

/// What is to be published, before it has a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Where.
    pub channel: ChannelName,
    /// The publisher's id of it, by which repeats are recognised, or one that was drawn for it.
    pub message_id: Option<MessageId>,
    /// Which entry of a `state` channel it replaces.
    pub key: Option<Box<str>>,
    /// What it carries.
    pub body: Body,
}

/// From where a subscriber wants to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// After this position.
    Position(Position),
    /// From the oldest message kept.
    Earliest,
    /// From the message that has this many before the end, itself counted.
    Last(u64),
}

/// What a server says, apart from publications.
#[allow(missing_docs, reason = "fields are those of protocol.md")]
#[derive(Clone, Debug, PartialEq)]
pub enum ServerMessage {
    /// The peer is authenticated.
    Welcome(Box<Welcome>),
    /// Answers `subscribe`.
    Subscribed { id: CommandId, channel: ChannelName, kind: ChannelKind, position: Option<Position>, recovery: Recovery },
    /// Every later message of the channel is new.
    Live { channel: ChannelName, offset: Option<u64> },
    /// Messages that will not come.
    Gap(Box<Gap>),
    /// A part of a state channel's entries at one position; the whole state when `more` is false.
    Snapshot { channel: ChannelName, position: Position, entries: Vec<Arc<Publication>>, more: bool },
    /// The server ended a subscription.
    Unsubscribed { channel: ChannelName, code: ErrorCode, retry_after_ms: Option<u64> },
    /// Answers commands that have nothing to say.
    Ok { id: CommandId },
    /// Answers `publish`; no position on `event` channels.
    Published { id: CommandId, position: Option<Position>, duplicate: bool },
    /// Answers `request` with the backend's JSON.
    Response { id: CommandId, data: Bytes },
    /// Refuses a command.
    Error { id: Option<CommandId>, code: ErrorCode, message: Box<str>, retry_after_ms: Option<u64> },
    /// Application ping.
    Ping,
    /// Answers an application ping.
    Pong { n: Option<Bytes> },
    /// The client is to authenticate again on this connection.
    Reauth { within_ms: u64, reason: ReauthReason, nonce: Option<Box<str>> },
    /// The client is to move to another connection.
    GoingAway { reason: DepartReason, reconnect_after_ms: u64, deadline_ms: u64, handover: Option<Box<str>> },
}

/// `welcome`.
#[derive(Clone, Debug, PartialEq)]
pub struct Welcome {
    /// The `auth` that it answers, if it does.
    pub id: Option<CommandId>,
    /// The connection's id.
    pub connection: Box<str>,
    /// The node's name.
    pub node: Box<str>,
    /// The user, `None` if anonymous.
    pub user: Option<Arc<str>>,
    /// The login's id.
    pub session: Option<Arc<str>>,
    /// How long the authority lasts.
    pub expires_in: Duration,
    /// `heartbeat.ping_ms`.
    pub ping: Duration,
    /// `heartbeat.app_ping_ms`; `None` when off.
    pub app_ping: Option<Duration>,
    /// `heartbeat.dead_ms`.
    pub dead: Duration,
    /// `limits.message_bytes`.
    pub message_bytes: usize,
    /// `limits.subscriptions`.
    pub subscriptions: usize,
    /// `limits.in_flight`.
    pub in_flight: usize,
    /// `reconnect`.
    pub reconnect: crate::ReconnectSettings,
}

/// What becomes of the messages since the client's cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Nothing was asked for.
    None,
    /// Every missed message follows.
    Complete,
    /// A snapshot follows.
    Snapshot,
    /// A gap follows at once, then what is left.
    Gap,
}

impl Recovery {
    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Complete => "complete",
            Self::Snapshot => "snapshot",
            Self::Gap => "gap",
        }
    }
}

/// `gap`: messages that will not come, as exactly as can be known.
#[derive(Clone, Debug, PartialEq)]
pub struct Gap {
    /// Where.
    pub channel: ChannelName,
    /// How many, `None` if it can't be known.
    pub missed: Option<u64>,
    /// First and last offset missed, where there are offsets.
    pub range: Option<(u64, u64)>,
    /// Why.
    pub reason: GapReason,
    /// Where it goes on, when the epoch changed under the subscription.
    pub position: Option<Position>,
}

/// Why messages are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// The subscriber did not read fast enough.
    Slow,
    /// They are no longer kept.
    Retention,
    /// The log was lost and began anew.
    Epoch,
    /// The bus lost them.
    Bus,
    /// The channel's rule does not pass them on.
    Policy,
}

impl GapReason {
    /// Its name on the wire, also the label in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Retention => "retention",
            Self::Epoch => "epoch",
            Self::Bus => "bus",
            Self::Policy => "policy",
        }
    }
}

/// Why a client is asked to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DepartReason {
    /// The node is going.
    Drain,
    /// The fleet spreads its load anew.
    Rebalance,
    /// The connection reached its maximum age.
    MaxAge,
}

impl DepartReason {
    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Rebalance => "rebalance",
            Self::MaxAge => "max_age",
        }
    }
}

/// Why a client is asked to authenticate again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReauthReason {
    /// Its authority is about to end.
    Expiring,
    /// What it may do has changed.
    PrivilegeChanged,
}

impl ReauthReason {
    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Expiring => "expiring",
            Self::PrivilegeChanged => "privilege_changed",
        }
    }
}
