//! What an idle, subscribed connection costs a server process.

#![allow(clippy::unwrap_used, reason = "a test")]

mod rig;

use std::sync::Arc;
use std::time::Duration;

use rig::child::{Server, serve_until_orphaned};
use rig::{Peer, Rig, Seen, frame};
use tidegate::auth::Anonymous;
use tidegate::{AdmissionSettings, ChannelKind, ChannelRule, Config, Gate, Grants, Pattern, SessionSettings};

const CONNECTIONS: usize = 10_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "no test: a server that only the other test starts"]
async fn process_that_serves() {
    let pattern = Pattern::new("**").unwrap();
    let rule = ChannelRule::new(pattern.clone(), ChannelKind::Log);
    let session = SessionSettings { channels: vec![Arc::new(rule)], ..SessionSettings::default() };
    let admission = AdmissionSettings { per_address: CONNECTIONS * 2, ..AdmissionSettings::default() };
    let config = Config { session: Arc::new(session), admission, ..Config::default() };
    let grants = Grants { subscribe: vec![pattern], ..Grants::default() };
    let rig = Rig::start(Gate::builder(config).authenticate(Anonymous::new(grants)).build().await.unwrap()).await;
    serve_until_orphaned(rig.address).await;
}

async fn subscribe(server: &Server) -> Peer {
    let mut peer = Peer::open(server.address).await;
    peer.send(rig::handshake("/ws", "User-Agent: test/1\r\n").as_bytes()).await;
    assert!(peer.head().await.starts_with("HTTP/1.1 101"));
    peer.send(&frame(0x81, br#"{"type":"subscribe","id":1,"channel":"all"}"#)).await;
    for _ in ["welcome", "subscribed", "live"] {
        assert!(matches!(peer.see().await, Seen::Frame(0x81, _)));
    }
    peer
}

#[tokio::test]
#[ignore = "long: 30 s, 10,000 connections"]
async fn an_idle_subscribed_connection_costs_less_than_two_kibibytes() {
    let server = Server::start(20_000);
    let warm: Vec<_> = futures_util::future::join_all((0..50).map(|_| subscribe(&server))).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = server.resident_bytes();
    let mut peers = Vec::new();
    while peers.len() < CONNECTIONS {
        peers.extend(futures_util::future::join_all((0..50).map(|_| subscribe(&server))).await);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let each = (server.resident_bytes() - before) / CONNECTIONS as u64;
    println!("{each} bytes per idle subscribed connection");
    // It is 1,656; beyond this a part has grown: those of `docs/how-to/capacity.md` have tests of their own.
    assert!(each <= 1792, "{each} bytes each");
    drop((warm, peers));
}
