//! Guarded WebSocket sessions for axum and hyper: heartbeats, bounded outboxes, channels with history, and a drain nobody notices.
//!
//! ```no_run
//! # async fn run(config: tidegate::Config, grants: tidegate::Grants) -> Result<(), Box<dyn std::error::Error>> {
//! let gate = tidegate::Gate::builder(config).authenticate(tidegate::auth::Anonymous::new(grants)).build().await?;
//! let app: axum::Router = axum::Router::new().route("/ws", gate.route());
//! gate.publisher().publish("orders:42", &serde_json::json!({ "state": "paid" })).await?;
//! # Ok(()) }
//! ```
//!
//! What decides is in `tidegate-core` and knows no clock and no socket; what is here touches both.

mod address;
mod admission;
pub mod auth;
pub mod broker;
mod budget;
mod clock;
mod connection;
mod connections;
mod drain;
mod gate;
mod hub;
#[cfg(any(test, feature = "instructions"))]
#[doc(hidden)]
pub mod instructions;
mod listener;
mod metrics;
mod origin;
mod publish;
mod request;
mod settings;
mod tls;
mod upgrade;

pub use address::TrustedProxies;
pub use admission::AdmissionSettings;
pub use connection::{Closed, RawMessage, RawSocket};
pub use connections::{ConnectionFilter, ConnectionInfo, ConnectionPage};
pub use drain::{Drained, Phase};
pub use gate::{BuildError, Builder, Gate};
pub use listener::Listener;
pub use metrics::Metrics;
pub use origin::{InvalidOrigin, Origin, Origins};
pub use publish::{Pace, PublishError, Publisher};
pub use request::{HandleRequest, Request, Response};
pub use settings::{Concurrency, Config, DrainSettings, OutboundMemory, UpgradeSettings};
pub use tls::{Tls, TlsError};

pub use tidegate_core::broker::{BoxFuture, Published};
pub use tidegate_core::{
    Body, ChannelKind, ChannelName, ChannelRule, CloseCode, ConnectionId, Epoch, ErrorCode, Grants, HeartbeatSettings, HistoryAccess,
    Identity, InvalidChannel, InvalidConnectionId, InvalidPattern, LimitSettings, MessageId, OutboxSettings, Overflow, Pattern, Position,
    Publication, RateSettings, ReconnectSettings, Retention, SessionSettings, message,
};
