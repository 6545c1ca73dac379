//! One message on its way to subscribers: shared, and encoded at most once per dialect.

use std::sync::OnceLock;

use bytes::Bytes;

use crate::{ChannelName, MessageId, Position};

/// An encoding of the wire protocol. The model is the same in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `tidegate.v1.json`, text frames; normative.
    Json,
}

impl Dialect {
    /// How many there are: the size of the table of encodings in a [`Publication`].
    pub const COUNT: usize = 1;

    const fn index(self) -> usize {
        match self {
            Self::Json => 0,
        }
    }
}

/// What a message carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Any JSON value, byte for byte as it was published.
    Data(Bytes),
    /// The key is gone (`state` channels).
    Deleted,
}

/// A published message. Always handled as `Arc<Publication>`: every outbox that waits for a socket holds the same bytes.
#[derive(Debug)]
pub struct Publication {
    /// Where it was published.
    pub channel: ChannelName,
    /// Its place in the channel's history; `None` on `event` channels.
    pub position: Option<Position>,
    /// The publisher's id of it, by which repeats are recognised, or one that was drawn for it.
    pub id: Option<MessageId>,
    /// Which entry of a `state` channel it replaces.
    pub key: Option<Box<str>>,
    /// What it carries.
    pub body: Body,
    frames: [OnceLock<Bytes>; Dialect::COUNT],
}

impl Publication {
    /// A message that nobody has encoded yet.
    pub const fn new(channel: ChannelName, position: Option<Position>, id: Option<MessageId>, key: Option<Box<str>>, body: Body) -> Self {
        Self { channel, position, id, key, body, frames: [const { OnceLock::new() }; Dialect::COUNT] }
    }

    /// The whole WebSocket frame in this dialect, made by `encode` the first time and shared ever after.
    pub fn frame(&self, dialect: Dialect, encode: impl FnOnce(&Self) -> Bytes) -> &Bytes {
        self.frames[dialect.index()].get_or_init(|| encode(self))
    }

    /// The offset in its epoch; 0 on `event` channels.
    pub fn offset(&self) -> u64 {
        self.position.map_or(0, |position| position.offset)
    }

    /// What it is charged for in an outbox, in bytes: the frame as it will be on the wire, as near as can be said before
    /// it is encoded (envelope and names included), the same for every dialect so that budgets don't depend on the peer.
    pub fn cost(&self) -> usize {
        const ENVELOPE: usize = 72;
        let data = match &self.body {
            Body::Data(data) => data.len(),
            Body::Deleted => 14,
        };
        let id = self.id.as_ref().map_or(0, MessageId::len);
        let key = self.key.as_ref().map_or(0, |key| key.len());
        ENVELOPE + self.channel.as_str().len() + id + key + data
    }
}
