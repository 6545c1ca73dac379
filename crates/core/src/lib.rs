//! The rules of Tidegate: what a session, an outbox, a channel and a broker promise. No I/O, no clock, no random source, no runtime.
//!
//! Everything that decides is here and takes time as an argument ([`Moment`]); everything that touches a socket, a disk or a
//! clock is in the crate `tidegate`. The way in is [`Session`]: inputs go in by [`Session::handle`], what is to be done comes
//! out of [`Session::poll_output`], what is to be written out of [`Session::poll_transmit`].

pub mod broker;
mod channel;
mod codes;
mod connection;
mod grants;
pub mod message;
mod message_id;
mod position;
mod publication;
pub mod session;
mod settings;
mod time;

pub use channel::{ChannelKind, ChannelName, ChannelRule, HistoryAccess, InvalidChannel, InvalidPattern, Overflow, Pattern, Retention};
pub use codes::{CloseClass, CloseCode, ErrorCode, close_class};
pub use connection::{ConnectionId, InvalidConnectionId};
pub use grants::{Grants, Identity};
pub use message_id::{DRAWN_BYTES, MessageId};
pub use position::{Epoch, Position};
pub use publication::{Body, Dialect, Publication};
pub use session::Session;
pub use settings::{HeartbeatSettings, LimitSettings, OutboxSettings, RateSettings, ReconnectSettings, SessionSettings};
pub use time::Moment;
