//! `[log]`, `[drain]`, `[broker]`: how the node speaks, leaves, and keeps.

use std::time::Duration;

use super::schema::section;
use super::values::{NotYet, Size, words};

section! {
    /// Logging, to standard error: for people on a terminal, else as JSON lines.
    Log {
        /// A level (`error`, `warn`, `info`, `debug`, `trace`) or a filter such as `info,tidegate=debug`. `TIDEGATE_LOG` overrides it.
        level: String = "info",
    }
}

section! {
    /// How the node leaves after SIGTERM or `tidegate drain`.
    Drain {
        /// It still accepts for so long, because load balancers learn late.
        announce: Duration = "5s",
        /// Over so long the connections are asked to go, at an even rate.
        window: Duration = "20s",
        /// How long a client may stay after it was asked.
        grace: Duration = "10s",
        /// From the signal: connections that are still there then are cut, and the exit status is 3.
        deadline: Duration = "60s",
    }
}

section! {
    /// Where messages are kept, and how they reach other nodes.
    Broker {
        /// Which.
        kind: BrokerKind = "embedded",
        /// The directory of the embedded log.
        path: String = "./tidegate-data",
        /// What an acknowledged publish survives: `memory` (nothing), `fsync` (power loss).
        durability: Durability = "fsync",
        /// The embedded log's own buffers and caches, all channels together.
        memory: Size = "64MiB",
        /// Address of a Redis or NATS server.
        url: NotYet = "",
    }
}

words! {
    /// A broker.
    BrokerKind = "\"embedded\", \"redis\" or \"nats\"" {
        /// A log on this machine's disk.
        Embedded = "embedded",
        /// Redis.
        Redis = "redis",
        /// NATS.
        Nats = "nats",
    }
}

words! {
    /// What an acknowledged publish survives.
    Durability = "\"memory\", \"bus\" or \"fsync\"" {
        /// Nothing.
        Memory = "memory",
        /// What the broker's own settings give.
        Bus = "bus",
        /// Power loss.
        Fsync = "fsync",
    }
}
