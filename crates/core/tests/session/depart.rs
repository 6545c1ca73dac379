//! Drain, rebalance and maximum age.

use std::time::Duration;

use tidegate_core::message::{ClientMessage, DepartReason, ServerMessage};
use tidegate_core::session::{Ending, Input, Mode, Output, Push, Transmit};
use tidegate_core::{ConnectionId, HeartbeatSettings, Moment, SessionSettings};

use crate::bench::{Bench, at, identity, name, publication, secs, settings};

fn order(reason: DepartReason, at: Moment, grace: Duration) -> Input {
    Input::Depart { reason, at, grace, retry_ms: 2500 }
}

fn going_away(reason: DepartReason, deadline_ms: u64) -> ServerMessage {
    ServerMessage::GoingAway { reason, reconnect_after_ms: 0, deadline_ms, handover: None }
}

#[test]
fn at_its_slot_it_is_told_and_served_on_until_the_grace_is_over() {
    for (reason, code, name) in [(DepartReason::Drain, 4000, "draining"), (DepartReason::Rebalance, 4001, "rebalance")] {
        let mut bench = Bench::new(settings());
        let subscription = bench.join("log:a", Some(0));
        bench.handle(order(reason, bench.now + secs(3), secs(10)));
        bench.pass_ms(2999);
        assert_eq!(bench.messages(), []);
        bench.pass_ms(1);
        assert_eq!(bench.messages(), [going_away(reason, 10_000)]);
        bench.pass_ms(9999);
        assert_eq!(bench.deliver(subscription, &publication("log:a", Some(at(1)), None, 1, 1)), Push::Queued);
        bench.says(ClientMessage::Unsubscribe { id: 4, channel: crate::bench::name("log:b") });
        assert_eq!(bench.write().len(), 2, "a reply and a message");
        bench.pass_ms(1);
        assert_eq!(bench.close_frame(), Some((code, format!("{name};retry_ms=2500"))));
        bench.pass(secs(5));
        assert!(bench.outputs().iter().any(|output| matches!(output, Output::Terminate(Ending::Unanswered(_)))));
    }
}

#[test]
fn what_waits_at_the_end_is_flushed_but_not_for_ever() {
    let mut bench = Bench::new(settings());
    let subscription = bench.join("log:a", Some(0));
    bench.handle(order(DepartReason::Drain, bench.now, secs(10)));
    bench.write();
    bench.pass(secs(9));
    for offset in 1..=3 {
        let _ = bench.deliver(subscription, &publication("log:a", Some(at(offset)), None, offset, 1));
    }
    bench.pass(secs(1));
    assert_eq!(bench.deliver(subscription, &publication("log:a", Some(at(4)), None, 4, 1)), Push::Ignored);
    let written = bench.write();
    assert_eq!(written.len(), 4);
    assert!(matches!(&written[3], Transmit::Close { code: Some(4000), .. }));

    let mut bench = Bench::new(settings());
    let subscription = bench.join("log:a", Some(0));
    let _ = bench.deliver(subscription, &publication("log:a", Some(at(1)), None, 1, 1));
    bench.handle(order(DepartReason::Drain, bench.now, secs(10)));
    bench.pass_ms(14_999);
    assert_eq!(bench.closing(), None);
    bench.pass_ms(1);
    assert_eq!(bench.take(), [Transmit::Close { code: Some(4000), reason: "draining;retry_ms=2500".into() }]);
}

#[test]
fn who_moves_on_within_the_grace_closes_cleanly() {
    let mut bench = Bench::new(settings());
    bench.handle(order(DepartReason::Drain, bench.now, secs(10)));
    bench.write();
    bench.pass(secs(1));
    bench.handle(Input::PeerClosed(Some(1000)));
    bench.write();
    assert!(bench.outputs().iter().any(|output| matches!(output, Output::Terminate(Ending::Clean { code: Some(1000), ours: false }))));
}

#[test]
fn a_raw_session_gets_1001_at_its_slot() {
    let mut bench = Bench::raw(settings());
    bench.handle(Input::RawSend { text: true, data: "last words".into() });
    bench.handle(order(DepartReason::Drain, bench.now + secs(3), secs(10)));
    bench.pass(secs(3));
    assert!(!bench.session.has_room_for(1, 0));
    let written = bench.write();
    assert_eq!(written[0], Transmit::Raw { text: true, data: "last words".into() });
    assert_eq!(written[1], Transmit::Close { code: Some(1001), reason: "server draining".into() });
}

#[test]
fn of_two_orders_the_earlier_deadline_holds() {
    let mut bench = Bench::new(settings());
    bench.write();
    bench.handle(order(DepartReason::Rebalance, bench.now + secs(30), secs(10)));
    bench.handle(order(DepartReason::Drain, bench.now + secs(60), secs(10)));
    bench.handle(order(DepartReason::Drain, bench.now + secs(5), secs(10)));
    bench.pass(secs(5));
    assert_eq!(bench.messages(), [going_away(DepartReason::Drain, 10_000)]);
    // It is under way; a shorter grace still counts, and nothing is said twice.
    bench.handle(order(DepartReason::Drain, bench.now, secs(60)));
    bench.handle(order(DepartReason::Rebalance, bench.now, secs(2)));
    assert_eq!(bench.messages(), []);
    bench.pass_ms(1999);
    assert_eq!(bench.closing(), None);
    bench.pass_ms(1);
    assert_eq!(bench.close_frame().map(|(code, _)| code), Some(4001));
}

#[test]
fn who_is_not_authenticated_at_its_slot_is_closed() {
    let mut bench = Bench::open(Mode::Tidegate, settings(), None);
    bench.handle(order(DepartReason::Drain, bench.now + secs(1), secs(10)));
    bench.pass(secs(1));
    assert_eq!(bench.close_frame(), Some((4000, "draining;retry_ms=2500".into())));
}

#[test]
fn the_maximum_age_is_announced_with_jitter() {
    let mut ages = Vec::new();
    for seed in 0..50 {
        let heartbeat = HeartbeatSettings { max_age: Some(secs(3600)), ..HeartbeatSettings::default() };
        let settings = SessionSettings { heartbeat, ..settings() };
        let mut bench = Bench::open(Mode::Tidegate, settings.clone(), Some(identity()));
        let opening = tidegate_core::session::Opening {
            mode: Mode::Tidegate,
            settings: settings.into(),
            connection: ConnectionId::new(1),
            identity: Some(identity()),
            seed: u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15),
        };
        bench.session = tidegate_core::Session::new(bench.now, opening);
        bench.join("log:a", Some(0));
        let begun = bench.now;
        loop {
            bench.now = bench.session.poll_timeout().unwrap();
            bench.handle(Input::Timeout);
            bench.handle(Input::Frames { count: 1, assembling: false });
            if bench.messages().contains(&going_away(DepartReason::MaxAge, 10_000)) {
                break;
            }
        }
        ages.push(bench.now.since(begun).as_secs());
        bench.pass(secs(10));
        assert_eq!(bench.close_frame(), Some((4002, "max_age".into())));
    }
    assert!(ages.iter().all(|age| (3240..=3600).contains(age)), "{ages:?}");
    assert!(ages.iter().max().unwrap() - ages.iter().min().unwrap() > 200, "{ages:?}");
}

#[test]
fn commands_of_the_flush_are_not_run() {
    let mut bench = Bench::new(settings());
    bench.handle(order(DepartReason::Drain, bench.now, secs(0)));
    bench.pass_ms(0);
    bench.says(ClientMessage::Subscribe { id: 1, channel: name("log:a"), since: None });
    assert!(!bench.outputs().iter().any(|output| matches!(output, Output::Attach { .. })));
}
