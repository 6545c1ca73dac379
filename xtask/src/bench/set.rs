//! The measures, in the order in which they run.

use super::measures::{Better, Figure, Measure};

const fn less(name: &'static str, title: &'static str) -> Figure {
    Figure { name, title, floor: None, better: Better::Less }
}

const fn more(name: &'static str, title: &'static str, floor: Option<&'static str>) -> Figure {
    Figure { name, title, floor, better: Better::More }
}

const fn neither(name: &'static str, title: &'static str) -> Figure {
    Figure { name, title, floor: None, better: Better::Neither }
}

macro_rules! is {
    () => {
        false
    };
    (slow) => {
        true
    };
    (shared) => {
        false
    };
}

macro_rules! remark {
    (shared) => {
        SHARED
    };
    ($($slow:ident)?) => {
        ""
    };
}

macro_rules! fanout {
    ($id:literal, $title:literal, $floor:expr, [$($argument:literal),+] $($kind:ident)?) => {
        Measure {
            id: $id,
            title: $title,
            remark: remark!($($kind)?),
            arguments: &["fanout", "--seconds", "5", $($argument),+],
            figures: &[more("deliveries_per_cpu_second", "deliveries per CPU-second", $floor)],
            slow: is!($($kind)?),
            repeats: true,
            over_tls: false,
            seconds: if is!($($kind)?) { 12 } else { 8 },
        }
    };
}

macro_rules! floor {
    ($id:literal, $title:literal, [$($argument:literal),+] $($slow:ident)?) => {
        Measure {
            id: $id,
            title: $title,
            remark: "",
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
            remark: "",
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

/// Below the tables of those in which a server may write several messages at once.
const SHARED: &str = "A server that has several messages for a subscriber may send them in one write, and then pays for fewer writes than \
                      the floor, which has a fixed number of frames in each: here the floor is a mark, not a bound.";
/// Below those in which the load client may be what is busy.
const BUSY: &str = "Where the server was not busy all the time, the load client was: a figure per second would be the client's, and the one \
                    per CPU-second is the server's.";

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
        "128 B to 1,000 subscribers, a publisher that waits for its answer, at most 32 messages on their way",
        Some("floor-1000"),
        ["--subscribers", "1000", "--on-the-way", "32"] shared
    ),
    floor!("floor-1000-16", "ready frames to 1,000 sockets, 16 a write", ["--sockets", "1000", "--per-write", "16"]),
    fanout!(
        "fanout-1000-16x",
        "128 B to 1,000 subscribers, 16 unanswered publishes and at most 64 messages on their way",
        Some("floor-1000-16"),
        ["--subscribers", "1000", "--pipeline", "16", "--on-the-way", "64"] shared
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
        remark: "",
        arguments: &["replay"],
        figures: &[less("p99_beside_ms", "p99 meanwhile, ms"), less("p99_alone_ms", "p99 alone, ms"), less("p99_ratio", "ratio")],
        slow: true,
        repeats: true,
        over_tls: false,
        seconds: 32,
    },
    Measure {
        id: "leave",
        title: "50 messages a second to 100 subscribers while 10,000 others are cut at once",
        remark: "",
        arguments: &["leave"],
        figures: &[
            less("p99_after_ms", "p99 in the 2 s from then on, ms"),
            less("p99_before_ms", "p99 before, ms"),
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
        remark: "",
        arguments: &["beside"],
        figures: &[
            less("p99_meanwhile_ms", "p99 meanwhile, ms"),
            less("p50_meanwhile_ms", "p50 meanwhile, ms"),
            less("p99_alone_ms", "p99 alone, ms"),
        ],
        slow: true,
        repeats: true,
        over_tls: false,
        seconds: 21,
    },
    Measure {
        id: "handshake",
        title: "connect, be let in, close",
        remark: BUSY,
        arguments: &["handshake", "--seconds", "5"],
        figures: &[more("per_cpu_second", "per CPU-second", None), neither("server_busy_percent", "server busy, % of its core")],
        slow: false,
        repeats: true,
        over_tls: false,
        seconds: 6,
    },
    Measure {
        id: "handshake-tls",
        title: "the same over TLS 1.3, each handshake a full one",
        remark: BUSY,
        arguments: &["handshake", "--seconds", "5"],
        figures: &[more("per_cpu_second", "per CPU-second", None), neither("server_busy_percent", "server busy, % of its core")],
        slow: false,
        repeats: true,
        over_tls: true,
        seconds: 6,
    },
    Measure {
        id: "inbound",
        title: "100 clients ask whether the server is there, again and again",
        remark: BUSY,
        arguments: &["inbound", "--seconds", "5"],
        figures: &[
            more("per_cpu_second", "questions answered per CPU-second", None),
            neither("server_busy_percent", "server busy, % of its core"),
        ],
        slow: false,
        repeats: true,
        over_tls: false,
        seconds: 6,
    },
    Measure {
        id: "kernel",
        title: "bytes hidden in the server's kernel by a reader that stopped",
        remark: "",
        arguments: &["kernel", "--pad", "1001", "--seconds", "8"],
        figures: &[less("server_send_kib", "KiB")],
        slow: false,
        repeats: false,
        over_tls: false,
        seconds: 9,
    },
    Measure {
        id: "stall",
        title: "100 of 1,000 subscribers stop reading, 1 KiB 20 times a second",
        remark: "In these ten seconds a subscriber misses 200 KiB, which no server has to act on. The kernel's memory is that of both ends.",
        arguments: &["stall", "--subscribers", "1000", "--stalled", "100", "--pad", "1001", "--seconds", "10"],
        figures: &[
            less("p99_stalled_ms", "p99 of the others meanwhile, ms"),
            less("p99_before_ms", "p99 before, ms"),
            less("growth_kib", "growth of the process, KiB"),
            less("kernel_growth_kib", "growth of TCP's memory in the kernel, KiB"),
        ],
        slow: false,
        repeats: false,
        over_tls: false,
        seconds: 23,
    },
    Measure {
        id: "drain",
        title: "SIGTERM with 1,000 connections, 10 of which don't answer",
        remark: "",
        arguments: &["drain", "--connections", "1000", "--unresponsive", "10", "--seconds", "75"],
        figures: &[
            less("busiest_second_percent", "gone within the busiest second, % of the others"),
            neither("last_healthy_s", "last of the others gone after, s"),
            neither("process_gone_s", "process gone after, s"),
        ],
        slow: false,
        repeats: false,
        over_tls: false,
        seconds: 40,
    },
    Measure {
        id: "idle",
        title: "10,000 subscribed connections that only stay",
        remark: "",
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
        remark: "",
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
        less("p99_ms", "p99, ms"),
        less("p50_ms", "p50, ms"),
        less("p999_ms", "p99.9, ms"),
        more("deliveries_per_cpu_second", "deliveries per CPU-second", None),
    ];
    Measure { id, title, remark: "", arguments, figures: &FIGURES, slow: false, repeats: true, over_tls: false, seconds: 10 }
}
