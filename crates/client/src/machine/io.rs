//! The machine's doors: everything that goes in, everything that comes out.

use bytes::Bytes;
use serde_json::value::RawValue;
use tidegate_core::message::{ClientMessage, CommandId, Publish, Since};
use tidegate_core::{ChannelKind, ChannelName, Position};
use tidegate_wire::json;

use crate::client::Credential;
use crate::error::{Error, Stop};
use crate::event::{Event, Published};

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
        channel: ChannelName,
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
    Publish(Publish),
    Request { method: Box<str>, data: Bytes },
}

impl Command {
    /// A publish has an id by which a repetition is recognised; whether a request was begun can't be known.
    pub(super) const fn is_repeatable(&self) -> bool {
        matches!(self, Self::Publish(_))
    }

    pub(super) fn with_id(self, id: CommandId) -> ClientMessage {
        match self {
            Self::Publish(publish) => ClientMessage::Publish { id, publish },
            Self::Request { method, data } => ClientMessage::Request { id, method, data },
        }
    }
}

/// What a command that was done answers.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Ok,
    Published(Published),
    Response(Box<RawValue>),
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
        cursor: Option<Position>,
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

pub(super) type Actions = Vec<Action>;

/// A message as the frame's text. Nothing that a client says is [`ClientMessage::Invalid`], and JSON is UTF-8.
pub(super) fn text(message: &ClientMessage) -> String {
    let mut out = Vec::new();
    let written = json::encode_client(message, &mut out);
    debug_assert!(written.is_ok(), "{message:?}");
    String::from_utf8(out).unwrap_or_default()
}
