//! Subscribing and leaving: what is refused, what is cut, what is left behind.

use tidegate_core::broker::{BrokerError, HistoryError};
use tidegate_core::message::{ClientMessage, Recovery, ServerMessage, Since};
use tidegate_core::session::{Input, Output, Push};
use tidegate_core::{ChannelKind, CloseCode, ErrorCode, LimitSettings, OutboxSettings, SessionSettings};

use crate::bench::{Bench, at, name, publication, settings};
use crate::reading::{behind, live, log, page, subscribed, written};

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
