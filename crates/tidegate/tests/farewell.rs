//! The last words of a guarded socket: what came before a violation is answered, in time and in order, then the close frame comes.

#![allow(clippy::unwrap_used, reason = "a test")]

mod rig;

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rig::{Peer, Rig, Seen, eventually, frame, one_of_three, serve};
use tidegate::{CloseCode, Config, LimitSettings, RawMessage, RawSocket, SessionSettings};
use tidegate_ws::{Compressor, Decoder, Deflate, Event, OpCode, Role};

/// What each of them is answered with.
fn violations() -> [(&'static str, Vec<u8>, u16); 8] {
    [
        ("reserved bit", frame(0xd1, b"bad"), 1002),
        ("reserved opcode", frame(0x83, b"bad"), 1002),
        ("unmasked", vec![0x81, 3, b'b', b'a', b'd'], 1002),
        ("continuation of nothing", frame(0x80, b"bad"), 1002),
        ("length not minimal", [&[0x81, 0xfe, 0, 3][..], &[0; 4], b"bad"].concat(), 1002),
        ("close code that must not be sent", frame(0x88, &1005u16.to_be_bytes()), 1002),
        ("not UTF-8", frame(0x81, &[0xff]), 1007),
        ("too big", frame(0x82, &[0; 64 * 1024 + 1])[..14].to_vec(), 1009),
    ]
}

fn reserved_bit() -> Vec<u8> {
    frame(0xd1, b"bad")
}

fn text(data: &str) -> Seen {
    Seen::Frame(0x81, data.as_bytes().to_vec())
}

/// The close frame, and that nothing comes after it.
async fn expect_close(peer: &mut Peer, code: u16, what: &str) {
    match peer.see().await {
        Seen::Frame(0x88, payload) => assert_eq!(u16::from_be_bytes([payload[0], payload[1]]), code, "{what}"),
        seen => panic!("{what}: {seen:?}"),
    }
    assert_eq!(peer.see().await, Seen::End, "{what}: the end comes with the close frame");
}

/// How the bytes reach the server.
#[derive(Clone, Copy, Debug)]
enum Path {
    OneRead,
    TwoReads,
    ByteByByte,
}

async fn send(peer: &mut Peer, path: Path, before: &[u8], bad: &[u8]) {
    match path {
        Path::OneRead => peer.send(&[before, bad].concat()).await,
        Path::TwoReads => {
            peer.send(before).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
            peer.send(bad).await;
        }
        Path::ByteByByte => {
            for byte in [before, bad].concat() {
                // The server may have seen enough, and hung up, before the last of it.
                if tokio::io::AsyncWriteExt::write_all(&mut peer.stream, &[byte]).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
    }
}

#[tokio::test]
async fn messages_before_a_violation_are_answered_first() {
    let rig = Rig::echo(Config::default()).await;
    let before = [frame(0x81, b"one"), frame(0x01, b"tw"), frame(0x89, b"?"), frame(0x80, b"o"), frame(0x81, b"three")].concat();
    for path in [Path::OneRead, Path::TwoReads, Path::ByteByByte] {
        for (what, bad, code) in violations() {
            let what = format!("{what}, {path:?}");
            let mut peer = rig.connect().await;
            send(&mut peer, path, &before, &bad).await;
            let mut answers = Vec::new();
            while answers.len() < 3 {
                match peer.see().await {
                    Seen::Frame(0x8a, pong) => assert_eq!(pong, b"?", "{what}"),
                    seen => answers.push(seen),
                }
            }
            assert_eq!(answers, [text("one"), text("two"), text("three")], "{what}");
            expect_close(&mut peer, code, &what).await;
        }
    }
}

/// More than the application's inbox holds, and more than one read brings.
#[tokio::test]
async fn no_message_is_one_too_many() {
    let rig = Rig::echo(Config::default()).await;
    for (count, size) in [(17, 1), (500, 20), (60, 30_000)] {
        let (read, mut write) = rig.connect().await.stream.into_split();
        let bytes = [frame(0x81, "m".repeat(size).as_bytes()).repeat(count), reserved_bit()].concat();
        // Reads while it sends, or both would wait for each other.
        let sending = tokio::spawn(async move {
            tokio::io::AsyncWriteExt::write_all(&mut write, &bytes).await.unwrap();
            write
        });
        assert_eq!(read_all(read).await, (count, 1002), "{count} of {size} bytes");
        sending.await.unwrap();
    }
}

/// Counts messages up to the close frame and gives its code.
async fn read_all(mut read: tokio::net::tcp::OwnedReadHalf) -> (usize, u16) {
    let mut decoder = Decoder::new(Role::Client, 1 << 20);
    let mut buffer = vec![0; 64 * 1024];
    let mut messages = 0;
    loop {
        let count = tokio::time::timeout(Duration::from_secs(5), tokio::io::AsyncReadExt::read(&mut read, &mut buffer)).await;
        let count = count.unwrap().unwrap();
        assert!(count > 0, "a bare cut after {messages} messages");
        let mut rest = &buffer[..count];
        while let Some(event) = decoder.decode(&mut rest).unwrap() {
            match event {
                Event::Close(close) => return (messages, close.unwrap().code),
                Event::Text(_) => messages += 1,
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn an_application_may_take_a_moment() {
    let (_gate, mut peer) = serve(Config::default(), |socket| async move {
        while let Some(message) = socket.recv().await {
            tokio::time::sleep(Duration::from_millis(60)).await;
            let _ = socket.send(message).await;
        }
    })
    .await;
    peer.send(&[frame(0x81, b"one"), frame(0x81, b"two"), reserved_bit()].concat()).await;
    assert_eq!(peer.see().await, text("one"));
    assert_eq!(peer.see().await, text("two"));
    expect_close(&mut peer, 1002, "slow").await;
}

/// Half a second, whatever the application does; what it said in time is written.
#[tokio::test]
async fn an_application_that_never_answers_delays_the_close_a_little() {
    async fn forever(socket: RawSocket) {
        let _message = socket.recv().await;
        let _ = socket.send(RawMessage::Text("wait".into())).await;
        pending::<()>().await;
    }
    let (_gate, mut peer) = serve(Config::default(), forever).await;
    let begun = Instant::now();
    peer.send(&[frame(0x81, b"one"), frame(0x81, b"never taken"), reserved_bit()].concat()).await;
    assert_eq!(peer.see().await, text("wait"));
    expect_close(&mut peer, 1002, "no answer").await;
    assert!((450..4000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_application_that_never_takes_anything_delays_it_no_longer() {
    let (_gate, mut peer) = serve(Config::default(), |socket| async move {
        pending::<()>().await;
        drop(socket);
    })
    .await;
    let begun = Instant::now();
    peer.send(&[frame(0x81, b"one"), reserved_bit()].concat()).await;
    expect_close(&mut peer, 1002, "nothing taken").await;
    assert!((450..4000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
}

/// Runs it up to three times: it gives how long the close took. Who waits for the application does so for half a second each time, which
/// a machine that is busy at the moment does not.
async fn at_once(what: &str, run: impl AsyncFn() -> Duration) {
    let once = async || {
        let took = run().await;
        if took < Duration::from_millis(400) { Ok(()) } else { Err(took) }
    };
    one_of_three(&format!("{what}: late"), once).await;
}

/// With nothing to answer there is nothing to wait for, even if the application never asks for a message.
#[tokio::test]
async fn a_violation_without_a_message_before_it_is_closed_at_once() {
    at_once("nothing before", async || {
        let (_gate, mut peer) = serve(Config::default(), |socket| async move {
            pending::<()>().await;
            drop(socket);
        })
        .await;
        let begun = Instant::now();
        peer.send(&[frame(0x89, b"?"), reserved_bit()].concat()).await;
        assert_eq!(peer.see().await, Seen::Frame(0x8a, b"?".to_vec()));
        expect_close(&mut peer, 1002, "nothing before").await;
        begun.elapsed()
    })
    .await;
}

/// It waits for messages beside something else: dropping the wait loses nothing, and being asked for the next is the answer.
#[tokio::test]
async fn an_application_that_waits_for_two_things_is_understood() {
    at_once("two things", async || {
        let (_gate, mut peer) = serve(Config::default(), |socket| async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(5));
            loop {
                tokio::select! {
                    _ = ticks.tick() => {}
                    message = socket.recv() => match message {
                        Some(message) => drop(socket.send(message).await),
                        None => return,
                    },
                }
            }
        })
        .await;
        let begun = Instant::now();
        peer.send(&[frame(0x81, b"one"), frame(0x81, b"two"), reserved_bit()].concat()).await;
        assert_eq!(peer.see().await, text("one"));
        assert_eq!(peer.see().await, text("two"));
        expect_close(&mut peer, 1002, "two things").await;
        begun.elapsed()
    })
    .await;
}

/// It ends, panics or closes while the violation is held: its last words are written, the code is the violation's.
#[tokio::test]
async fn an_application_that_ends_has_answered() {
    type End = fn(RawSocket);
    let ends: [(&str, End); 3] = [
        ("returns", |_socket| {}),
        // Without the hook, which looks up the names of a backtrace.
        ("panics", |_socket| std::panic::resume_unwind(Box::new("as the test wants it"))),
        ("closes and goes on", |socket| {
            socket.close(CloseCode::Normal, "enough");
            tokio::spawn(async move {
                let _socket = socket;
                tokio::time::sleep(Duration::from_secs(5)).await;
            });
        }),
    ];
    for (what, end) in ends {
        at_once(what, async || {
            let (gate, mut peer) = serve(Config::default(), move |socket| async move {
                let _message = socket.recv().await;
                // The violation is there by now.
                tokio::time::sleep(Duration::from_millis(50)).await;
                let _ = socket.send(RawMessage::Text("last words".into())).await;
                end(socket);
            })
            .await;
            let begun = Instant::now();
            peer.send(&[frame(0x81, b"one"), frame(0x81, b"not taken"), reserved_bit()].concat()).await;
            assert_eq!(peer.see().await, text("last words"), "{what}");
            expect_close(&mut peer, 1002, what).await;
            let took = begun.elapsed();
            drop(peer);
            eventually(what, || gate.connection_count() == 0).await;
            took
        })
        .await;
    }
}

/// It ended before the violation came: its close is under way, and what it sent is not lost.
#[tokio::test]
async fn all_that_an_application_sent_is_written_before_its_end() {
    let (_gate, mut peer) = serve(Config::default(), |socket| async move {
        for number in 0..100 {
            let _ = socket.send(RawMessage::Text(number.to_string().into())).await;
        }
        socket.close(CloseCode::Normal, "that was all");
    })
    .await;
    for number in 0..100 {
        assert_eq!(peer.see().await, text(&number.to_string()));
    }
    assert_eq!(peer.see().await, Seen::close(1000, "that was all"));
}

/// The peer sends its violation, then more and more; it reads nothing until the end.
#[tokio::test]
async fn a_flood_behind_a_violation_changes_nothing() {
    let rig = Rig::echo(Config::default()).await;
    let mut peer = rig.connect().await;
    let flood = frame(0x82, &[0; 10_000]).repeat(50);
    peer.send(&[frame(0x81, b"one"), reserved_bit(), frame(0x81, b"ignored"), flood].concat()).await;
    assert_eq!(peer.see().await, text("one"));
    match peer.see().await {
        Seen::Frame(0x88, payload) => assert!(payload.starts_with(&1002u16.to_be_bytes())),
        seen => panic!("{seen:?}"),
    }
}

/// It ends its side right behind the violation, as a script does that pipes its bytes in.
#[tokio::test]
async fn a_peer_that_hangs_up_behind_its_violation_can_still_read() {
    let (gate, mut peer) = serve(Config::default(), |socket| async move {
        while let Some(message) = socket.recv().await {
            tokio::time::sleep(Duration::from_millis(30)).await;
            let _ = socket.send(message).await;
        }
    })
    .await;
    peer.send(&[frame(0x81, b"one"), reserved_bit()].concat()).await;
    tokio::io::AsyncWriteExt::shutdown(&mut peer.stream).await.unwrap();
    assert_eq!(peer.see().await, text("one"));
    expect_close(&mut peer, 1002, "hung up").await;
    eventually("it is gone", || gate.connection_count() == 0).await;
}

/// The answers do not fit into what the peer leaves room for: they are given up after half a second, and the connection with them.
#[tokio::test]
async fn a_peer_that_reads_nothing_holds_nothing() {
    let limits = LimitSettings { close: Duration::from_millis(600), ..LimitSettings::default() };
    let session = SessionSettings { limits, ..SessionSettings::default() };
    let (gate, mut peer) = serve(Config { session: Arc::new(session), ..Config::default() }, |socket| async move {
        while socket.recv().await.is_some() {
            while socket.send(RawMessage::Binary(vec![0; 64 * 1024].into())).await.is_ok() {}
        }
    })
    .await;
    peer.send(&[frame(0x81, b"more"), reserved_bit()].concat()).await;
    let begun = Instant::now();
    eventually("it is gone", || gate.connection_count() == 0).await;
    assert!(begun.elapsed() < Duration::from_millis(4500), "{:?}", begun.elapsed());
    assert!(gate.metrics().encode().contains("tidegate_outbound_bytes 0"));
}

#[tokio::test]
async fn compressed_messages_before_a_violation_are_answered_too() {
    let agreed = Deflate {
        server_no_context_takeover: true,
        client_no_context_takeover: true,
        server_max_window_bits: 15,
        client_max_window_bits: 15,
    };
    let message = "a text that shrinks, ".repeat(100);
    let small = Compressor::new(15).compress(message.as_bytes()).unwrap();
    let rig = Rig::echo(Config { compression: true, ..Config::default() }).await;
    for (what, bad, code) in [
        ("a block that breaks off", frame(0xc1, &small[..small.len() / 2]), 1007),
        ("a reserved block type", frame(0xc1, &[0xff]), 1007),
        ("a reserved bit", frame(0xa1, b"bad"), 1002),
        ("a compressed control frame", frame(0xc9, b"bad"), 1002),
    ] {
        for path in [Path::OneRead, Path::TwoReads, Path::ByteByByte] {
            let mut peer = Peer::open(rig.address).await;
            peer.send(rig::handshake("/", "Sec-WebSocket-Extensions: permessage-deflate\r\n").as_bytes()).await;
            assert!(peer.head().await.contains("permessage-deflate"));
            send(&mut peer, path, &[frame(0xc1, &small), frame(0x81, b"plain")].concat(), &bad).await;
            let Seen::Frame(0xc1, payload) = peer.see().await else { panic!("{what}: no compressed answer") };
            let mut decoder = Decoder::new(Role::Client, 1 << 20);
            decoder.enable_deflate(agreed);
            let bytes = [&tidegate_ws::header_compressed(OpCode::Text, payload.len())[..], &payload].concat();
            assert_eq!(decoder.decode(&mut &bytes[..]), Ok(Some(Event::Text(message.clone().into()))), "{what}");
            assert_eq!(peer.see().await, text("plain"), "{what}");
            expect_close(&mut peer, code, &format!("{what}, {path:?}")).await;
        }
    }
}
