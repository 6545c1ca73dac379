//! What is measured: each a call of the `bench` binary, and the figure of it that is compared.

use super::peers::Peer;

/// One call of the `bench` binary.
pub(super) struct Measure {
    /// Its name, as in `fanout-1000-one`.
    pub(super) id: &'static str,
    /// What it is, in the words of the report.
    pub(super) title: &'static str,
    pub(super) arguments: &'static [&'static str],
    /// The figures that are compared, with their heads in the table.
    pub(super) figures: &'static [Figure],
    /// Needs ten thousand connections.
    pub(super) slow: bool,
    /// Runs several times; the median counts.
    pub(super) repeats: bool,
    /// Clients come over TLS.
    pub(super) over_tls: bool,
    /// What a run takes, about, the start of the server included.
    pub(super) seconds: u64,
}

/// A figure of a measure.
pub(super) struct Figure {
    /// Its name in JSON.
    pub(super) name: &'static str,
    /// What it is and in which unit.
    pub(super) title: &'static str,
    /// The measure of the floor that it is held against.
    pub(super) floor: Option<&'static str>,
    /// Whether more is better.
    pub(super) more: bool,
}

const fn less(name: &'static str, title: &'static str) -> Figure {
    Figure { name, title, floor: None, more: false }
}

const fn more(name: &'static str, title: &'static str, floor: Option<&'static str>) -> Figure {
    Figure { name, title, floor, more: true }
}

macro_rules! is {
    () => {
        false
    };
    (slow) => {
        true
    };
}

macro_rules! fanout {
    ($id:literal, $title:literal, $floor:expr, [$($argument:literal),+] $($slow:ident)?) => {
        Measure {
            id: $id,
            title: $title,
            arguments: &["fanout", "--seconds", "5", $($argument),+],
            figures: &[more("deliveries_per_cpu_second", "deliveries per CPU-second", $floor)],
            slow: is!($($slow)?),
            repeats: true,
            over_tls: false,
            seconds: if is!($($slow)?) { 12 } else { 8 },
        }
    };
}

macro_rules! floor {
    ($id:literal, $title:literal, [$($argument:literal),+] $($slow:ident)?) => {
        Measure {
            id: $id,
            title: $title,
            arguments: &["floor", $($argument),+],
            figures: &[more("messages_per_cpu_second", "messages per CPU-second", None)],
            slow: is!($($slow)?),
            repeats: true,
            over_tls: false,
            seconds: if is!($($slow)?) { 8 } else { 6 },
        }
    };
}

macro_rules! channels {
    ($id:literal, $channels:literal, $title:literal) => {
        Measure {
            id: $id,
            title: $title,
            arguments: &["channels", "--subscribers", "10000", "--channels", $channels],
            figures: &[
                less("us_per_delivery", "us per delivery"),
                less("us_per_publish", "us per message published"),
                less("us_per_delivery_and_publish", "both, us per delivery"),
            ],
            slow: true,
            repeats: true,
            over_tls: false,
            seconds: 10,
        }
    };
}

/// The set, in the order in which it runs.
pub(super) const MEASURES: [Measure; 34] = [
    floor!("floor-5000", "ready frames to 5,000 sockets, one a write", ["--sockets", "5000"]),
    floor!(
        "floor-1000-round",
        "ready frames to 1,000 sockets in rounds: the next when all have the last",
        ["--sockets", "1000", "--in-rounds"]
    ),
    fanout!(
        "fanout-1000-one",
        "128 B to 1,000 subscribers, the next message when all have the last",
        Some("floor-1000-round"),
        ["--subscribers", "1000", "--on-the-way", "1"]
    ),
    floor!(
        "floor-1000-asleep",
        "ready frames to 1,000 sockets in rounds, to a reader that sleeps",
        ["--sockets", "1000", "--in-rounds", "--sleeps"]
    ),
    fanout!(
        "fanout-1000-asleep",
        "128 B to 1,000 subscribers, the next message when all have the last, to a client that sleeps",
        Some("floor-1000-asleep"),
        ["--subscribers", "1000", "--on-the-way", "1", "--sleeps"]
    ),
    floor!("floor-1000", "ready frames to 1,000 sockets, one a write", ["--sockets", "1000"]),
    fanout!(
        "fanout-1000-32",
        "128 B to 1,000 subscribers, a publisher that waits for its answer, 32 on their way",
        Some("floor-1000"),
        ["--subscribers", "1000", "--on-the-way", "32"]
    ),
    floor!("floor-1000-16", "ready frames to 1,000 sockets, 16 a write", ["--sockets", "1000", "--per-write", "16"]),
    fanout!(
        "fanout-1000-16x",
        "128 B to 1,000 subscribers, 16 publishes under way",
        Some("floor-1000-16"),
        ["--subscribers", "1000", "--pipeline", "16", "--on-the-way", "64"]
    ),
    floor!("floor-5000-round", "ready frames to 5,000 sockets in rounds", ["--sockets", "5000", "--in-rounds"]),
    fanout!(
        "fanout-5000-one",
        "128 B to 5,000 subscribers, the next message when all have the last",
        Some("floor-5000-round"),
        ["--subscribers", "5000", "--on-the-way", "1"]
    ),
    floor!("floor-10000-round", "ready frames to 10,000 sockets in rounds", ["--sockets", "10000", "--in-rounds"] slow),
    fanout!(
        "fanout-10000-one",
        "128 B to 10,000 subscribers, the next message when all have the last",
        Some("floor-10000-round"),
        ["--subscribers", "10000", "--on-the-way", "1"] slow
    ),
    floor!("floor-19000-round", "ready frames to 19,000 sockets in rounds", ["--sockets", "19000", "--in-rounds"] slow),
    fanout!(
        "fanout-19000-one",
        "128 B to 19,000 subscribers, the next message when all have the last",
        Some("floor-19000-round"),
        ["--subscribers", "19000", "--on-the-way", "1"] slow
    ),
    floor!(
        "floor-1000-1k-round",
        "ready frames of 1,028 bytes to 1,000 sockets in rounds",
        ["--sockets", "1000", "--frame-bytes", "1028", "--in-rounds"]
    ),
    fanout!(
        "fanout-1000-one-1k",
        "1 KiB to 1,000 subscribers, the next message when all have the last",
        Some("floor-1000-1k-round"),
        ["--subscribers", "1000", "--on-the-way", "1", "--pad", "1001"]
    ),
    channels!("channels-1", "1", "10,000 subscribers of one channel, a message each"),
    channels!("channels-10", "10", "10,000 subscribers of 10 channels, a message each"),
    channels!("channels-1000", "1000", "10,000 subscribers of 1,000 channels, a message each"),
    channels!("channels-10000", "10000", "10,000 subscribers of 10,000 channels, a message each"),
    latency(
        "latency-20",
        "20 messages a second to 1,000 subscribers",
        &["fanout", "--subscribers", "1000", "--rate", "20", "--seconds", "8"],
    ),
    latency(
        "latency-80",
        "80 messages a second to 1,000 subscribers",
        &["fanout", "--subscribers", "1000", "--rate", "80", "--seconds", "5"],
    ),
    Measure {
        id: "replay",
        title: "20 messages a second to 1,000 subscribers while 100 others catch up with 100,000 messages",
        arguments: &["replay"],
        figures: &[less("p99_alone_ms", "p99 alone, ms"), less("p99_beside_ms", "p99 meanwhile, ms"), less("p99_ratio", "ratio")],
        slow: true,
        repeats: false,
        over_tls: false,
        seconds: 50,
    },
    Measure {
        id: "leave",
        title: "50 messages a second to 100 subscribers while 10,000 others are cut at once",
        arguments: &["leave"],
        figures: &[
            less("p99_before_ms", "p99 before, ms"),
            less("p99_after_ms", "p99 in the 2 s from then on, ms"),
            less("ratio", "ratio"),
        ],
        slow: true,
        repeats: true,
        over_tls: false,
        seconds: 22,
    },
    Measure {
        id: "beside",
        title: "200 messages a second to 10 subscribers, beside two a second to 19,000",
        arguments: &["beside"],
        figures: &[
            less("p99_alone_ms", "p99 alone, ms"),
            less("p50_meanwhile_ms", "p50 meanwhile, ms"),
            less("p99_meanwhile_ms", "p99 meanwhile, ms"),
        ],
        slow: true,
        repeats: true,
        over_tls: false,
        seconds: 21,
    },
    Measure {
        id: "handshake",
        title: "connect, be let in, close",
        arguments: &["handshake", "--seconds", "5"],
        figures: &[more("per_cpu_second", "per CPU-second", None)],
        slow: false,
        repeats: true,
        over_tls: false,
        seconds: 6,
    },
    Measure {
        id: "handshake-tls",
        title: "the same over TLS 1.3, each handshake a full one",
        arguments: &["handshake", "--seconds", "5"],
        figures: &[more("per_cpu_second", "per CPU-second", None)],
        slow: false,
        repeats: true,
        over_tls: true,
        seconds: 6,
    },
    Measure {
        id: "inbound",
        title: "100 clients ask whether the server is there, again and again",
        arguments: &["inbound", "--seconds", "5"],
        figures: &[more("per_cpu_second", "questions answered per CPU-second", None)],
        slow: false,
        repeats: true,
        over_tls: false,
        seconds: 6,
    },
    Measure {
        id: "kernel",
        title: "bytes hidden in the server's kernel by a reader that stopped",
        arguments: &["kernel", "--seconds", "8"],
        figures: &[less("server_send_kib", "KiB")],
        slow: false,
        repeats: false,
        over_tls: false,
        seconds: 9,
    },
    Measure {
        id: "stall",
        title: "100 of 1,000 subscribers stop reading, 1 KiB 20 times a second",
        arguments: &["stall", "--subscribers", "1000", "--stalled", "100", "--seconds", "10"],
        figures: &[
            less("p99_before_ms", "p99 before, ms"),
            less("p99_stalled_ms", "p99 of the others meanwhile, ms"),
            less("growth_kib", "memory growth, KiB"),
        ],
        slow: false,
        repeats: false,
        over_tls: false,
        seconds: 23,
    },
    Measure {
        id: "drain",
        title: "SIGTERM with 1,000 connections, 10 of which don't answer",
        arguments: &["drain", "--connections", "1000", "--unresponsive", "10", "--seconds", "75"],
        figures: &[
            less("last_healthy_s", "last of the others gone after, s"),
            less("busiest_second_vs_mean", "busiest second, times the mean"),
            less("process_gone_s", "process gone after, s"),
        ],
        slow: false,
        repeats: false,
        over_tls: false,
        seconds: 40,
    },
    Measure {
        id: "idle",
        title: "10,000 subscribed connections that only stay",
        arguments: &["idle", "--connections", "10000", "--watch", "50"],
        figures: &[
            less("kib_per_connection_later", "KiB per connection"),
            less("cpu_s_per_10k_per_minute", "CPU-seconds a minute"),
            more("connects_per_cpu_second", "connects and subscribes per CPU-second", None),
        ],
        slow: true,
        repeats: false,
        over_tls: false,
        seconds: 88,
    },
    Measure {
        id: "idle-tls",
        title: "2,000 of them over TLS 1.3",
        arguments: &["idle", "--connections", "2000", "--watch", "10"],
        figures: &[less("kib_per_connection_later", "KiB per connection")],
        slow: true,
        repeats: false,
        over_tls: true,
        seconds: 47,
    },
];

const fn latency(id: &'static str, title: &'static str, arguments: &'static [&'static str]) -> Measure {
    const FIGURES: [Figure; 4] = [
        less("p50_ms", "p50, ms"),
        less("p99_ms", "p99, ms"),
        less("p999_ms", "p99.9, ms"),
        more("deliveries_per_cpu_second", "deliveries per CPU-second", None),
    ];
    Measure { id, title, arguments, figures: &FIGURES, slow: false, repeats: true, over_tls: false, seconds: 10 }
}

impl Measure {
    /// Whether `name` means it: its id, or the first word of it.
    pub(super) fn is(&self, name: &str) -> bool {
        self.id == name || self.id.split('-').next() == Some(name)
    }

    /// The measure of the floor that it is held against.
    pub(super) fn floor(&self) -> Option<&'static str> {
        self.figures.iter().find_map(|figure| figure.floor)
    }

    /// The floor has measures of its own, and some are Tidegate's alone: the others keep no history here, and have one channel. Not
    /// everybody answers a client that asks.
    pub(super) fn fits(&self, peer: &Peer) -> bool {
        let is_own = ["replay", "leave", "beside", "channels"].iter().any(|name| self.is(name));
        (peer.name == "floor") == self.is("floor") && (peer.name == "tidegate" || !is_own) && (!self.is("inbound") || peer.answers())
    }
}
