//! Closed while it reads nothing: what the socket had not begun on is not written any more, and the rest is whole frames to the last.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod rig;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rig::{Peer, Rig, Seen, eventually, frame, serve};
use tidegate::auth::Anonymous;
use tidegate::broker::Sequence;
use tidegate::message::Publish;
use tidegate::{
    Body, ChannelKind, ChannelName, ChannelRule, CloseCode, Config, ConnectionFilter, Gate, Grants, Pattern, RawMessage, SessionSettings,
};

/// What the kernel holds of what the server has written to this peer and it has not read, once it has been at rest for half a second: the
/// window of a peer that does not read still opens a little now and then, and the server writes more.
async fn in_kernel(peer: &Peer) -> usize {
    let ours = peer.stream.local_addr().unwrap();
    let server = peer.stream.peer_addr().unwrap();
    let (mut last, mut same) = ((0, 0), 0);
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let now = (queue(&table, server, ours, 0), queue(&table, ours, server, 1));
        same = if now == last { same + 1 } else { 0 };
        if same == 5 {
            return now.0 + now.1;
        }
        last = now;
    }
    panic!("never at rest: {last:?}");
}

/// The number of the socket's `tx_queue:rx_queue` in `/proc/net/tcp` (proc(5)).
fn queue(table: &str, local: SocketAddr, remote: SocketAddr, which: usize) -> usize {
    let hex = |address: SocketAddr| format!("0100007F:{:04X}", address.port());
    let row = table.lines().find(|line| line.contains(&format!(" {} {} ", hex(local), hex(remote)))).unwrap();
    let queues = row.split_whitespace().nth(4).unwrap();
    usize::from_str_radix(queues.split(':').nth(which).unwrap(), 16).unwrap()
}

fn only_connection(gate: &Gate) -> tidegate::ConnectionInfo {
    gate.connections(&ConnectionFilter { limit: 1, ..ConnectionFilter::default() }).connections.remove(0)
}

/// Closes and reads: whole frames, as many as the kernel held and the one that had begun, then the close frame.
async fn close_and_read(gate: &Gate, peer: &mut Peer, is_next: impl Fn(u64, &[u8]) -> bool) {
    let held = in_kernel(peer).await + peer.received();
    assert!(gate.close(only_connection(gate).id.parse().unwrap(), CloseCode::Revoked, None));
    let (mut count, mut bytes, mut longest) = (0, 0, 0);
    loop {
        match peer.see().await {
            Seen::Frame(0x88, payload) => {
                assert!(payload.starts_with(&4203u16.to_be_bytes()));
                break;
            }
            Seen::Frame(_, payload) => {
                assert!(is_next(count, &payload), "message {count}: {:?}", String::from_utf8_lossy(&payload));
                let length = payload.len() + if payload.len() < 126 { 2 } else { 4 };
                (count, bytes, longest) = (count + 1, bytes + length, longest.max(length));
            }
            seen => panic!("{seen:?} after {count} messages"),
        }
    }
    println!("{count} messages of up to {longest}: {bytes} bytes, held {held}");
    assert!(
        bytes <= held + longest,
        "{bytes} bytes came, of which {held} had left the server at the close; the longest frame has {longest}"
    );
    peer.send(&frame(0x88, &4203u16.to_be_bytes())).await;
    assert_eq!(peer.see().await, Seen::End);
}

#[tokio::test]
async fn of_a_fan_outs_batch() {
    let rule = Arc::new(ChannelRule::new(Pattern::new("**").unwrap(), ChannelKind::Event));
    let session = Arc::new(SessionSettings { channels: vec![rule], ..SessionSettings::default() });
    let grants = Grants { subscribe: vec![Pattern::new("**").unwrap()], ..Grants::default() };
    let gate = Gate::builder(Config { session, ..Config::default() }).authenticate(Anonymous::new(grants));
    let rig = Rig::start(gate.build().await.unwrap()).await;
    for size in [100, 2000, 3900] {
        let mut peer = Peer::open(rig.address).await;
        peer.send(rig::handshake("/ws", "").as_bytes()).await;
        assert!(peer.head().await.starts_with("HTTP/1.1 101"));
        peer.send(&frame(0x81, br#"{"type":"subscribe","id":1,"channel":"a"}"#)).await;
        loop {
            let Seen::Frame(0x81, payload) = peer.see().await else { panic!("no answer") };
            if payload.windows(6).any(|window| window == b"\"live\"") {
                break;
            }
        }
        let channel = ChannelName::new("a").unwrap();
        let sequence = Arc::new(Sequence::default());
        let mut number = 0;
        while only_connection(&rig.gate).outbox_bytes == 0 {
            let publishes = (number..number + 32).map(|number| Publish {
                channel: channel.clone(),
                message_id: None,
                key: None,
                body: Body::Data(format!("[{number},\"{}\"]", "x".repeat(size)).into()),
            });
            let (published, pace) = rig.gate.publisher().store_all(&sequence, publishes.collect()).await;
            pace.await;
            assert!(published.iter().all(Result::is_ok));
            number += 32;
        }
        let is_next = |number, payload: &[u8]| String::from_utf8_lossy(payload).contains(&format!("\"data\":[{number},"));
        close_and_read(&rig.gate, &mut peer, is_next).await;
        drop(peer);
        eventually("it is gone", || rig.gate.connection_count() == 0).await;
        assert_eq!(rig.metric("tidegate_outbound_bytes"), 0.0);
    }
}

/// Messages from which the driver gathers its writes: short ones, and long ones that are not copied next to their header.
#[tokio::test]
async fn of_a_drivers_write() {
    for size in [100, 1000, 3000] {
        let text = move |number: u64| format!("{number}:{}", "x".repeat(size));
        let (gate, mut peer) = serve(Config::default(), move |socket| async move {
            let mut number = 0;
            while socket.send(RawMessage::Text(text(number).into())).await.is_ok() {
                number += 1;
            }
        })
        .await;
        eventually("nothing moves any more", || only_connection(&gate).outbox_bytes > 0).await;
        close_and_read(&gate, &mut peer, |number, payload| payload == text(number).as_bytes()).await;
    }
}
