//! How a gate behaves: its settings with their defaults and the reasons for them.

use std::sync::Arc;
use std::time::Duration;

use tidegate_core::SessionSettings;

use crate::address::TrustedProxies;
use crate::admission::AdmissionSettings;
use crate::origin::Origins;

/// Everything that decides a gate's behaviour. What is changed by a reload counts for connections opened after it.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// What every session does: heartbeats, outbox, limits, channels.
    pub session: Arc<SessionSettings>,
    /// Web pages that may connect. Empty refuses every browser; clients that send no `Origin` are not browsers and may.
    pub origins: Origins,
    /// Proxies whose `X-Forwarded-For` counts.
    pub trusted_proxies: TrustedProxies,
    /// How many may be connected.
    pub admission: AdmissionSettings,
    /// Bounds before the 101.
    pub upgrade: UpgradeSettings,
    /// Memory for what waits for sockets.
    pub outbound_memory: OutboundMemory,
    /// What happens when the node is going.
    pub drain: DrainSettings,
    /// Offer permessage-deflate to clients that ask for it. Off: it costs memory per connection, and secrets that are compressed
    /// together with what an attacker chose can be guessed from the length (CRIME, BREACH).
    pub compression: bool,
    /// Work under way for all clients together: history reads, publishes, requests. As many as a broker serves well at once.
    pub concurrency: Concurrency,
}

/// Bounds before the 101.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpgradeSettings {
    /// From accept to 101, TLS included; no way to extend it (`limits.upgrade`).
    pub deadline: Duration,
    /// Sockets in this phase at once. Past it the listener leaves new ones in the kernel's queue.
    pub handshakes: usize,
    /// Bytes of a request's head, twice what proxies allow for one header; more is 431.
    pub head_bytes: usize,
    /// Header fields of a request; more is 431.
    pub fields: usize,
}

impl Default for UpgradeSettings {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(10), handshakes: 4096, head_bytes: 16 * 1024, fields: 100 }
    }
}

/// Memory for what waits for sockets on the whole node (`limits.outbound_memory`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboundMemory {
    /// So many hundredths of the container's memory limit, or of the machine's memory.
    Percent(u8),
    /// So many bytes.
    Bytes(u64),
}

impl Default for OutboundMemory {
    /// A quarter: the rest is for connections, history and the kernel.
    fn default() -> Self {
        Self::Percent(25)
    }
}

/// `[drain]`: what happens when the node is going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainSettings {
    /// The node still accepts for so long after the signal, because load balancers learn late.
    pub announce: Duration,
    /// Over so long the connections' slots are spread evenly.
    pub window: Duration,
    /// How long a client may stay after its slot.
    pub grace: Duration,
    /// From the signal: who is still there then is cut.
    pub deadline: Duration,
}

impl Default for DrainSettings {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { announce: seconds(5), window: seconds(20), grace: seconds(10), deadline: seconds(60) }
    }
}

/// Work under way for all clients together. Each client is bounded by `limits.in_flight` besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency {
    /// History reads and snapshots: each holds a page in memory.
    pub reads: usize,
    /// Publishes, requests, attaches and credentials.
    pub commands: usize,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self { reads: 64, commands: 1024 }
    }
}
