//! What a broker is: history and fan-out of channels in one, and the laws that every backend keeps.
//!
//! # Laws
//! 1. Appending to the log and fanning out are one step per channel: every sink sees a channel's messages in the order of their offsets.
//! 2. The same message id on the same channel within the dedup window gives the same position, and is delivered once. An id that was
//!    [drawn](crate::MessageId::is_drawn) for a message is no publisher's, and need not be remembered.
//! 3. After [`Broker::subscribe`] returned position P, every message after P reaches the sink, or [`Sink::lost`] does.
//! 4. [`Broker::history`] gives a page without holes after `since`, or says that it is unrecoverable. Never a silent hole.
//! 5. A [`Broker::snapshot`] is the state at one position, and later messages continue from it.
//! 6. Positions are strictly increasing within an epoch. Losing the log changes the epoch.
//! 7. Publishes of one [`Sequence`] on one channel get their positions in the order in which they were first polled, and within one
//!    [`Broker::publish_all`] in its order; after one that failed so that trying again may help, none of those behind it is kept.
//!
//! The module `contract` (feature `contract`) has a function for each of them that every backend's tests call.

#[cfg(any(test, feature = "contract"))]
pub mod contract;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::message::{Publish, Since};
use crate::{ChannelName, ChannelRule, Position, Publication};

/// A future that can be kept in a struct. One allocation per call is little beside what a broker does in it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// History and fan-out of channels. No default methods: a backend says what it does about each.
pub trait Broker: Send + Sync + 'static {
    /// What this backend promises.
    fn guarantees(&self) -> Guarantees;

    /// Names the one receiver of everything that is published on subscribed channels. Called once, before any subscribe.
    fn attach(&self, sink: Arc<dyn Sink>);

    /// Gives the message its position, keeps it as `rule` says, and hands it to every node's sink; one step per channel
    /// (laws 1, 2). The answer comes when the message is as durable as [`Guarantees::durability`] says.
    fn publish<'a>(&'a self, rule: &'a ChannelRule, publish: Publish) -> BoxFuture<'a, Result<Published, BrokerError>>;

    /// The same for several of one rule, whose order holds also when one of them fails (law 7). Gives an outcome for each, in their
    /// order, when the last is known: what is to be answered soon comes in small pieces.
    fn publish_all<'a>(
        &'a self,
        sequence: &'a Arc<Sequence>,
        rule: &'a ChannelRule,
        publishes: Vec<Publish>,
    ) -> BoxFuture<'a, Vec<Result<Published, BrokerError>>>;

    /// From the returned position on (`None` on `event` channels), everything published on the channel reaches the sink (law 3).
    /// Idempotent: a node subscribes once per channel, however many of its sessions want it.
    fn subscribe<'a>(&'a self, rule: &'a ChannelRule, channel: &'a ChannelName) -> BoxFuture<'a, Result<Option<Position>, BrokerError>>;

    /// Ends that. Messages under way may still reach the sink.
    fn unsubscribe<'a>(&'a self, channel: &'a ChannelName) -> BoxFuture<'a, Result<(), BrokerError>>;

    /// The messages after `since`, oldest first, at most `limit` (at least one message if there is any, however large).
    /// On `state` channels: the latest message of each key changed since, deletions included, in order of offset (law 4).
    fn history<'a>(
        &'a self,
        rule: &'a ChannelRule,
        channel: &'a ChannelName,
        since: Since,
        limit: PageLimit,
    ) -> BoxFuture<'a, Result<Page, HistoryError>>;

    /// All entries of a `state` channel at one position (law 5).
    fn snapshot<'a>(&'a self, rule: &'a ChannelRule, channel: &'a ChannelName) -> BoxFuture<'a, Result<Arc<Snapshot>, BrokerError>>;
}

/// The receiver of what is published. Called in the order of offsets per channel, from whatever thread; must not block.
pub trait Sink: Send + Sync + 'static {
    /// A message of a subscribed channel.
    fn deliver(&self, publication: &Arc<Publication>);

    /// Messages of the channel may have been lost on the way: whoever wants them reads history. A changed epoch shows in `position`.
    fn lost(&self, channel: &ChannelName, position: Option<Position>);
}

/// Publishes whose order matters, also when one of them fails: those behind it are refused, so that all of them can be sent again
/// from there. Shared by whoever publishes and the broker.
#[derive(Debug, Default)]
pub struct Sequence {
    broken: AtomicBool,
}

impl Sequence {
    /// One of them failed: nothing behind it may be kept any more.
    pub fn break_off(&self) {
        self.broken.store(true, Ordering::Release);
    }

    /// Whether one of them failed.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// What those behind it are answered.
    pub fn refusal() -> BrokerError {
        BrokerError::Unavailable("a message before it was not stored; send both again".into())
    }
}

/// What a backend promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guarantees {
    /// What an acknowledged publish survives.
    pub durability: Durability,
    /// How long a message id is remembered.
    pub dedup_window: Duration,
    /// At most so many ids per channel are remembered, whatever their age.
    pub dedup_messages: usize,
}

/// What an acknowledged publish survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Nothing but the process's own life.
    Memory,
    /// What the bus's own settings give.
    Bus,
    /// Power loss: it was synced to disk.
    Fsync,
}

/// Where a published message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// `None` on `event` channels.
    pub position: Option<Position>,
    /// The id had been published before; this is where it went then.
    pub duplicate: bool,
}

/// How much of a history to read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLimit {
    /// At most this many messages.
    pub messages: usize,
    /// Not more than about this many bytes ([`Publication::cost`]), the last message counted whole.
    pub bytes: usize,
}

/// A part of a channel's history.
#[derive(Clone, Debug)]
pub struct Page {
    /// Where the page begins: the position before its first message. Differs from what was asked for where `Earliest` or `Last` was.
    pub start: Position,
    /// The messages, oldest first.
    pub messages: Vec<Arc<Publication>>,
    /// The end of the log when the page was read. If the page reaches it, its last offset is not less.
    pub top: Position,
    /// Whether there is more between the last message and `top`.
    pub more: bool,
}

/// A `state` channel at one position.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Which.
    pub position: Position,
    /// Its entries in order of offset, each the latest of its key; no deleted ones.
    pub entries: Vec<Arc<Publication>>,
}

/// Why a broker did not do something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// It can't be reached, or its disk is full: nothing was acknowledged, and trying again later may help.
    #[error("the broker is unavailable: {0}")]
    Unavailable(Box<str>),
    /// It is stopping.
    #[error("the broker is closed")]
    Closed,
    /// The publish breaks a bound of the channel (keys of a `state` channel, for one); repeating it does not help.
    #[error("{0}")]
    Limit(Box<str>),
    /// The publish does not fit the channel's kind (a `state` message without a key, a deletion on a `log`).
    #[error("{field}: {problem}")]
    Invalid {
        /// The field that is wrong.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// Why a history could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// Messages after the position are gone. Reading goes on after `oldest`.
    #[error("messages after the position are no longer kept")]
    Retention {
        /// The position just before the oldest message that is kept.
        oldest: Position,
        /// The end of the log.
        top: Position,
        /// How many are gone, if the backend can count them.
        missed: Option<u64>,
    },
    /// The position is of another life of the log, or beyond its end. Reading goes on after `oldest`.
    #[error("the position is of another epoch")]
    Epoch {
        /// The position just before the oldest message that is kept.
        oldest: Position,
        /// The end of the log.
        top: Position,
    },
    /// The broker failed.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}
