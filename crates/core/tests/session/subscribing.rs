//! Subscribing, resuming and leaving, one answer of the broker at a time.

use std::sync::Arc;

use tidegate_core::broker::{BrokerError, HistoryError, Page, Snapshot};
use tidegate_core::message::{ClientMessage, Gap, GapReason, Recovery, ServerMessage, Since};
use tidegate_core::session::{Input, Output, Push, Shed, SubscriptionId, Transmit};
use tidegate_core::{ChannelKind, CloseCode, Epoch, ErrorCode, LimitSettings, OutboxSettings, Position, Publication, SessionSettings};

use crate::bench::{Bench, at, name, publication, secs, settings};

fn subscribed(kind: ChannelKind, channel: &str, position: Option<Position>, recovery: Recovery) -> ServerMessage {
    ServerMessage::Subscribed { id: 1, channel: name(channel), kind, position, recovery }
}

fn live(channel: &str, offset: Option<u64>) -> ServerMessage {
    ServerMessage::Live { channel: name(channel), offset }
}

fn log(offset: u64) -> Arc<Publication> {
    publication("log:a", Some(at(offset)), None, offset, 1)
}

fn entry(key: &str, offset: u64) -> Arc<Publication> {
    publication("state:a", Some(at(offset)), Some(key), offset, 1)
}

fn page(start: u64, messages: &[Arc<Publication>], top: u64, more: bool) -> Result<Page, HistoryError> {
    Ok(Page { start: at(start), messages: messages.to_vec(), top: at(top), more })
}

/// The one fetch among the outputs.
fn fetch(bench: &mut Bench) -> Option<(Since, usize)> {
    bench.outputs().into_iter().find_map(|output| match output {
        Output::Fetch { since, limit, .. } => Some((since, limit.messages)),
        _ => None,
    })
}

fn snapshots(bench: &mut Bench) -> usize {
    bench.outputs().iter().filter(|output| matches!(output, Output::Snapshot { .. })).count()
}

/// What was written, in short: offsets of messages, names of the rest.
fn written(bench: &mut Bench) -> Vec<String> {
    let word = |transmit| match transmit {
        Transmit::Publication(publication) => publication.offset().to_string(),
        Transmit::Message(message) => match *message {
            ServerMessage::Subscribed { recovery, .. } => format!("subscribed {}", recovery.name()),
            ServerMessage::Live { offset, .. } => offset.map_or("live".into(), |offset| format!("live {offset}")),
            ServerMessage::Gap(gap) => match (gap.missed, gap.range) {
                (_, Some((from, to))) => format!("{} {from}-{to}", gap.reason.name()),
                (missed, None) => format!("{} {}", gap.reason.name(), missed.map_or("?".into(), |missed| missed.to_string())),
            },
            ServerMessage::Snapshot { entries, position, more, .. } => {
                format!("snapshot {} of {}{}", entries.len(), position.offset, if more { " …" } else { "" })
            }
            ServerMessage::Unsubscribed { code, .. } => format!("unsubscribed {}", code.name()),
            other => format!("{other:?}"),
        },
        other => format!("{other:?}"),
    };
    bench.write().into_iter().map(word).collect()
}

fn behind(bench: &mut Bench, channel: &str, since: Option<Since>, top: u64) -> SubscriptionId {
    bench.write();
    let subscription = bench.subscribe(1, channel, since);
    bench.handle(Input::Attached(subscription, Ok(Some(at(top)))));
    subscription
}

#[test]
fn an_event_channel_is_live_at_once_without_an_offset() {
    let mut bench = Bench::new(settings());
    bench.write();
    let subscription = bench.subscribe(1, "oldest:a", None);
    assert_eq!(bench.deliver(subscription, &publication("oldest:a", None, None, 1, 1)), Push::Ignored);
    bench.handle(Input::Attached(subscription, Ok(None)));
    assert_eq!(bench.messages(), [subscribed(ChannelKind::Event, "oldest:a", None, Recovery::None), live("oldest:a", None)]);
    assert_eq!(bench.deliver(subscription, &publication("oldest:a", None, None, 2, 1)), Push::Queued);
    assert_eq!(bench.write().len(), 1);
    bench.handle(Input::Lost(subscription, None));
    bench.handle(Input::Lost(subscription, None));
    assert_eq!(written(&mut bench), ["bus ?"], "two losses in one place are one gap");
}

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
fn a_broker_that_fails_refuses_the_subscribe() {
    let refused = |bench: &mut Bench| {
        assert_eq!(bench.error(), Some((ErrorCode::Unavailable, Some(1000))));
        assert!(bench.outputs().iter().any(|output| matches!(output, Output::Detach { .. })));
        assert_eq!(bench.session.subscriptions(), 0);
    };
    let mut bench = Bench::new(settings());
    bench.write();
    let subscription = bench.subscribe(1, "log:a", None);
    bench.handle(Input::Attached(subscription, Err(BrokerError::Closed)));
    refused(&mut bench);
    let subscription = behind(&mut bench, "log:a", Some(Since::Earliest), 3);
    bench.outputs();
    bench.handle(Input::Fetched(subscription, Err(HistoryError::Broker(BrokerError::Closed))));
    refused(&mut bench);
    let subscription = behind(&mut bench, "state:a", None, 3);
    bench.outputs();
    bench.handle(Input::SnapshotTaken(subscription, Err(BrokerError::Closed)));
    refused(&mut bench);
}

#[test]
fn a_state_channel_begins_with_its_snapshot() {
    for (since, recovery) in [(None, "none"), (Some(Since::Earliest), "snapshot"), (Some(Since::Last(3)), "snapshot")] {
        let mut bench = Bench::new(settings());
        let subscription = behind(&mut bench, "state:a", since, 8);
        assert_eq!(snapshots(&mut bench), 1);
        for (key, offset) in [("x", 9), ("y", 10), ("x", 11)] {
            assert_eq!(bench.deliver(subscription, &entry(key, offset)), Push::Parked);
        }
        let snapshot = Snapshot { position: at(9), entries: vec![entry("a", 3), entry("x", 9)] };
        bench.handle(Input::SnapshotTaken(subscription, Ok(snapshot.into())));
        assert_eq!(written(&mut bench), [&format!("subscribed {recovery}"), "snapshot 2 of 9", "live 9", "10", "11"]);
        assert_eq!(bench.deliver(subscription, &entry("x", 12)), Push::Queued);
        assert_eq!(bench.deliver(subscription, &entry("x", 13)), Push::Conflated);
        assert_eq!(written(&mut bench), ["13"]);
    }
}

#[test]
fn a_large_snapshot_goes_in_pieces_and_an_empty_one_in_one() {
    let mut bench = Bench::new(settings());
    let subscription = behind(&mut bench, "state:a", None, 0);
    bench.handle(Input::SnapshotTaken(subscription, Ok(Snapshot { position: at(0), entries: vec![] }.into())));
    assert_eq!(written(&mut bench), ["subscribed none", "snapshot 0 of 0", "live 0"]);

    let mut bench = Bench::new(settings());
    let subscription = behind(&mut bench, "state:a", None, 200);
    let small = (1..=150).map(|offset| entry(&format!("k{offset}"), offset));
    let large = (151..=152).map(|offset| publication("state:a", Some(at(offset)), Some("large"), offset, 60_000));
    let snapshot = Snapshot { position: at(200), entries: small.chain(large).collect() };
    bench.handle(Input::SnapshotTaken(subscription, Ok(snapshot.into())));
    assert_eq!(
        written(&mut bench),
        [
            "subscribed none",
            "snapshot 64 of 200 …",
            "snapshot 64 of 200 …",
            "snapshot 22 of 200 …",
            "snapshot 1 of 200 …",
            "snapshot 1 of 200",
            "live 200"
        ]
    );
}

#[test]
fn a_state_cursor_gets_the_conflated_delta_or_the_snapshot() {
    let mut bench = Bench::new(settings());
    let subscription = behind(&mut bench, "state:a", Some(Since::Position(at(5))), 9);
    assert_eq!(fetch(&mut bench), Some((Since::Position(at(5)), 256)));
    bench.handle(Input::Fetched(subscription, page(5, &[entry("x", 7), entry("y", 9)], 9, false)));
    assert_eq!(written(&mut bench), ["subscribed complete", "7", "9", "live 9"]);

    for error in [HistoryError::Retention { oldest: at(8), top: at(9), missed: None }, HistoryError::Epoch { oldest: at(8), top: at(9) }] {
        let mut bench = Bench::new(settings());
        let subscription = behind(&mut bench, "state:a", Some(Since::Position(at(5))), 9);
        bench.outputs();
        bench.handle(Input::Fetched(subscription, Err(error)));
        assert_eq!(snapshots(&mut bench), 1);
        bench.handle(Input::SnapshotTaken(subscription, Ok(Snapshot { position: at(9), entries: vec![entry("x", 9)] }.into())));
        assert_eq!(written(&mut bench), ["subscribed snapshot", "snapshot 1 of 9", "live 9"]);
    }
}

#[test]
fn a_state_channels_new_epoch_is_a_gap_and_a_snapshot() {
    let mut bench = Bench::new(settings());
    let subscription = behind(&mut bench, "state:a", None, 0);
    bench.handle(Input::SnapshotTaken(subscription, Ok(Snapshot { position: at(0), entries: vec![] }.into())));
    bench.write();
    let next = Position { epoch: Epoch::new(8), offset: 1 };
    let first = publication("state:a", Some(next), Some("x"), 1, 1);
    assert_eq!(bench.deliver(subscription, &first), Push::Parked);
    assert!(fetch(&mut bench).is_some());
    bench.handle(Input::Fetched(subscription, Err(HistoryError::Epoch { oldest: Position::start(next.epoch), top: next })));
    assert_eq!(snapshots(&mut bench), 1);
    bench.handle(Input::SnapshotTaken(subscription, Ok(Snapshot { position: next, entries: vec![first] }.into())));
    let messages = bench.messages();
    assert!(matches!(&messages[0], ServerMessage::Gap(gap) if gap.reason == GapReason::Epoch && gap.position == Some(next)));
    assert!(matches!(&messages[1], ServerMessage::Snapshot { position, .. } if *position == next));
    assert_eq!(messages.len(), 2, "live was said before");
}

#[test]
fn more_changed_keys_than_fit_are_read_from_history() {
    let outbox = OutboxSettings { messages: 3, ..OutboxSettings::default() };
    let mut bench = Bench::new(SessionSettings { outbox, ..settings() });
    let subscription = behind(&mut bench, "state:a", None, 0);
    bench.handle(Input::SnapshotTaken(subscription, Ok(Snapshot { position: at(0), entries: vec![] }.into())));
    bench.write();
    bench.outputs();
    for (key, offset) in [("a", 1), ("b", 2), ("c", 3)] {
        assert_eq!(bench.deliver(subscription, &entry(key, offset)), Push::Queued);
    }
    assert_eq!(bench.deliver(subscription, &entry("a", 4)), Push::Conflated);
    assert_eq!(bench.deliver(subscription, &entry("d", 5)), Push::Parked);
    assert_eq!(bench.session.outbox_bytes(), 0);
    assert_eq!(fetch(&mut bench), Some((Since::Position(at(0)), 3)));
    let delta = [entry("b", 2), entry("c", 3), entry("a", 4)];
    bench.handle(Input::Fetched(subscription, page(0, &delta, 5, true)));
    assert_eq!(written(&mut bench), ["2", "3", "4"]);
    assert_eq!(fetch(&mut bench), Some((Since::Position(at(4)), 2)), "asked for when one still waited");
    bench.handle(Input::Fetched(subscription, page(4, &[entry("d", 5)], 5, false)));
    assert_eq!(written(&mut bench), ["5"]);
    assert_eq!(bench.session.lanes_behind(), 0);
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

#[test]
fn unsubscribing_amid_everything_leaves_nothing_behind() {
    let mut bench = Bench::new(settings());
    bench.write();
    let subscription = bench.subscribe(1, "log:a", Some(Since::Earliest));
    bench.says(ClientMessage::Unsubscribe { id: 2, channel: name("log:a") });
    let messages = bench.messages();
    assert!(matches!(&messages[0], ServerMessage::Error { id: Some(1), code: ErrorCode::NotSubscribed, .. }), "{messages:?}");
    assert_eq!(messages[1..], [ServerMessage::Ok { id: 2 }]);
    bench.handle(Input::Attached(subscription, Ok(Some(at(3)))));
    bench.handle(Input::Fetched(subscription, page(0, &[log(1)], 3, true)));
    assert_eq!(bench.deliver(subscription, &log(4)), Push::Ignored);
    assert_eq!(written(&mut bench), [""; 0]);

    let again = bench.join("log:a", Some(4));
    assert_ne!(subscription, again);
    let _ = bench.deliver(again, &log(5));
    bench.says(ClientMessage::Unsubscribe { id: 3, channel: name("log:a") });
    assert_eq!(bench.messages(), [ServerMessage::Ok { id: 3 }]);
    assert_eq!(bench.session.outbox_bytes(), 0);
}

#[test]
fn refusals_of_a_subscribe() {
    let limits = LimitSettings { subscriptions: 2, ..settings().limits };
    let mut bench = Bench::new(SessionSettings { limits, ..settings() });
    bench.join("log:a", Some(0));
    let mut ask = |channel: &str, since| {
        bench.says(ClientMessage::Subscribe { id: 1, channel: name(channel), since });
        bench.error().map(|(code, _)| code)
    };
    assert_eq!(ask("log:a", None), Some(ErrorCode::AlreadySubscribed));
    assert_eq!(ask("oldest:a", Some(Since::Earliest)), Some(ErrorCode::BadRequest));
    assert_eq!(ask("log:b", None), None);
    assert_eq!(ask("log:c", None), Some(ErrorCode::LimitExceeded));
    assert_eq!(ask("log:b", None), Some(ErrorCode::AlreadySubscribed), "even if it is not answered yet");
}

#[test]
fn a_cut_lane_policy_closes() {
    let outbox = OutboxSettings { messages: 1, ..OutboxSettings::default() };
    let mut bench = Bench::new(SessionSettings { outbox, ..settings() });
    let subscription = bench.join("cut:a", None);
    assert_eq!(bench.deliver(subscription, &publication("cut:a", None, None, 1, 1)), Push::Queued);
    assert_eq!(bench.deliver(subscription, &publication("cut:a", None, None, 2, 1)), Push::Disconnected);
    assert_eq!(bench.closing(), Some(CloseCode::SlowConsumer));
}
