//! State channels, one answer of the broker at a time: snapshots, deltas, conflation.

use tidegate_core::broker::{HistoryError, Snapshot};
use tidegate_core::message::{GapReason, ServerMessage, Since};
use tidegate_core::session::{Input, Push};
use tidegate_core::{Epoch, OutboxSettings, Position, SessionSettings};

use crate::bench::{Bench, at, publication, settings};
use crate::reading::{behind, entry, fetch, page, snapshots, written};

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
