//! Every metric is read by a test that produces it, or stands here with the reason why none does.

#![allow(clippy::unwrap_used, reason = "a test")]

mod rig;

use rig::Rig;
use tidegate::Config;

/// Where metrics are produced and read.
const TESTS: [&str; 5] = [
    include_str!("handshake.rs"),
    include_str!("protocol.rs"),
    include_str!("raw.rs"),
    include_str!("descriptors.rs"),
    include_str!("lost.rs"),
];

/// Metrics that no test here reads.
const UNREAD: [(&str, &str); 15] = [
    ("log_append", "the broker's own tests read the counters behind all of `log_…`; protocol.rs reads this one through the metrics"),
    ("log_batch", "as above"),
    ("log_written_bytes", "as above"),
    ("log_moved_bytes", "as above"),
    ("log_sync_microseconds", "as above"),
    ("log_dropped_by_retention", "as above"),
    ("log_dropped_by_memory", "as above"),
    ("log_cache_hit", "as above"),
    ("log_cache_miss", "as above"),
    ("log_error", "as above"),
    ("log_batch_messages_max", "as above"),
    ("log_sync_max_microseconds", "as above"),
    ("log_disk_bytes", "as above"),
    ("log_channels", "as above"),
    ("log_cache_bytes", "as above"),
];

#[tokio::test]
async fn each_is_produced_by_a_test_or_has_a_reason() {
    let rig = Rig::echo(Config::default()).await;
    let text = rig.gate.metrics().encode();
    let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE tidegate_")?.split(' ').next()).collect();
    assert!(names.len() > 30, "{names:?}");
    for name in &names {
        let is_read = TESTS.iter().any(|test| test.contains(&format!("\"tidegate_{name}")));
        let has_reason = UNREAD.iter().any(|(unread, _)| unread == name);
        assert!(is_read || has_reason, "no test reads tidegate_{name}");
    }
    for (unread, _) in UNREAD {
        assert!(names.contains(&unread), "{unread} is no metric any more");
    }
}

#[tokio::test]
async fn labels_are_bounded_by_the_code_and_not_by_who_connects() {
    let rig = Rig::echo(Config::default()).await;
    for n in 0..20 {
        let mut peer = rig::Peer::open(rig.address).await;
        let extra = format!("Origin: https://evil{n}.io\r\nUser-Agent: agent{n}\r\nCookie: secret{n}\r\n");
        peer.send(rig::handshake(&format!("/?ticket=secret{n}"), &extra).as_bytes()).await;
        assert!(peer.head().await.starts_with("HTTP/1.1 403"));
    }
    let text = rig.gate.metrics().encode();
    assert!(!text.contains("evil") && !text.contains("agent") && !text.contains("secret"), "{text}");
    assert!(text.len() < 16 * 1024);
}
