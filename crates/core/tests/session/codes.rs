//! Every close code and every error code that a session can give, produced, and held against the tables.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidegate_core::broker::BrokerError;
use tidegate_core::message::{ClientMessage, DepartReason, ServerMessage};
use tidegate_core::session::{Input, Mode, Output, Transmit};
use tidegate_core::{CloseCode, ErrorCode, HeartbeatSettings, Identity, LimitSettings, OutboxSettings, RateSettings, SessionSettings};

use crate::bench::{Bench, identity, name, publication, publish, secs, settings, token};

fn expiring() -> Arc<Identity> {
    Arc::new(Identity { expires_in: Some(secs(60)), ..(*identity()).clone() })
}

fn departing(reason: DepartReason) -> Input {
    Input::Depart { reason, at: tidegate_core::Moment::ZERO, grace: secs(0), retry_ms: 1 }
}

/// Closes that the session decides by itself, by what brings each about.
fn own_closes() -> Vec<(CloseCode, Bench)> {
    let heartbeat = HeartbeatSettings { idle: Some(secs(5)), ..HeartbeatSettings::default() };
    let aged = HeartbeatSettings { max_age: Some(secs(5)), ..HeartbeatSettings::default() };
    let rate = RateSettings { per_second: 1, burst: 1 };
    let outbox = OutboxSettings { messages: 1, ..OutboxSettings::default() };
    let mut closes = Vec::new();

    let mut bench = Bench::new(SessionSettings { heartbeat, ..settings() });
    bench.pass(secs(5));
    closes.push((CloseCode::Normal, bench));

    let mut bench = Bench::raw(settings());
    bench.handle(departing(DepartReason::Drain));
    closes.push((CloseCode::GoingAway, bench));

    let mut bench = Bench::raw(settings());
    bench.handle(Input::Blocked);
    bench.pass(secs(31));
    closes.push((CloseCode::PolicyViolation, bench));

    for (reason, code) in [(DepartReason::Drain, CloseCode::Draining), (DepartReason::Rebalance, CloseCode::Rebalance)] {
        let mut bench = Bench::new(settings());
        bench.handle(departing(reason));
        bench.write();
        bench.pass_ms(0);
        closes.push((code, bench));
    }

    let mut bench = Bench::new(SessionSettings { heartbeat: aged, ..settings() });
    bench.pass(secs(5));
    bench.write();
    bench.pass(secs(10));
    closes.push((CloseCode::MaxAge, bench));

    let mut bench = Bench::new(SessionSettings { limits: LimitSettings { rate, ..LimitSettings::default() }, ..settings() });
    bench.handle(Input::Frames { count: 2, assembling: false });
    closes.push((CloseCode::RateLimited, bench));

    let mut bench = Bench::new(SessionSettings { outbox, ..settings() });
    let subscription = bench.join("cut:a", None);
    for number in 0..2 {
        let _ = bench.deliver(subscription, &publication("cut:a", None, None, number, 1));
    }
    closes.push((CloseCode::SlowConsumer, bench));

    let mut bench = Bench::new(settings());
    bench.pass(secs(63));
    closes.push((CloseCode::HeartbeatTimeout, bench));

    let mut bench = Bench::open(Mode::Tidegate, settings(), None);
    bench.pass(secs(5));
    closes.push((CloseCode::AuthTimeout, bench));

    let mut bench = Bench::open(Mode::Tidegate, settings(), Some(expiring()));
    bench.pass(secs(60));
    closes.push((CloseCode::Expired, bench));

    let mut bench = Bench::new(settings());
    bench.handle(Input::PrivilegeChanged);
    bench.pass(secs(30));
    closes.push((CloseCode::PrivilegeChanged, bench));

    let mut bench = Bench::new(settings());
    bench.handle(Input::Frames { count: 1, assembling: true });
    bench.pass(secs(30));
    closes.push((CloseCode::BadFrame, bench));

    closes
}

/// Codes that are decided outside of the session: by the frame parser, by authentication, by the server.
const OTHERS: [CloseCode; 14] = [
    CloseCode::ProtocolError,
    CloseCode::UnsupportedData,
    CloseCode::InvalidPayload,
    CloseCode::TooBig,
    CloseCode::Internal,
    CloseCode::Overloaded,
    CloseCode::BusLost,
    CloseCode::Revoked,
    CloseCode::SessionUnknown,
    CloseCode::EpochReset,
    CloseCode::BadCredentials,
    CloseCode::Forbidden,
    CloseCode::UnsupportedVersion,
    CloseCode::Quota,
];

#[test]
fn every_close_code_is_produced() {
    let mut produced = BTreeSet::new();
    for (code, mut bench) in own_closes() {
        assert_eq!(bench.closing(), Some(code));
        match bench.take().last() {
            Some(Transmit::Close { code: Some(number), .. }) => assert_eq!(*number, code.number(), "{code:?}"),
            other => panic!("{code:?}: {other:?}"),
        }
        produced.insert(code.number());
    }
    for code in OTHERS {
        let mut bench = Bench::new(settings());
        bench.handle(Input::Close { code, retry_ms: None, reason: None });
        assert_eq!(bench.close_frame(), Some((code.number(), code.name().to_owned())));
        assert!(produced.insert(code.number()), "{code:?} is the session's own");
    }
    let all: BTreeSet<u16> = CloseCode::ALL.iter().map(|code| code.number()).collect();
    assert_eq!(produced, all);
}

#[test]
fn every_error_code_is_produced() {
    let limits = LimitSettings { subscriptions: 1, ..settings().limits };
    let mut bench = Bench::new(SessionSettings { limits, ..settings() });
    bench.join("log:a", Some(0));
    let subscribe = |channel: &str| ClientMessage::Subscribe { id: 1, channel: name(channel), since: None };
    for (code, said) in [
        (ErrorCode::BadRequest, ClientMessage::Invalid { id: Some(1), field: "channel", problem: "is missing".into() }),
        (ErrorCode::UnknownType, ClientMessage::Unknown { id: None, kind: "dance".into() }),
        (ErrorCode::UnknownChannel, subscribe("nowhere")),
        (ErrorCode::AlreadySubscribed, subscribe("log:a")),
        (ErrorCode::LimitExceeded, subscribe("log:b")),
        (ErrorCode::NotSubscribed, ClientMessage::Unsubscribe { id: 1, channel: name("log:b") }),
    ] {
        bench.says(said);
        assert_eq!(bench.error(), Some((code, None)));
    }

    let mut stranger = Bench::open(Mode::Tidegate, settings(), Some(Arc::default()));
    stranger.says(subscribe("log:a"));
    assert_eq!(stranger.error(), Some((ErrorCode::Forbidden, None)));

    let mut unknown = Bench::open(Mode::Tidegate, settings(), None);
    unknown.says(subscribe("log:a"));
    assert_eq!(unknown.error(), Some((ErrorCode::Unauthenticated, None)));

    bench.says(ClientMessage::Publish { id: 1, publish: publish("log:a") });
    bench.handle(Input::Published(1, Err(BrokerError::Closed)));
    assert_eq!(bench.error(), Some((ErrorCode::Unavailable, Some(1000))));

    let mut narrowed = Bench::new(settings());
    narrowed.join("log:a", Some(0));
    narrowed.handle(Input::Authenticated { id: None, identity: Arc::default() });
    let code = |message| if let ServerMessage::Unsubscribed { code, .. } = message { Some(code) } else { None };
    assert_eq!(narrowed.messages().into_iter().find_map(code), Some(ErrorCode::Revoked));

    // A backend's own: what it says is passed on.
    for code in [ErrorCode::TooLarge, ErrorCode::Internal] {
        bench.says(ClientMessage::Request { id: 1, method: "m".into(), data: "1".into() });
        bench.handle(Input::Responded(1, Err((code, "no".into()))));
        assert_eq!(bench.error(), Some((code, None)));
    }

    bench.handle(Input::Frames { count: 100_000, assembling: false });
    bench.handle(Input::Message(ClientMessage::Unsubscribe { id: 1, channel: name("log:b") }));
    assert!(matches!(bench.error(), Some((ErrorCode::RateLimited, Some(_)))));
}

#[test]
fn every_command_is_answered_exactly_once() {
    let mut bench = Bench::new(settings());
    bench.write();
    let since = None;
    for command in [
        token(1),
        ClientMessage::Subscribe { id: 2, channel: name("log:a"), since },
        ClientMessage::Subscribe { id: 3, channel: name("log:a"), since },
        ClientMessage::Unsubscribe { id: 4, channel: name("log:b") },
        ClientMessage::Publish { id: 5, publish: publish("log:a") },
        ClientMessage::Request { id: 6, method: "m".into(), data: "1".into() },
        ClientMessage::Unknown { id: Some(7), kind: "x".into() },
        ClientMessage::Invalid { id: Some(8), field: "since", problem: "is wrong".into() },
    ] {
        bench.says(command);
    }
    for output in bench.outputs() {
        match output {
            Output::Authenticate { id, .. } => bench.handle(Input::Authenticated { id: Some(id), identity: identity() }),
            Output::Attach { subscription, .. } => bench.handle(Input::Attached(subscription, Ok(Some(crate::bench::at(3))))),
            Output::Publish { id, .. } => bench.handle(Input::Published(id, Err(BrokerError::Closed))),
            Output::Request { id, .. } => bench.handle(Input::Responded(id, Ok("1".into()))),
            _ => {}
        }
    }
    let id = |message| match message {
        ServerMessage::Welcome(welcome) => welcome.id,
        ServerMessage::Subscribed { id, .. }
        | ServerMessage::Ok { id }
        | ServerMessage::Published { id, .. }
        | ServerMessage::Response { id, .. } => Some(id),
        ServerMessage::Error { id, .. } => id,
        _ => None,
    };
    let mut answered: Vec<_> = bench.messages().into_iter().filter_map(id).collect();
    answered.sort_unstable();
    assert_eq!(answered, [1, 2, 3, 4, 5, 6, 7, 8]);
}
