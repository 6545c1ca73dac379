//! What RFC 6455 forbids and floods that it allows: the right close frame every time, never a bare cut, and no memory for the asking.

#![allow(clippy::unwrap_used, reason = "a test")]

mod rig;

use std::time::{Duration, Instant};

use rig::{Peer, Rig, Seen, frame};
use tidegate::auth::Anonymous;
use tidegate::{Config, Gate, Grants, LimitSettings, Pattern, SessionSettings};
use tokio::io::AsyncWriteExt;

/// A frame's header with this mask bit and length form, and no payload.
fn header(first: u8, second: u8, extended: &[u8]) -> Vec<u8> {
    [&[first, second][..], extended, &[0; 4]].concat()
}

#[tokio::test]
async fn violations_get_the_code_of_the_rfc() {
    let rig = Rig::echo(Config::default()).await;
    for (what, bytes, code) in [
        ("unmasked", vec![0x81, 2, b'h', b'i'], 1002),
        ("unmasked header alone", vec![0x81, 2], 1002),
        ("16-bit length for 2", [header(0x81, 0xfe, &[0, 2]), b"hi".to_vec()].concat(), 1002),
        ("64-bit length for 2", [header(0x81, 0xff, &2u64.to_be_bytes()), b"hi".to_vec()].concat(), 1002),
        ("length 2^63", header(0x81, 0xff, &(1u64 << 63).to_be_bytes()), 1002),
        ("length 2^62", header(0x81, 0xff, &(1u64 << 62).to_be_bytes()), 1009),
        ("1 GiB declared", header(0x82, 0xff, &(1u64 << 30).to_be_bytes()), 1009),
        ("one byte too many", header(0x82, 0xff, &(64 * 1024 + 1u64).to_be_bytes()), 1009),
        ("ping of 126", frame(0x89, &[b'x'; 126]), 1002),
        ("fragmented ping", frame(0x09, b"x"), 1002),
        ("close of 1 byte", frame(0x88, &[3]), 1002),
        ("close 1005", frame(0x88, &1005u16.to_be_bytes()), 1002),
        ("close 999", frame(0x88, &999u16.to_be_bytes()), 1002),
        ("close, bad UTF-8", frame(0x88, &[3, 0xe8, 0xff, 0xfe]), 1007),
        ("text, bad UTF-8", frame(0x81, &[0xff]), 1007),
        ("RSV1", frame(0xc1, b"hi"), 1002),
        ("opcode 3", frame(0x83, b"hi"), 1002),
        ("opcode 11", frame(0x8b, b"hi"), 1002),
        ("continuation of nothing", frame(0x80, b"hi"), 1002),
        ("message in a message", [frame(0x01, b"a"), frame(0x81, b"b")].concat(), 1002),
    ] {
        let mut peer = rig.connect().await;
        peer.send(&bytes).await;
        match peer.see().await {
            Seen::Frame(0x88, payload) => assert_eq!(u16::from_be_bytes([payload[0], payload[1]]), code, "{what}"),
            seen => panic!("{what}: {seen:?}"),
        }
        assert_eq!(peer.see().await, Seen::End, "{what}: the end comes with the close frame");
    }
}

#[tokio::test]
async fn what_comes_after_a_close_is_not_read() {
    let rig = Rig::echo(Config::default()).await;
    let mut peer = rig.connect().await;
    let late: Vec<u8> = (0..50).flat_map(|_| frame(0x81, b"late")).collect();
    peer.send(&[frame(0x88, &1000u16.to_be_bytes()), late].concat()).await;
    assert_eq!(peer.see().await, Seen::close(1000, ""));
    assert!(matches!(peer.see().await, Seen::End | Seen::Reset));
}

/// Who floods is told why it ends, and then it ends at once: the rest of the flood is thrown away, not understood.
#[tokio::test]
async fn a_flood_gets_its_close_frame_and_the_end() {
    let grants = Grants { subscribe: vec![Pattern::new("**").unwrap()], ..Grants::default() };
    let gate = Gate::builder(Config::default()).authenticate(Anonymous::new(grants)).build().await.unwrap();
    let rig = Rig::start(gate).await;
    for flooding in [frame(0x89, &[b'p'; 125]).repeat(2000), [frame(0x01, b"a"), frame(0x00, b"a").repeat(20_000)].concat()] {
        let mut peer = Peer::open(rig.address).await;
        peer.send(rig::handshake("/ws", "").as_bytes()).await;
        assert!(peer.head().await.starts_with("HTTP/1.1 101"));
        let begun = Instant::now();
        peer.send(&flooding).await;
        loop {
            match peer.see().await {
                Seen::Frame(0x81 | 0x8a, _) => {}
                Seen::Frame(0x88, payload) => break assert_eq!(payload[..2], 4102u16.to_be_bytes()),
                seen => panic!("{seen:?}"),
            }
        }
        assert_eq!(peer.see().await, Seen::End);
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    }
}

/// What a flooder still sends is thrown away at a pace, and TCP holds it up: it took as much of the processor as it wanted.
#[tokio::test]
async fn who_goes_on_flooding_is_hardly_read() {
    // Longer than this takes: it is not cut meanwhile.
    let limits = LimitSettings { close: Duration::from_secs(60), ..LimitSettings::default() };
    let session = SessionSettings { limits, ..SessionSettings::default() };
    let rig = Rig::echo(Config { session: session.into(), ..Config::default() }).await;
    let mut peer = rig.connect().await;
    peer.send(&[0x81, 2, b'h', b'i']).await;
    assert!(matches!(peer.see().await, Seen::Frame(0x88, _)));
    let (begun, mut sent) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(2) {
        sent += match tokio::time::timeout(Duration::from_millis(100), peer.stream.write(&[7; 64 * 1024])).await {
            Ok(written) => written.unwrap(),
            Err(_) => 0,
        };
    }
    // Half a megabyte of it was read; the rest lies in the kernel.
    assert!(sent < 32 << 20, "{sent} bytes were taken in 2 s");
}

#[tokio::test]
async fn a_message_of_exactly_the_limit_is_taken() {
    let rig = Rig::echo(Config::default()).await;
    let mut peer = rig.connect().await;
    let message = vec![7; 64 * 1024];
    peer.send(&frame(0x82, &message)).await;
    assert_eq!(peer.see().await, Seen::Frame(0x82, message));
}

#[tokio::test]
async fn only_the_newest_ping_is_answered_to_who_does_not_read() {
    let rig = Rig::echo(Config::default()).await;
    let mut peer = rig.connect().await;
    let pings: Vec<u8> = (0..20_000u32).flat_map(|n| frame(0x89, &n.to_be_bytes())).collect();
    peer.send(&pings).await;
    let mut last = 0;
    let mut pongs = 0;
    while last != 19_999 {
        match peer.see().await {
            Seen::Frame(0x8a, payload) => {
                let n = u32::from_be_bytes(payload.try_into().unwrap());
                assert!(pongs == 0 || n > last, "in order");
                (last, pongs) = (n, pongs + 1);
            }
            seen => panic!("{seen:?}"),
        }
    }
    assert!(pongs <= 20_000);
}

#[tokio::test]
async fn an_unfinished_message_has_a_deadline() {
    let limits = LimitSettings { assemble: Duration::from_millis(300), ..LimitSettings::default() };
    let session = SessionSettings { limits, ..SessionSettings::default() };
    let rig = Rig::echo(Config { session: session.into(), ..Config::default() }).await;
    let mut peer = rig.connect().await;
    let begun = Instant::now();
    peer.send(&frame(0x01, b"a")).await;
    let fragments = tokio::spawn(async move {
        loop {
            match peer.see_within(Duration::from_millis(5)).await {
                Seen::Nothing => peer.send(&frame(0x00, b"a")).await,
                seen => return seen,
            }
        }
    });
    let Seen::Frame(0x88, _) = fragments.await.unwrap() else { panic!("no close frame") };
    assert!((250..5000).contains(&begun.elapsed().as_millis()));
}
