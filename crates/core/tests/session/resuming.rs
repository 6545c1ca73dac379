//! Log channels, one answer of the broker at a time: cursors, retention, epochs, losses, slow readers.

use tidegate_core::broker::{BrokerError, HistoryError, Page};
use tidegate_core::message::{Gap, GapReason, Recovery, ServerMessage, Since};
use tidegate_core::session::{Input, Push, Shed};
use tidegate_core::{ChannelKind, Epoch, OutboxSettings, Position, SessionSettings};

use crate::bench::{Bench, at, name, publication, secs, settings};
use crate::reading::{behind, fetch, live, log, page, subscribed, written};

#[test]
fn a_log_without_a_cursor_is_live_from_its_end() {
    let mut bench = Bench::new(settings());
    let subscription = behind(&mut bench, "log:a", None, 10);
    assert_eq!(bench.messages(), [subscribed(ChannelKind::Log, "log:a", Some(at(10)), Recovery::None), live("log:a", Some(10))]);
    assert_eq!(bench.deliver(subscription, &log(10)), Push::Ignored);
    assert_eq!(bench.deliver(subscription, &log(11)), Push::Queued);
    assert_eq!(bench.deliver(subscription, &log(11)), Push::Ignored);
    assert_eq!(written(&mut bench), ["11"]);
}

#[test]
fn what_comes_before_the_attach_is_answered_is_read_from_history() {
    let mut bench = Bench::new(settings());
    bench.write();
    let subscription = bench.subscribe(1, "log:a", None);
    for offset in 9..=12 {
        assert_eq!(bench.deliver(subscription, &log(offset)), Push::Ignored);
    }
    bench.handle(Input::Attached(subscription, Ok(Some(at(10)))));
    assert_eq!(fetch(&mut bench), Some((Since::Position(at(10)), 256)));
    assert_eq!(bench.deliver(subscription, &log(13)), Push::Parked);
    bench.handle(Input::Fetched(subscription, page(10, &[log(11), log(12)], 12, false)));
    assert_eq!(written(&mut bench), ["subscribed none", "live 10", "11", "12", "13"]);
    assert_eq!(bench.session.lanes_behind(), 0);
}

#[test]
fn a_cursor_is_served_from_history_then_live() {
    let mut bench = Bench::new(settings());
    let subscription = behind(&mut bench, "log:a", Some(Since::Position(at(5))), 8);
    assert_eq!(written(&mut bench), [""; 0], "what becomes of the cursor is not known yet");
    assert_eq!(fetch(&mut bench), Some((Since::Position(at(5)), 256)));
    assert_eq!(bench.deliver(subscription, &log(9)), Push::Parked);
    bench.handle(Input::Fetched(subscription, page(5, &[log(6), log(7)], 9, true)));
    assert_eq!(written(&mut bench), ["subscribed complete", "6", "7"]);
    assert_eq!(fetch(&mut bench), Some((Since::Position(at(7)), 256)));
    // Read before 10 was published, answered after it was delivered.
    assert_eq!(bench.deliver(subscription, &log(10)), Push::Parked);
    bench.handle(Input::Fetched(subscription, page(7, &[log(8), log(9)], 9, false)));
    assert_eq!(written(&mut bench), ["8", "9", "live 9", "10"]);
    assert_eq!(bench.deliver(subscription, &log(11)), Push::Queued);
}

#[test]
fn earliest_and_last_miss_nothing_that_was_asked_for() {
    for since in [Since::Earliest, Since::Last(2)] {
        let mut bench = Bench::new(settings());
        let subscription = behind(&mut bench, "log:a", Some(since), 8);
        assert_eq!(fetch(&mut bench), Some((since, 256)));
        bench.handle(Input::Fetched(subscription, page(6, &[log(7), log(8)], 8, false)));
        assert_eq!(written(&mut bench), ["subscribed complete", "7", "8", "live 8"]);
    }
}

#[test]
fn a_cursor_outside_retention_is_told_exactly() {
    let mut bench = Bench::new(settings());
    let subscription = behind(&mut bench, "log:a", Some(Since::Position(at(5))), 100);
    bench.outputs();
    let gone = HistoryError::Retention { oldest: at(90), top: at(100), missed: Some(80) };
    bench.handle(Input::Fetched(subscription, Err(gone)));
    let gap = Gap { channel: name("log:a"), missed: Some(80), range: Some((6, 90)), reason: GapReason::Retention, position: None };
    assert_eq!(bench.messages(), [subscribed(ChannelKind::Log, "log:a", Some(at(100)), Recovery::Gap), ServerMessage::Gap(Box::new(gap))]);
    assert_eq!(fetch(&mut bench), Some((Since::Position(at(90)), 256)));
    bench.handle(Input::Fetched(subscription, page(90, &[log(95), log(100)], 100, false)));
    assert_eq!(written(&mut bench), ["95", "100", "live 100"]);
}

#[test]
fn a_cursor_of_another_epoch_is_told_where_it_goes_on() {
    let mut bench = Bench::new(settings());
    let old = Position { epoch: Epoch::new(1), offset: 500 };
    let subscription = behind(&mut bench, "log:a", Some(Since::Position(old)), 3);
    bench.outputs();
    bench.handle(Input::Fetched(subscription, Err(HistoryError::Epoch { oldest: at(0), top: at(3) })));
    let gap = Gap { channel: name("log:a"), missed: None, range: None, reason: GapReason::Epoch, position: Some(at(0)) };
    assert_eq!(bench.messages(), [subscribed(ChannelKind::Log, "log:a", Some(at(3)), Recovery::Gap), ServerMessage::Gap(Box::new(gap))]);
    assert_eq!(fetch(&mut bench), Some((Since::Position(at(0)), 256)));
}

#[test]
fn an_epoch_that_changes_under_a_subscription_is_told_before_anything_new() {
    for reported in [false, true] {
        let mut bench = Bench::new(settings());
        let subscription = bench.join("log:a", Some(10));
        let _ = bench.deliver(subscription, &log(11));
        let next = Position { epoch: Epoch::new(8), offset: 1 };
        let first = publication("log:a", Some(next), None, 1, 1);
        if reported {
            bench.handle(Input::Lost(subscription, Some(next)));
        } else {
            assert_eq!(bench.deliver(subscription, &first), Push::Parked);
        }
        assert_eq!(fetch(&mut bench), Some((Since::Position(at(11)), 256)));
        let start = Position::start(next.epoch);
        bench.handle(Input::Fetched(subscription, Err(HistoryError::Epoch { oldest: start, top: next })));
        assert_eq!(fetch(&mut bench), Some((Since::Position(start), 256)));
        bench.handle(Input::Fetched(subscription, Ok(Page { start, messages: vec![first], top: next, more: false })));
        assert_eq!(written(&mut bench), ["11", "epoch ?", "1"]);
    }
}

#[test]
fn losses_on_the_bus_are_read_again_and_nothing_is_told_if_nothing_is_missing() {
    let mut bench = Bench::new(settings());
    let subscription = bench.join("log:a", Some(10));
    bench.handle(Input::Lost(subscription, None));
    assert_eq!(fetch(&mut bench), Some((Since::Position(at(10)), 256)));
    // Lost again while the page is under way: it may have been read before that.
    bench.handle(Input::Lost(subscription, None));
    bench.handle(Input::Fetched(subscription, page(10, &[log(11)], 11, false)));
    assert_eq!(fetch(&mut bench), Some((Since::Position(at(11)), 256)));
    bench.handle(Input::Fetched(subscription, page(11, &[log(12)], 12, false)));
    assert_eq!(written(&mut bench), ["11", "12"]);
    assert_eq!(bench.deliver(subscription, &log(13)), Push::Queued);
}

#[test]
fn a_slow_log_reader_is_parked_and_read_on_when_half_has_gone() {
    let outbox = OutboxSettings { messages: 4, ..OutboxSettings::default() };
    let mut bench = Bench::new(SessionSettings { outbox, ..settings() });
    let subscription = bench.join("log:a", Some(0));
    for offset in 1..=4 {
        assert_eq!(bench.deliver(subscription, &log(offset)), Push::Queued);
    }
    assert_eq!(bench.deliver(subscription, &log(5)), Push::Parked);
    assert_eq!(bench.session.lanes_behind(), 1);
    assert!(bench.session.poll_transmit(bench.now).is_some());
    assert_eq!(fetch(&mut bench), None, "three of four still wait");
    assert!(bench.session.poll_transmit(bench.now).is_some());
    assert_eq!(fetch(&mut bench), Some((Since::Position(at(4)), 2)));
    bench.handle(Input::Fetched(subscription, page(4, &[log(5)], 5, false)));
    assert_eq!(written(&mut bench), ["3", "4", "5"]);
    assert_eq!(bench.session.lanes_behind(), 0);
}

#[test]
fn a_strict_log_cuts_a_slow_reader() {
    let outbox = OutboxSettings { messages: 1, ..OutboxSettings::default() };
    let mut bench = Bench::new(SessionSettings { outbox, ..settings() });
    let subscription = bench.join("strict:a", Some(0));
    assert_eq!(bench.deliver(subscription, &publication("strict:a", Some(at(1)), None, 1, 1)), Push::Queued);
    assert_eq!(bench.deliver(subscription, &publication("strict:a", Some(at(2)), None, 2, 1)), Push::Disconnected);
    assert_eq!(bench.close_frame(), Some((4103, "slow_consumer".into())));
}

#[test]
fn a_history_that_fails_is_tried_again_then_given_up() {
    let mut bench = Bench::new(settings());
    let subscription = bench.join("log:a", Some(0));
    bench.handle(Input::Lost(subscription, None));
    let begun = bench.now;
    let mut tries = Vec::new();
    while bench.now.since(begun) < secs(60) {
        if fetch(&mut bench).is_some() {
            tries.push(bench.now.since(begun).as_millis());
            bench.handle(Input::Fetched(subscription, Err(HistoryError::Broker(BrokerError::Closed))));
        }
        bench.pass_ms(100);
        if written(&mut bench).contains(&"unsubscribed unavailable".to_owned()) {
            break;
        }
    }
    assert_eq!(tries, [0, 200, 600, 1400, 3000, 6200, 11_200, 16_200, 21_200, 26_200, 31_200]);
    assert_eq!(bench.session.subscriptions(), 0);
}

#[test]
fn shed_cursors_go_back_and_wait_for_the_socket() {
    let mut bench = Bench::new(settings());
    let subscription = bench.join("log:a", Some(0));
    for offset in 1..=3 {
        let _ = bench.deliver(subscription, &log(offset));
    }
    assert!(bench.session.poll_transmit(bench.now).is_some());
    bench.handle(Input::Shed(Shed::Cursors));
    assert_eq!(bench.session.outbox_bytes(), 0);
    assert_eq!(fetch(&mut bench), None);
    assert!(bench.session.wants_write(), "to learn when the socket takes something");
    assert_eq!(bench.session.poll_transmit(bench.now), None);
    assert_eq!(fetch(&mut bench), Some((Since::Position(at(1)), 256)));
    bench.handle(Input::Fetched(subscription, page(1, &[log(2), log(3)], 3, false)));
    assert_eq!(written(&mut bench), ["2", "3"]);
}
