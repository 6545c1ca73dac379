//! Proof of life in virtual time.

use tidegate_core::HeartbeatSettings;
use tidegate_core::message::{ClientMessage, ServerMessage};
use tidegate_core::session::{Ending, Input, Mode, Notice, Output, Transmit};

use crate::bench::{Bench, at, identity, name, publication, secs, settings};

fn pings(written: &[Transmit]) -> usize {
    written.iter().filter(|transmit| matches!(transmit, Transmit::Ping(_))).count()
}

#[test]
fn a_quiet_peer_is_pinged_each_interval_give_or_take_a_tenth() {
    let mut bench = Bench::raw(settings());
    let begun = bench.now;
    let mut moments = vec![begun];
    while moments.len() < 200 {
        bench.now = bench.session.poll_timeout().unwrap();
        bench.handle(Input::Timeout);
        let written = bench.write();
        if pings(&written) > 0 {
            moments.push(bench.now);
            bench.handle(Input::Frames { count: 1, assembling: false });
            bench.handle(Input::PeerPong);
        }
    }
    let intervals: Vec<u64> = moments.windows(2).map(|pair| pair[1].since(pair[0]).as_millis() as u64).collect();
    assert!(intervals.iter().all(|interval| (22_500..=27_500).contains(interval)), "{intervals:?}");
    assert!(intervals.iter().max().unwrap() - intervals.iter().min().unwrap() > 3000, "jitter over the whole range");
}

#[test]
fn idle_sessions_wake_together_and_once_a_ping() {
    let mut bench = Bench::raw(settings());
    let (mut wakes, mut moments) = (0, Vec::new());
    while moments.len() < 100 {
        bench.now = bench.session.poll_timeout().unwrap();
        bench.handle(Input::Timeout);
        wakes += 1;
        if pings(&bench.write()) > 0 {
            moments.push(bench.now);
            // The socket took it, and the answer came, each a little later.
            bench.pass_ms(1);
            bench.handle(Input::Wrote(6));
            bench.pass_ms(2);
            bench.handle(Input::Frames { count: 1, assembling: false });
            bench.handle(Input::PeerPong);
        }
    }
    assert!(moments.iter().all(|moment| moment.as_ms().is_multiple_of(250)), "{moments:?}");
    assert_eq!(wakes, 100, "the dead timer wakes nobody while pings are answered");
}

/// Whatever the intervals: an application ping comes at least as often as it was promised, and has time to be answered.
#[test]
fn application_pings_share_the_write_of_a_ping() {
    for (ping, app_ping, alone) in [(25, 60, 0), (25, 30, 10), (10, 60, 0), (55, 60, 1000), (60, 25, 1000)] {
        let heartbeat = HeartbeatSettings { ping: secs(ping), app_ping: Some(secs(app_ping)), ..HeartbeatSettings::default() };
        let mut bench = Bench::new(tidegate_core::SessionSettings { heartbeat, ..settings() });
        bench.write();
        let (mut last, mut by_themselves) = (bench.now, 0);
        for _ in 0..1000 {
            bench.now = bench.session.poll_timeout().unwrap();
            bench.handle(Input::Timeout);
            let written = bench.write();
            if written.contains(&Transmit::Message(Box::new(ServerMessage::Ping))) {
                let span = bench.now.since(last);
                assert!((secs(app_ping) / 2..=secs(app_ping)).contains(&span), "{ping} s and {app_ping} s: {span:?}");
                last = bench.now;
                by_themselves += usize::from(pings(&written) == 0);
                bench.handle(Input::Message(ClientMessage::Pong));
            }
            assert!(bench.now.since(last) <= secs(app_ping), "{ping} s and {app_ping} s: late");
            bench.handle(Input::Wrote(6));
            bench.handle(Input::Frames { count: 1, assembling: false });
            bench.handle(Input::PeerPong);
            assert_eq!(bench.notices(), [], "{ping} s and {app_ping} s");
        }
        assert!(by_themselves <= alone, "{ping} s and {app_ping} s: {by_themselves} alone");
    }
}

#[test]
fn a_ping_is_skipped_only_where_both_sides_were_heard() {
    for (heard, sent, skipped) in [(true, true, true), (true, false, false), (false, true, false)] {
        let mut bench = Bench::new(settings());
        let subscription = bench.join("log:a", Some(0));
        bench.write();
        let begun = bench.now;
        let mut offset = 0;
        let mut seen = 0;
        for _ in 0..55 {
            bench.pass_ms(500);
            if heard {
                bench.handle(Input::Frames { count: 1, assembling: false });
            }
            if sent {
                offset += 1;
                let _ = bench.deliver(subscription, &publication("log:a", Some(at(offset)), None, offset, 1));
            }
            seen += pings(&bench.write());
        }
        assert_eq!(bench.now.since(begun), secs(27) + secs(1) / 2);
        assert_eq!(seen == 0, skipped, "heard {heard}, sent {sent}");
    }
}

#[test]
fn a_skipped_ping_comes_an_interval_after_the_last_traffic() {
    let mut bench = Bench::new(settings());
    bench.write();
    bench.pass(secs(20));
    bench.handle(Input::Frames { count: 1, assembling: false });
    bench.handle(Input::Wrote(1));
    let quiet = bench.now;
    while pings(&bench.write()) == 0 {
        bench.now = bench.session.poll_timeout().unwrap();
        bench.handle(Input::Timeout);
    }
    let after = bench.now.since(quiet).as_millis();
    assert!((22_500..=27_500).contains(&after), "{after}");
}

#[test]
fn a_process_that_was_frozen_asks_before_it_judges() {
    for answers in [true, false] {
        let mut bench = Bench::new(settings());
        bench.write();
        bench.outputs();
        // One jump: no timer was looked at meanwhile, and so no ping was sent.
        bench.now = bench.now + secs(600);
        bench.handle(Input::Timeout);
        assert_eq!(pings(&bench.write()), 1);
        assert_eq!(bench.closing(), None);
        if answers {
            bench.handle(Input::Frames { count: 1, assembling: false });
            bench.handle(Input::PeerPong);
        }
        for _ in 0..30 {
            bench.pass(secs(1));
            bench.write();
        }
        assert_eq!(bench.closing().is_none(), answers);
    }
}

#[test]
fn a_silent_peer_is_closed_once_then_cut() {
    let mut bench = Bench::new(settings());
    bench.write();
    bench.outputs();
    for _ in 0..2 {
        bench.pass_ms(30_000);
        bench.write();
    }
    bench.pass_ms(2499);
    assert_eq!(bench.closing(), None, "half an interval is left for the last pong");
    bench.pass_ms(1);
    match &bench.notices()[..] {
        [Notice::Closing { code, last_sent_ago: Some(_), last_received_ago, pings_unanswered: 2 }] => {
            assert_eq!(code.number(), 4104);
            assert_eq!(*last_received_ago, secs(62) + secs(1) / 2);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.close_frame(), Some((4104, "heartbeat_timeout".into())));
    bench.pass(secs(5));
    assert!(matches!(&bench.outputs()[..], [Output::Terminate(Ending::Unanswered(code))] if code.number() == 4104));
    assert_eq!(bench.session.poll_timeout(), None);
}

#[test]
fn any_frame_is_life() {
    let mut bench = Bench::new(settings());
    for _ in 0..100 {
        bench.pass(secs(60));
        bench.handle(Input::Frames { count: 1, assembling: false });
        bench.write();
    }
    assert_eq!(bench.closing(), None);
}

#[test]
fn silence_does_not_count_while_we_do_not_read() {
    let mut bench = Bench::new(settings());
    bench.write();
    for id in 0..32 {
        bench.says(ClientMessage::Request { id, method: "slow".into(), data: "1".into() });
    }
    assert!(!bench.session.wants_read());
    bench.outputs();
    for _ in 0..20 {
        bench.pass(secs(30));
        bench.write();
    }
    assert_eq!(bench.closing(), None, "the peer's frames lie in the kernel, unread");
    for id in 0..32 {
        bench.handle(Input::Responded(id, Ok("1".into())));
    }
    bench.write();
    assert!(bench.session.wants_read());
    bench.pass_ms(62_499);
    bench.write();
    assert_eq!(bench.closing(), None, "from now on it has the whole time again");
    bench.pass_ms(1);
    assert_eq!(bench.closing().map(|code| code.number()), Some(4104));
}

#[test]
fn a_reader_that_takes_longer_than_the_dead_time_to_get_to_a_ping_is_alive() {
    let mut bench = Bench::new(settings());
    bench.write();
    for _ in 0..20 {
        bench.handle(Input::Blocked);
        bench.pass(secs(20));
        bench.take();
        bench.handle(Input::Wrote(1000));
    }
    assert_eq!(bench.closing(), None);
}

#[test]
fn an_unanswered_application_ping_is_told_and_not_fatal() {
    let mut bench = Bench::new(settings());
    let mut told = 0;
    for _ in 0..10 {
        bench.now = bench.session.poll_timeout().unwrap();
        bench.handle(Input::Timeout);
        if bench.write().iter().any(|transmit| matches!(transmit, Transmit::Ping(_))) {
            bench.handle(Input::Frames { count: 1, assembling: false });
            bench.handle(Input::PeerPong);
        }
        told += bench.notices().iter().filter(|notice| **notice == Notice::AppPingUnanswered).count();
    }
    bench.pass(secs(1));
    assert!(told >= 1);
}

#[test]
fn a_path_that_eats_control_frames_is_told_once_and_kept() {
    let mut bench = Bench::new(settings());
    let mut told = 0;
    for _ in 0..1000 {
        bench.now = bench.session.poll_timeout().unwrap();
        bench.handle(Input::Timeout);
        // Protocol pings vanish; application pings come through.
        if bench.messages().contains(&ServerMessage::Ping) {
            bench.handle(Input::Frames { count: 1, assembling: false });
            bench.handle(Input::Message(ClientMessage::Pong));
        }
        for notice in bench.notices() {
            assert!(!matches!(notice, Notice::Closing { .. }), "{notice:?}");
            told += usize::from(notice == Notice::ControlFramesEaten);
        }
    }
    assert_eq!(told, 1);
}

#[test]
fn raw_sessions_have_no_application_pings() {
    let mut bench = Bench::raw(settings());
    bench.pass_answering(secs(600));
    for _ in 0..100 {
        bench.pass_answering(secs(10));
        assert_eq!(bench.messages(), []);
    }
    assert_eq!(bench.closing(), None);
}

#[test]
fn every_ping_is_answered_with_its_n() {
    let mut bench = Bench::new(settings());
    bench.write();
    bench.says(ClientMessage::Ping { n: None });
    bench.says(ClientMessage::Ping { n: Some("7".into()) });
    assert_eq!(bench.messages(), [ServerMessage::Pong { n: None }, ServerMessage::Pong { n: Some("7".into()) }]);
    for n in 0..20 {
        bench.says(ClientMessage::Ping { n: Some(n.to_string().into()) });
    }
    let pongs: Vec<_> = (12..20).map(|n: i32| ServerMessage::Pong { n: Some(n.to_string().into()) }).collect();
    assert_eq!(bench.messages(), pongs, "of those that come faster than they are read, the last eight");
}

#[test]
fn only_the_newest_protocol_ping_is_answered() {
    let mut bench = Bench::new(settings());
    bench.write();
    for payload in ["a", "b", "c"] {
        bench.handle(Input::PeerPing(payload.into()));
    }
    assert_eq!(bench.write(), [Transmit::Pong("c".into())]);
}

#[test]
fn the_idle_stop_counts_messages_not_pings() {
    let heartbeat = HeartbeatSettings { idle: Some(secs(300)), ..HeartbeatSettings::default() };
    let mut bench = Bench::new(tidegate_core::SessionSettings { heartbeat, ..settings() });
    let subscription = bench.join("log:a", Some(0));
    bench.pass_answering(secs(299));
    let _ = bench.deliver(subscription, &publication("log:a", Some(at(1)), None, 1, 1));
    bench.write();
    bench.pass_answering(secs(299));
    bench.says(ClientMessage::Unsubscribe { id: 1, channel: name("log:a") });
    bench.write();
    bench.outputs();
    bench.pass_answering(secs(299));
    assert_eq!(bench.closing(), None);
    bench.pass(secs(1));
    assert_eq!(bench.closing().map(|code| code.number()), Some(1000));
    assert_eq!(bench.close_frame(), Some((1000, "idle hard stop".into())));
}

#[test]
fn the_idle_stop_of_raw_sessions_counts_both_ways() {
    let heartbeat = HeartbeatSettings { idle: Some(secs(100)), ..HeartbeatSettings::default() };
    let mut bench = Bench::open(Mode::Raw, tidegate_core::SessionSettings { heartbeat, ..settings() }, Some(identity()));
    bench.pass_answering(secs(99));
    bench.handle(Input::RawReceived);
    bench.pass_answering(secs(99));
    bench.handle(Input::RawSend { text: true, data: "x".into() });
    bench.write();
    bench.pass_answering(secs(99));
    assert_eq!(bench.closing(), None);
    bench.pass_answering(secs(1));
    assert_eq!(bench.closing().map(|code| code.number()), Some(1000));
}
