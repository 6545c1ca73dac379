//! `[heartbeat]`, `[outbox]`, `[limits]`: what every session does and may do.

use std::time::Duration;

use tidegate::OutboundMemory;

use super::schema::section;
use super::values::{OrOff, Size};

section! {
    /// Pings, and how long silence may last.
    Heartbeat {
        /// Time between protocol pings, ± 10 %. Keep it below the idle limit of every proxy on the way (often 60 s).
        ping: Duration = "25s",
        /// Unanswered pings until the peer counts as dead: it is closed after (missed + ½) × ping of silence.
        missed: u32 = "2",
        /// The longest time between pings as messages, for paths that eat control frames.
        app_ping: OrOff = "60s",
        /// Close a session that has had no message either way for so long.
        idle: OrOff = "off",
        /// Ask a session to move to a new connection at this age.
        max_age: OrOff = "off",
    }
}

section! {
    /// The one queue between channels and a socket.
    Outbox {
        /// Bytes that may wait for one connection.
        bytes: Size = "512KiB",
        /// Messages that may wait for one connection.
        messages: usize = "1024",
        /// How long data may wait without the peer taking a byte before it is cut.
        stall: Duration = "30s",
    }
}

section! {
    /// What clients and publishers may ask for.
    Limits {
        /// Bytes of a message, inbound and published.
        message: Size = "64KiB",
        /// Channels that a session may subscribe to at once.
        subscriptions: usize = "128",
        /// Commands of a session under way at once; past that its socket is not read.
        in_flight: usize = "32",
        /// Inbound frames of a session.
        rate: Rate = "",
        /// From accept to the end of the upgrade, TLS included. Nothing extends it.
        upgrade: Duration = "10s",
        /// Time to authenticate after the upgrade.
        authenticate: Duration = "5s",
        /// From our close frame to the end of the TCP connection.
        close: Duration = "5s",
        /// Bytes of a body of the HTTP API. NDJSON has no limit as a whole, each line has `limits.message`.
        api_body: Size = "8MiB",
        /// Connections of the node.
        connections: usize = "100000",
        /// Connections of one address, or of one IPv6 /64.
        per_address: usize = "200",
        /// Connections of one user.
        per_user: usize = "50",
        /// Memory for what waits for sockets on the whole node, as a size or as a share of the memory limit.
        outbound_memory: OutboundMemory = "25%",
    }
}

section! {
    /// A token bucket.
    Rate {
        /// Frames a second in the long run.
        per_second: u32 = "20",
        /// Frames that can be saved up.
        burst: u32 = "40",
    }
}
