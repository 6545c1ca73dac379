//! Fan-out under pressure: several publishers, readers of every speed, answers in between, and each stream whole and in order.

#![allow(clippy::unwrap_used, reason = "a test")]

mod rig;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rig::{Peer, Rig, Seen, frame};
use serde_json::Value;
use tidegate::auth::Anonymous;
use tidegate::broker::{Embedded, EmbeddedSettings};
use tidegate::{ChannelKind, ChannelRule, Config, Gate, Grants, LimitSettings, Pattern, RateSettings, SessionSettings};

const PUBLISHERS: u64 = 4;
const EACH: u64 = 250;
const READERS: u64 = 6;
/// Messages that fill a write.
const BATCH: u64 = 32;
/// Long enough to be told from a slow machine.
const WINDOW: Duration = Duration::from_secs(2);

fn config() -> Config {
    let rule = |pattern, flush_window| {
        Arc::new(ChannelRule { flush_window, ..ChannelRule::new(Pattern::new(pattern).unwrap(), ChannelKind::Log) })
    };
    let channels = vec![rule("gathered:*", WINDOW), rule("**", Duration::ZERO)];
    let limits = LimitSettings { rate: RateSettings { per_second: 100_000, burst: 100_000 }, ..LimitSettings::default() };
    Config { session: Arc::new(SessionSettings { channels, limits, ..SessionSettings::default() }), ..Config::default() }
}

async fn start() -> Rig {
    let everything = Grants { subscribe: vec![Pattern::new("**").unwrap()], ..Grants::default() };
    // Room for all messages: without a log on disk, a reader that is slower than the oldest can be kept is told of a gap.
    let broker = Embedded::open(EmbeddedSettings { memory_bytes: 256 << 20, ..EmbeddedSettings::default() }).unwrap();
    let gate = Gate::builder(config()).authenticate(Anonymous::new(everything)).broker(Arc::new(broker)).build().await.unwrap();
    Rig::start(gate).await
}

async fn subscribed(rig: &Rig, channel: &str) -> Peer {
    let mut peer = Peer::open(rig.address).await;
    peer.send(rig::handshake("/ws", "Sec-WebSocket-Protocol: tidegate.v1.json\r\n").as_bytes()).await;
    assert!(peer.head().await.starts_with("HTTP/1.1 101"));
    let command = format!(r#"{{"type":"subscribe","id":1,"channel":"{channel}"}}"#);
    peer.send(&frame(0x81, command.as_bytes())).await;
    while next(&mut peer).await["type"] != "live" {}
    peer
}

/// The next object, whatever control frames come before it.
async fn next(peer: &mut Peer) -> Value {
    loop {
        match peer.see().await {
            Seen::Frame(0x81, payload) => return serde_json::from_slice(&payload).unwrap(),
            Seen::Frame(0x89 | 0x8a, _) => {}
            seen => panic!("{seen:?}"),
        }
    }
}

/// Reads everything in order. The slow ones pause, so that the socket fills and writes are cut in the middle of frames; all of them
/// send pings, so that the driver writes too.
async fn read_all(mut peer: Peer, number: u64) {
    let mut expected = 1;
    while expected <= PUBLISHERS * EACH {
        if expected % 16 == number {
            peer.send(&frame(0x89, b"?")).await;
        }
        if number >= READERS / 2 && expected % 64 == 0 {
            tokio::time::sleep(Duration::from_millis(20 * number)).await;
        }
        let message = next(&mut peer).await;
        assert_eq!((&message["type"], &message["offset"]), (&"message".into(), &expected.into()), "reader {number}");
        let (size, fill) = (message["data"]["size"].as_u64().unwrap(), message["data"]["fill"].as_str().unwrap());
        assert_eq!(fill.len() as u64, size, "reader {number}: a whole message");
        expected += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn every_reader_gets_every_message_once_and_in_order() {
    let rig = start().await;
    let mut readers = Vec::new();
    for number in 0..READERS {
        let peer = subscribed(&rig, "a").await;
        readers.push(tokio::spawn(read_all(peer, number)));
    }
    let publishers = (0..PUBLISHERS).map(|publisher| {
        let gate = rig.gate.clone();
        tokio::spawn(async move {
            for number in 0..EACH {
                // From a few bytes to most of what a batch may have, in an order that is never the same for two in a row.
                let size = (number * 7919 + publisher * 104_729) % 40_000;
                let data = serde_json::json!({ "size": size, "fill": "x".repeat(size as usize) });
                gate.publisher().publish("a", &data).await.unwrap();
            }
        })
    });
    for task in publishers.collect::<Vec<_>>().into_iter().chain(readers) {
        tokio::time::timeout(Duration::from_secs(60), task).await.unwrap().unwrap();
    }
    assert_eq!(rig.metric("tidegate_publish_total{kind=\"log\"}"), (PUBLISHERS * EACH) as f64);
    // What a reader that was behind had read from history already is not delivered a second time.
    assert!(rig.metric("tidegate_delivery_total{kind=\"log\"}") <= (PUBLISHERS * EACH * READERS) as f64);
    assert_eq!(rig.metric("tidegate_panic_total"), 0.0);
}

/// A channel with a flush window: what comes within it shares a write, which goes out when the window ends, or before when it is full.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn messages_of_a_flush_window_leave_together() {
    let rig = start().await;
    let mut reader = subscribed(&rig, "gathered:a").await;
    let publisher = rig.gate.publisher();
    let publish = async |range: std::ops::RangeInclusive<u64>| {
        for number in range {
            publisher.publish("gathered:a", &number).await.unwrap();
        }
    };
    let begun = Instant::now();
    publish(1..=3).await;
    assert_eq!(next(&mut reader).await["data"], 1);
    assert!(begun.elapsed() >= WINDOW, "{:?}: the first waits for the others", begun.elapsed());
    for number in 2..=3 {
        assert_eq!(next(&mut reader).await["data"], number);
    }
    assert!(begun.elapsed() < WINDOW * 2, "{:?}: they wait together", begun.elapsed());

    let begun = Instant::now();
    publish(4..=4 + BATCH).await;
    for number in 4..4 + BATCH {
        assert_eq!(next(&mut reader).await["data"], number);
    }
    assert!(begun.elapsed() < WINDOW, "{:?}: a full write does not wait", begun.elapsed());
    assert_eq!(next(&mut reader).await["data"], 4 + BATCH);
    assert!(begun.elapsed() >= WINDOW, "{:?}: what did not fit waits for its own", begun.elapsed());
}
