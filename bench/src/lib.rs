//! A load client for WebSocket servers: tens of thousands of connections on one thread, in little memory and CPU.
//!
//! [`Swarm`] holds the connections and the publishers in one `epoll`; a [`Sink`] sees what arrives. [`Target`] says how a
//! server wants to be talked to, so that any server can be measured, not only Tidegate. [`Process`] reads what the
//! server spent, from `/proc`. The measures of the `bench` binary are in [`measure`].

pub mod crowd;
pub mod frames;
pub mod http;
pub mod latency;
pub mod measure;
mod nats;
pub mod peer;
pub mod process;
mod publisher;
pub mod pusher;
pub mod report;
pub mod swarm;
pub mod target;
mod wire;

pub use latency::Histogram;
pub use peer::{End, State};
pub use process::Process;
pub use swarm::{Sink, Swarm};
pub use target::Target;
pub use wire::Tls;
