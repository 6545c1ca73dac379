//! What a subscription tells, and what a publish answers.

use serde::Serialize;
use serde_json::value::RawValue;
use tidegate_core::ChannelKind;

use crate::error::Stop;

/// A place in a channel's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cursor {
    /// The log's life that the offset belongs to. Only ever compared.
    pub epoch: Box<str>,
    /// The offset of the last message before it; 0 is before the first.
    pub offset: u64,
}

/// From where a subscription starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Since {
    /// The oldest message kept (`log`).
    Earliest,
    /// So many messages before the end (`log`).
    Last(u64),
    /// After this place, as [`Subscription::cursor`](crate::Subscription::cursor) told it.
    Position(Cursor),
}

/// What happens to a subscription, in order.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A message.
    Message(Message),
    /// The whole state of a `state` channel: what is not in it is gone.
    Snapshot(Snapshot),
    /// Messages that will not come.
    Gap(Gap),
    /// How far it is.
    Status(Status),
    /// It is over; the last event.
    Stopped(Stop),
}

/// A published message.
#[derive(Clone, Debug, Serialize)]
pub struct Message {
    /// Where it was published.
    pub channel: Box<str>,
    /// Its place; `None` on `event` channels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Box<str>>,
    /// The entry that it replaces (`state`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Box<str>>,
    /// JSON, byte for byte as it was published; `null` if the entry was deleted.
    pub data: Box<RawValue>,
    /// Whether the entry is gone (`state`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

impl Message {
    /// Its data as a type.
    ///
    /// # Errors
    /// It isn't one.
    pub fn json<'a, T: serde::Deserialize<'a>>(&'a self) -> serde_json::Result<T> {
        serde_json::from_str(self.data.get())
    }
}

/// All entries of a `state` channel at one place.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// Which channel.
    pub channel: Box<str>,
    /// Its epoch.
    pub epoch: Box<str>,
    /// Its offset.
    pub offset: u64,
    /// The entries.
    pub entries: Vec<Entry>,
}

/// The latest message of a key.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// The key.
    pub key: Box<str>,
    /// Where it was published.
    pub offset: u64,
    /// JSON.
    pub data: Box<RawValue>,
}

/// Messages that will not come, as exactly as can be known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// Where.
    pub channel: Box<str>,
    /// How many, `None` if it can't be known.
    pub missed: Option<u64>,
    /// The first offset missed.
    pub from: Option<u64>,
    /// The last.
    pub to: Option<u64>,
    /// `slow`, `retention`, `epoch`, `bus` or `policy`.
    pub reason: Box<str>,
}

/// How far a subscription is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// There is no connection, or the server has not answered yet.
    Subscribing,
    /// What was missed is arriving.
    CatchingUp(ChannelKind),
    /// Every later message is new.
    Live,
}

/// Where a published message went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// `None` on `event` channels.
    pub epoch: Option<Box<str>>,
    /// `None` on `event` channels.
    pub offset: Option<u64>,
    /// The message id had been stored before; this is where it went then.
    pub duplicate: bool,
}
