//! A team's own messages over a guarded socket: room, stall, heartbeat, idle stop, drain, and what the application sees of each.

#![allow(clippy::unwrap_used, reason = "a test")]

mod rig;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rig::{Peer, Rig, Seen, eventually, frame, one_of_three, serve};
use tidegate::{CloseCode, Config, DrainSettings, HeartbeatSettings, OutboxSettings, RawMessage, SessionSettings};

fn config(change: impl FnOnce(&mut SessionSettings)) -> Config {
    let mut session = SessionSettings::default();
    change(&mut session);
    Config { session: Arc::new(session), ..Config::default() }
}

#[tokio::test]
async fn messages_come_back_whole_and_in_order() {
    let rig = Rig::echo(Config::default()).await;
    let mut peer = rig.connect().await;
    let messages: Vec<Vec<u8>> = [0, 1, 125, 126, 1024, 1025, 65535, 65536].iter().map(|&size| vec![b'x'; size]).collect();
    for message in &messages {
        let (start, end) = message.split_at(message.len() / 2);
        peer.send(&[frame(0x01, start), frame(0x89, b"between"), frame(0x80, end)].concat()).await;
    }
    let mut echoed = Vec::new();
    while echoed.len() < messages.len() {
        match peer.see().await {
            Seen::Frame(0x81, payload) => echoed.push(payload),
            Seen::Frame(0x8a, payload) => assert_eq!(payload, b"between"),
            seen => panic!("{seen:?}"),
        }
    }
    assert_eq!(echoed, messages);
}

#[tokio::test]
async fn the_end_of_the_application_is_the_end_of_the_connection() {
    let (gate, mut peer) = serve(Config::default(), |socket| async move {
        let _ = socket.send(RawMessage::Text("bye".into())).await;
    })
    .await;
    assert_eq!(peer.see().await, Seen::Frame(0x81, b"bye".to_vec()));
    assert_eq!(peer.see().await, Seen::close(1000, "normal"));
    peer.send(&frame(0x88, &1000u16.to_be_bytes())).await;
    assert_eq!(peer.see().await, Seen::End);
    eventually("it is gone", || gate.connection_count() == 0).await;
}

#[tokio::test]
async fn a_panic_takes_only_its_own_connection() {
    let (gate, mut first) = serve(Config::default(), |socket| async move {
        let message = socket.recv().await;
        assert_ne!(message, Some(RawMessage::Text("die".into())), "as the test wants it");
        let _ = socket.send(RawMessage::Text("alive".into())).await;
        std::future::pending::<()>().await;
    })
    .await;
    let address = first.stream.peer_addr().unwrap();
    let mut second = Peer::open(address).await;
    second.send(rig::handshake("/", "").as_bytes()).await;
    second.head().await;
    first.send(&frame(0x81, b"die")).await;
    assert_eq!(first.see().await, Seen::close(4100, "internal"));
    second.send(&frame(0x81, b"live")).await;
    assert_eq!(second.see().await, Seen::Frame(0x81, b"alive".to_vec()));
    assert!(gate.metrics().encode().contains("tidegate_panic_total 1"));
}

#[tokio::test]
async fn the_application_sees_the_end() {
    let (told, mut ends) = tokio::sync::mpsc::channel(1);
    let (_gate, mut peer) = serve(Config::default(), move |socket| {
        let told = told.clone();
        async move {
            let mut received = 0;
            while socket.recv().await.is_some() {
                received += 1;
            }
            let sent = socket.send(RawMessage::Text("late".into())).await;
            let _ = told.send((received, sent)).await;
        }
    })
    .await;
    peer.send(&[frame(0x81, b"1"), frame(0x81, b"2"), frame(0x88, &1000u16.to_be_bytes())].concat()).await;
    let (received, sent) = ends.recv().await.unwrap();
    assert_eq!((received, sent), (2, Err(tidegate::Closed)));
}

/// The peer reads nothing: 320 KiB wait in the outbox (the rest is for what arrives), the application waits for room, and at the stall deadline it is over.
#[tokio::test]
async fn a_peer_that_stops_reading_is_cut_and_held_the_sender_up_until_then() {
    let outbox = OutboxSettings { stall: Duration::from_millis(800), ..OutboxSettings::default() };
    let limits = tidegate::LimitSettings { close: Duration::from_millis(300), ..tidegate::LimitSettings::default() };
    let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let config = config(|session| (session.outbox, session.limits) = (outbox, limits));
    let (gate, mut peer) = serve(config, move |socket| {
        let sent = Arc::clone(&counted);
        async move {
            while socket.send(RawMessage::Binary(vec![0; 16 * 1024].into())).await.is_ok() {
                sent.fetch_add(16 * 1024, std::sync::atomic::Ordering::Relaxed);
            }
        }
    })
    .await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    let waiting = sent.load(std::sync::atomic::Ordering::Relaxed);
    // The outbox, a write under way, and what sender and receiver keep in the kernel: no more than that was taken.
    assert!((320 * 1024..2 * 1024 * 1024).contains(&waiting), "{waiting}");
    let begun = Instant::now();
    eventually("it is cut", || gate.connection_count() == 0).await;
    assert!(begun.elapsed() < Duration::from_millis(4500), "{:?}", begun.elapsed());
    let text = gate.metrics().encode();
    assert!(text.contains("tidegate_connection_close_total{code=\"client too slow\"} 1"), "{text}");
    assert!(text.contains("tidegate_connection_close_unanswered_total 1"), "{text}");
    assert!(text.contains("tidegate_outbound_bytes 0"), "{text}");
    // The close frame could not get past what the peer did not read, but whole frames came before the end.
    while let Seen::Frame(first, payload) = peer.see().await {
        assert!((first, payload.len()) == (0x82, 16 * 1024) || payload.starts_with(&1008u16.to_be_bytes()));
    }
}

/// Its close frame comes behind the rest of a write that was stuck, and before the end.
#[tokio::test]
async fn a_violation_of_who_does_not_read_still_gets_its_close_frame() {
    let (_gate, mut peer) =
        serve(Config::default(), |socket| async move { while socket.send(RawMessage::Binary(vec![0; 16 * 1024].into())).await.is_ok() {} })
            .await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    peer.send(&[0x81, 2, b'h', b'i']).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    loop {
        match peer.see().await {
            Seen::Frame(0x82, payload) => assert_eq!(payload.len(), 16 * 1024),
            Seen::Frame(0x88, payload) => return assert_eq!(payload[..2], 1002u16.to_be_bytes()),
            seen => panic!("{seen:?}"),
        }
    }
}

/// A slow reader is served as long as it takes anything.
#[tokio::test]
async fn a_slow_reader_is_not_cut() {
    let outbox = OutboxSettings { stall: Duration::from_millis(500), ..OutboxSettings::default() };
    let (gate, mut peer) = serve(config(|session| session.outbox = outbox), |socket| async move {
        for _ in 0..200 {
            if socket.send(RawMessage::Binary(vec![0; 16 * 1024].into())).await.is_err() {
                return;
            }
        }
        std::future::pending::<()>().await;
    })
    .await;
    let mut buffer = vec![0; 64 * 1024];
    for _ in 0..25 {
        tokio::time::sleep(Duration::from_millis(80)).await;
        tokio::io::AsyncReadExt::read(&mut peer.stream, &mut buffer).await.unwrap();
    }
    assert_eq!(gate.connection_count(), 1);
}

#[tokio::test]
async fn a_silent_peer_is_closed_and_freed() {
    let heartbeat = HeartbeatSettings { ping: Duration::from_millis(100), ..HeartbeatSettings::default() };
    let limits = tidegate::LimitSettings { close: Duration::from_millis(200), ..tidegate::LimitSettings::default() };
    let rig = Rig::echo(config(|session| (session.heartbeat, session.limits) = (heartbeat, limits))).await;
    let mut peer = rig.connect().await;
    let begun = Instant::now();
    let mut pings = 0;
    loop {
        match peer.see().await {
            Seen::Frame(0x89, _) => pings += 1,
            seen => {
                assert_eq!(seen, Seen::close(4104, "heartbeat_timeout"));
                break;
            }
        }
    }
    assert!(pings >= 2 && (200..4000).contains(&begun.elapsed().as_millis()), "{pings} in {:?}", begun.elapsed());
    assert_eq!(peer.see().await, Seen::End);
    eventually("it is freed", || rig.gate.connection_count() == 0).await;
    assert_eq!(rig.metric("tidegate_heartbeat_timeout_close_total"), 1.0);
}

#[tokio::test]
async fn a_peer_that_answers_pings_is_kept() {
    let heartbeat = HeartbeatSettings { ping: Duration::from_millis(200), ..HeartbeatSettings::default() };
    let rig = Rig::echo(config(|session| session.heartbeat = heartbeat)).await;
    let mut peer = rig.connect().await;
    for _ in 0..8 {
        let Seen::Frame(0x89, payload) = peer.see().await else { panic!("not a ping") };
        peer.send(&frame(0x8a, &payload)).await;
    }
}

/// The application is slower than the dead time; the peer's silence is not the peer's fault then.
#[tokio::test]
async fn an_application_that_takes_its_time_does_not_kill_its_peer() {
    let heartbeat = HeartbeatSettings { ping: Duration::from_millis(60), ..HeartbeatSettings::default() };
    let (gate, mut peer) = serve(config(|session| session.heartbeat = heartbeat), |socket| async move {
        loop {
            tokio::time::sleep(Duration::from_millis(400)).await;
            match socket.recv().await {
                Some(message) => assert_eq!(message.data().len(), 60_000),
                None => return,
            }
        }
    })
    .await;
    let mut message = vec![0x82, 0xfe];
    message.extend(60_000u16.to_be_bytes());
    message.extend([0; 4]);
    message.extend(vec![0; 60_000]);
    for _ in 0..4 {
        peer.send(&message).await;
    }
    let deadline = Instant::now() + Duration::from_millis(1200);
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        match peer.see_within(left).await {
            Seen::Frame(0x89, payload) => peer.send(&frame(0x8a, &payload)).await,
            Seen::Nothing => break,
            seen => panic!("{seen:?}"),
        }
    }
    assert_eq!(gate.connection_count(), 1);
}

#[tokio::test]
async fn an_idle_socket_is_stopped() {
    let heartbeat = HeartbeatSettings { idle: Some(Duration::from_millis(200)), ..HeartbeatSettings::default() };
    let rig = Rig::echo(config(|session| session.heartbeat = heartbeat)).await;
    let mut peer = rig.connect().await;
    assert_eq!(peer.see().await, Seen::close(1000, "idle hard stop"));
}

#[tokio::test]
async fn an_operator_closes_a_connection() {
    let rig = Rig::echo(Config::default()).await;
    let mut peer = rig.connect().await;
    eventually("it is listed", || rig.gate.connection_count() == 1).await;
    let page = rig.gate.connections(&tidegate::ConnectionFilter { limit: 10, ..Default::default() });
    let id = page.connections[0].id.parse().unwrap();
    assert!(rig.gate.close(id, CloseCode::Forbidden, Some("by hand")));
    assert_eq!(peer.see().await, Seen::close(4403, "by hand"));
    peer.send(&frame(0x88, &4403u16.to_be_bytes())).await;
    eventually("it is gone", || !rig.gate.close(id, CloseCode::Forbidden, None)).await;
}

/// 150 connections, one of which answers nothing: their closes are spread over the window, and only that one is cut.
#[tokio::test]
async fn a_drain_spreads_its_closes_and_waits_for_nobody_in_particular() {
    // A machine that stands still for a moment bunches what it should have done meanwhile: not three times in a row.
    one_of_three("they come in clumps", spread_of_a_drain).await;
}

/// One drain; what a busy machine may be the reason of is an error, all else fails.
async fn spread_of_a_drain() -> Result<(), String> {
    let drain = DrainSettings {
        announce: Duration::from_secs(2),
        window: Duration::from_millis(1000),
        grace: Duration::from_millis(200),
        deadline: Duration::from_secs(5),
    };
    let mut config = config(|session| session.limits.close = Duration::from_secs(30));
    config.drain = drain;
    let rig = Rig::echo(config).await;
    let deaf = rig.connect().await;
    let mut closes = Vec::new();
    for _ in 0..149 {
        let mut peer = rig.connect().await;
        closes.push(tokio::spawn(async move {
            assert_eq!(peer.see_within(Duration::from_secs(20)).await, Seen::close(1001, "server draining"));
            peer.send(&frame(0x88, &1001u16.to_be_bytes())).await;
            assert_eq!(peer.see().await, Seen::End);
            Instant::now()
        }));
    }
    let begun = Instant::now();
    let drained = tokio::spawn({
        let gate = rig.gate.clone();
        async move { gate.drain_on(std::future::ready(())).await }
    });
    eventually("it is announced", || rig.gate.phase() == tidegate::Phase::Announced).await;
    drop(rig.connect().await);
    eventually("it is leaving", || rig.gate.phase() == tidegate::Phase::Leaving).await;
    let mut late = Peer::open(rig.address).await;
    late.send(rig::handshake("/", "").as_bytes()).await;
    let head = late.head().await;
    assert!(head.starts_with("HTTP/1.1 503") && head.contains("retry-after: 2"), "{head}");
    let mut at = Vec::new();
    for close in closes {
        at.push((close.await.unwrap() - begun).as_millis());
    }
    assert!(at.iter().all(|at| *at >= drain.announce.as_millis()), "before the load balancers know: {at:?}");
    let drained = drained.await.unwrap();
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(4900), "{took:?}");
    assert_eq!(drained.cut, 1);
    assert_eq!(rig.gate.connection_count(), 0);
    drop(deaf);
    if took >= Duration::from_secs(6) {
        return Err(format!("ended after {took:?}"));
    }
    let in_tenth = |tenth| at.iter().filter(|at| (**at - drain.announce.as_millis()) / 100 == tenth).count();
    // Also behind the window of ten.
    match (0..30).find(|tenth| in_tenth(*tenth) > 15 * 2) {
        Some(tenth) => Err(format!("{} in tenth {tenth}: {at:?}", in_tenth(tenth))),
        None => Ok(()),
    }
}

#[tokio::test]
async fn a_second_signal_ends_a_drain() {
    let rig = Rig::echo(Config::default()).await;
    let _peer = rig.connect().await;
    eventually("it is open", || rig.gate.connection_count() == 1).await;
    let drained = tokio::spawn({
        let gate = rig.gate.clone();
        async move { gate.drain_on(std::future::ready(())).await }
    });
    eventually("it is announced", || rig.gate.phase() == tidegate::Phase::Announced).await;
    rig.gate.hurry();
    assert_eq!(drained.await.unwrap().cut, 1);
}

/// A handshake that offers compression, and the answer's extensions.
async fn offer_deflate(rig: &Rig, path: &str) -> (Peer, Option<String>) {
    let mut peer = Peer::open(rig.address).await;
    peer.send(rig::handshake(path, "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n").as_bytes()).await;
    let head = peer.head().await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let extensions = head.lines().find_map(|line| line.strip_prefix("sec-websocket-extensions: ")).map(Into::into);
    (peer, extensions)
}

#[tokio::test]
async fn compression_is_off_unless_configured() {
    let rig = Rig::echo(Config::default()).await;
    let (mut peer, extensions) = offer_deflate(&rig, "/").await;
    assert_eq!(extensions, None);
    peer.send(&frame(0xc1, b"x")).await;
    assert!(matches!(peer.see().await, Seen::Frame(0x88, payload) if payload.starts_with(&1002u16.to_be_bytes())));
}

#[tokio::test]
async fn compressed_messages_come_back_compressed_and_a_bomb_is_refused() {
    let rig = Rig::echo(Config { compression: true, ..Config::default() }).await;
    let (mut peer, extensions) = offer_deflate(&rig, "/").await;
    let agreed = tidegate_ws::check_answer(&extensions.unwrap()).unwrap();
    assert!(agreed.server_no_context_takeover);
    let mut compressor = tidegate_ws::Compressor::new(15);
    let mut decoder = tidegate_ws::Decoder::new(tidegate_ws::Role::Client, 1 << 20);
    decoder.enable_deflate(agreed);
    for message in [vec![b'a'; 10_000], b"short".to_vec()] {
        let (first, payload) = compressor.compress(&message).map_or((0x81, message.clone()), |payload| (0xc1, payload));
        peer.send(&frame(first, &payload)).await;
        let Seen::Frame(first, payload) = peer.see().await else { panic!("no answer") };
        assert_eq!(first == 0xc1, message.len() > 128);
        assert!(payload.len() < message.len() / 10 || first == 0x81);
        let mut whole = tidegate_ws::header(tidegate_ws::OpCode::Text, payload.len()).to_vec();
        whole[0] = first;
        whole.extend(payload);
        assert_eq!(decoder.decode(&mut &whole[..]), Ok(Some(tidegate_ws::Event::Text(message.into()))));
    }
    let bomb = compressor.compress(&vec![0; 5 << 20]).unwrap();
    assert!(bomb.len() < 64 * 1024, "small enough to be let in by its header: {}", bomb.len());
    peer.send(&frame(0xc2, &bomb)).await;
    assert!(matches!(peer.see().await, Seen::Frame(0x88, payload) if payload.starts_with(&1009u16.to_be_bytes())));
}
