//! Why something was not done, and why something ended.

use std::fmt;

use tidegate_core::InvalidChannel;

/// Why a command was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server refused it.
    #[error("{code}: {message}")]
    Refused {
        /// One of the protocol's error codes.
        code: Box<str>,
        /// What it says.
        message: Box<str>,
        /// After how long a repetition may succeed; `None`: never unchanged.
        retry_after_ms: Option<u64>,
    },
    /// There was no answer in time. A publish may have been stored: repeat it with the same message id.
    #[error("no answer in time")]
    Timeout,
    /// So many commands wait already that this one was not taken.
    #[error("too many commands wait for the connection")]
    QueueFull,
    /// It is larger than the server takes.
    #[error("the message is larger than the {limit} bytes that the server takes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// The data can't be written as JSON.
    #[error("the data is not JSON: {0}")]
    Data(Box<str>),
    /// No channel can have this name.
    #[error("not a channel's name: {0}")]
    Channel(InvalidChannel),
    /// The client has stopped.
    #[error("the client stopped: {0}")]
    Stopped(Stop),
}

/// Why a subscription or a client ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The WebSocket close code, if the connection was closed for good.
    pub code: Option<u16>,
    /// The close reason, or the error code of a refused subscription with its message.
    pub reason: Box<str>,
}

impl fmt::Display for Stop {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(out, "{code} {}", self.reason),
            None => out.write_str(&self.reason),
        }
    }
}
