//! A session's doors: everything that goes in, everything that comes out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::broker::{BrokerError, HistoryError, Page, PageLimit, Published, Snapshot};
use crate::message::{ClientMessage, CommandId, DepartReason, Publish, ServerMessage, Since};
use crate::{ChannelName, ChannelRule, CloseCode, ErrorCode, Identity, Position, Publication};

/// A subscription within its session. Never reused while anything may still arrive for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId(pub u32);

/// What a session speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The Tidegate protocol.
    Tidegate,
    /// A team's own messages over a guarded socket: heartbeats, outbox, stall, idle stop and drain only.
    Raw,
}

/// What happens to a session.
#[derive(Debug)]
pub enum Input {
    /// Frames arrived, control frames and fragments included: proof of life, and charged against the inbound rate.
    /// `assembling` says whether a fragmented message is unfinished after them.
    Frames {
        /// How many.
        count: u32,
        /// Whether a message is unfinished.
        assembling: bool,
    },
    /// A decoded message of the protocol. One frame may hold several.
    Message(ClientMessage),
    /// A message of a raw session was handed to the application (life for the idle stop).
    RawReceived,
    /// A raw session's application sends. Only when [`super::Session::has_room_for`].
    RawSend {
        /// Text, else binary.
        text: bool,
        /// What.
        data: Bytes,
    },
    /// A raw session's application has taken every message that came before a violation and asks for another: it has answered
    /// what it wants to answer.
    RawAnswered,
    /// A raw session's application closes: what it sent is written first.
    RawClose {
        /// The code.
        code: CloseCode,
        /// Reason text instead of the code's name, cut to what fits.
        reason: Option<Box<str>>,
    },
    /// A protocol ping arrived. Only the newest is answered (RFC 6455, 5.5.3).
    PeerPing(Bytes),
    /// A protocol pong arrived.
    PeerPong,
    /// The peer's close frame arrived; `None` without a code.
    PeerClosed(Option<u16>),
    /// The peer broke the protocol: close with this code and reason text. Nothing that it sends is told any more. A raw session's
    /// application may still answer what came before, until [`Input::RawAnswered`] or half a second has passed.
    Violation(CloseCode, &'static str),
    /// The peer's side of the TCP connection ended, or it failed.
    Disconnected,
    /// The socket took so many bytes.
    Wrote(usize),
    /// Everything that [`super::Session::poll_transmit`] gave has been taken by the socket. Needed once [`Transmit::Close`] was
    /// given, harmless at other times.
    Flushed,
    /// The socket takes no more, and something waits.
    Blocked,
    /// What the kernel still holds unacknowledged, as asked for by [`Output::MeasureUnsent`].
    Unsent(usize),
    /// Authentication succeeded (after the upgrade, or again). Subscriptions that it does not cover end; what was taken from them by
    /// [`super::Session::poll_transmit`] can't be called back by this, only by a close.
    Authenticated {
        /// The `auth` that it answers.
        id: Option<CommandId>,
        /// Who it is.
        identity: Arc<Identity>,
    },
    /// Authentication failed.
    Refused {
        /// The `auth` that it answers.
        id: Option<CommandId>,
        /// 4201 for what has expired, 4401 for everything else.
        code: CloseCode,
    },
    /// What the session may do has changed: it is to authenticate again, or be closed with 4202.
    PrivilegeChanged,
    /// Answers [`Output::Attach`]: from this position on, [`super::Session::deliver`] is called.
    Attached(SubscriptionId, Result<Option<Position>, BrokerError>),
    /// Answers [`Output::Fetch`].
    Fetched(SubscriptionId, Result<Page, HistoryError>),
    /// Answers [`Output::Snapshot`].
    SnapshotTaken(SubscriptionId, Result<Arc<Snapshot>, BrokerError>),
    /// The broker may have lost messages of the channel; its new position if it is known.
    Lost(SubscriptionId, Option<Position>),
    /// Answers [`Output::Publish`].
    Published(CommandId, Result<Published, BrokerError>),
    /// Answers [`Output::Request`] with JSON, or a code and message.
    Responded(CommandId, Result<Bytes, (ErrorCode, Box<str>)>),
    /// The session's slot in a drain or a rebalance.
    Depart {
        /// Why.
        reason: DepartReason,
        /// At this moment (the slot), not before.
        at: crate::Moment,
        /// How long it may stay after that.
        grace: Duration,
        /// What it is told in the close reason if it stays to the end.
        retry_ms: u64,
    },
    /// Close for a reason of the caller's: an operator, a limit, the node's end.
    Close {
        /// The code.
        code: CloseCode,
        /// `retry_ms` in the reason.
        retry_ms: Option<u64>,
        /// Reason text instead of the code's name, cut to what fits.
        reason: Option<Box<str>>,
    },
    /// The node is over its outbound budget.
    Shed(Shed),
    /// A moment that [`super::Session::poll_timeout`] gave has come. Harmless if it has not.
    Timeout,
}

/// What a session gives up when the node is over its outbound budget, in the order in which it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shed {
    /// What waits in event lanes is dropped, counted and told.
    Events,
    /// Log and state lanes go back to their cursors.
    Cursors,
    /// The connection goes (4103).
    Connection,
}

/// What a session wants done. Drain with [`super::Session::poll_output`] after every `handle`, `deliver` and round of writing.
#[derive(Debug)]
pub enum Output {
    /// Check this credential; answer with `Authenticated` or `Refused`.
    Authenticate {
        /// The command's id.
        id: CommandId,
        /// What was presented.
        credential: crate::message::Credential,
    },
    /// Register with the hub, then subscribe at the broker, then answer with `Attached`.
    Attach {
        /// The subscription.
        subscription: SubscriptionId,
        /// Its channel.
        channel: ChannelName,
        /// The channel's rule.
        rule: Arc<ChannelRule>,
    },
    /// Take it out of the hub. Nothing is answered.
    Detach {
        /// The subscription.
        subscription: SubscriptionId,
        /// Its channel.
        channel: ChannelName,
    },
    /// Read a page of history; answer with `Fetched`. At most one is under way per subscription.
    Fetch {
        /// The subscription.
        subscription: SubscriptionId,
        /// Its channel.
        channel: ChannelName,
        /// The channel's rule.
        rule: Arc<ChannelRule>,
        /// From where.
        since: Since,
        /// How much there is room for.
        limit: PageLimit,
    },
    /// Take a snapshot; answer with `SnapshotTaken`.
    Snapshot {
        /// The subscription.
        subscription: SubscriptionId,
        /// Its channel.
        channel: ChannelName,
        /// The channel's rule.
        rule: Arc<ChannelRule>,
    },
    /// Publish; answer with `Published`.
    Publish {
        /// The command's id.
        id: CommandId,
        /// The channel's rule.
        rule: Arc<ChannelRule>,
        /// What.
        publish: Publish,
    },
    /// Ask the backend; answer with `Responded`.
    Request {
        /// The command's id.
        id: CommandId,
        /// The method.
        method: Box<str>,
        /// JSON.
        data: Bytes,
    },
    /// Say with `Unsent` how many bytes the kernel still holds for the peer: a slow peer makes progress that no write shows.
    MeasureUnsent,
    /// Something to count and perhaps to log.
    Notice(Notice),
    /// End the TCP connection now. Nothing comes after it.
    Terminate(Ending),
}

/// Something to count and perhaps to log.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// The session has begun to close, and why. At most once per session.
    Closing {
        /// The code.
        code: CloseCode,
        /// Time since the last byte went out, if one did.
        last_sent_ago: Option<Duration>,
        /// Time since the last frame came in.
        last_received_ago: Duration,
        /// Protocol pings that have not been answered.
        pings_unanswered: u32,
    },
    /// Pings come back unanswered where application pings don't, or the other way: the path eats control frames. Once per session.
    ControlFramesEaten,
    /// An application ping was not answered before the next was due.
    AppPingUnanswered,
    /// A command was refused.
    Refused(ErrorCode),
    /// Waiting events of one subscription were given up for the node's outbound budget.
    Shed {
        /// The channel's rule.
        rule: Arc<ChannelRule>,
        /// How many.
        dropped: u32,
    },
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The peer's close frame was seen, and ours written (or given up, if the peer began and took no more).
    Clean {
        /// Whose code it was.
        code: Option<u16>,
        /// Whether we began it.
        ours: bool,
    },
    /// We closed, and the peer ended the connection without an answer, or did not answer before the deadline.
    Unanswered(CloseCode),
    /// The TCP connection ended without a close frame: what a browser calls 1006.
    Lost,
}

/// What to write next, from [`super::Session::poll_transmit`].
#[derive(Clone, Debug, PartialEq)]
pub enum Transmit {
    /// A message of the protocol.
    Message(Box<ServerMessage>),
    /// A publication; every subscriber writes the same frame.
    Publication(Arc<Publication>),
    /// A message of a raw session.
    Raw {
        /// Text, else binary.
        text: bool,
        /// What.
        data: Bytes,
    },
    /// A protocol ping.
    Ping([u8; 4]),
    /// A protocol pong.
    Pong(Bytes),
    /// The close frame; nothing is written after it.
    Close {
        /// The code; `None` for an empty close frame.
        code: Option<u16>,
        /// At most 123 bytes.
        reason: Box<str>,
    },
}

impl PartialEq for Publication {
    /// The same message: same channel, place, key and body.
    fn eq(&self, other: &Self) -> bool {
        (&self.channel, self.position, &self.id, &self.key, &self.body)
            == (&other.channel, other.position, &other.id, &other.key, &other.body)
    }
}

/// What became of a message that was pushed to a subscriber. Metrics and gap markers are made from it, so loss can't be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Push {
    /// It waits for the socket, or is let past to it. The driver has to be woken if [`super::Session::wants_write`] did not hold before.
    Queued,
    /// It waits, and the publisher is to wait before it sends another (`pause`).
    Full,
    /// It waits, and so many older messages of the lane were dropped for it; the subscriber will be told.
    Dropped(u32),
    /// There was no room for it: so many of the lane were dropped, this one among them; the subscriber will be told.
    Refused(u32),
    /// It replaced an older one of its key.
    Conflated,
    /// The lane went, or is, behind: it will be read from history.
    Parked,
    /// It was delivered before, or the subscription is over or not yet live.
    Ignored,
    /// The session is being closed for it (`disconnect`).
    Disconnected,
}
