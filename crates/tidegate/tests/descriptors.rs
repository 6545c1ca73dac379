//! A node that has no file descriptor left: who is connected does not notice, who comes is turned away, and it recovers by itself.

#![allow(clippy::unwrap_used, reason = "a test")]

mod rig;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rig::child::{Server, serve_until_orphaned};
use rig::{Peer, Rig, Seen, frame};
use tidegate::Config;

const DESCRIPTORS: u32 = 64;
const PATIENCE: Duration = Duration::from_secs(5);

/// The server, run by the test below in a process of its own with few descriptors. It ends when its standard input does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "no test: a server that only the other test starts"]
async fn process_that_serves() {
    let rig = Rig::echo(Config::default()).await;
    serve_until_orphaned(rig.address).await;
}

async fn upgrade(address: SocketAddr) -> Option<Peer> {
    let mut peer = Peer::open(address).await;
    tokio::io::AsyncWriteExt::write_all(&mut peer.stream, rig::handshake("/", "").as_bytes()).await.ok()?;
    let mut head = [0; 12];
    let read = tokio::io::AsyncReadExt::read_exact(&mut peer.stream, &mut head);
    // A server that is full closes at once; this is for a machine that is slow.
    tokio::time::timeout(PATIENCE, read).await.ok()?.ok()?;
    peer.head().await;
    Some(peer)
}

#[tokio::test]
async fn who_is_connected_does_not_notice_and_the_node_recovers() {
    let server = Server::start(DESCRIPTORS);
    let mut open = Vec::new();
    while let Some(peer) = upgrade(server.address).await {
        open.push(peer);
        assert!(open.len() < DESCRIPTORS as usize);
    }
    assert!(open.len() > DESCRIPTORS as usize / 2, "{}", open.len());

    let (ticks, begun) = (server.cpu_ticks(), Instant::now());
    let mut waiting = Vec::new();
    for _ in 0..100 {
        waiting.push(Peer::open(server.address).await);
    }
    let mut late = 0;
    while begun.elapsed() < Duration::from_secs(2) {
        let asked = Instant::now();
        open[0].send(&frame(0x81, b"still here")).await;
        assert_eq!(open[0].see_within(PATIENCE).await, Seen::Frame(0x81, b"still here".to_vec()));
        late += usize::from(asked.elapsed() > Duration::from_millis(500));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(late <= 1, "{late} answers took more than half a second: an accept that fails holds up others");
    let spent = server.cpu_ticks() - ticks;
    assert!(spent <= 40, "{spent} hundredths of a second of 200");

    waiting.clear();
    open.truncate(1);
    let begun = Instant::now();
    while upgrade(server.address).await.is_none() {
        assert!(begun.elapsed() < PATIENCE * 3, "it does not recover");
    }

    let mut peer = Peer::open(server.address).await;
    peer.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    peer.head().await;
    let text = peer.rest().await;
    let failed = text.lines().find_map(|line| line.strip_prefix("tidegate_accept_error_total")?.trim().parse().ok());
    assert!(failed.is_some_and(|failed: u64| (1..100).contains(&failed)), "{failed:?}");
}
