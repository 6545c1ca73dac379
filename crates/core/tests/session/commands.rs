//! Commands: one reply each, at their rate, as many at once as there is room for.

use tidegate_core::broker::{BrokerError, Published};
use tidegate_core::message::{ClientMessage, CommandId, ServerMessage};
use tidegate_core::session::{Input, Mode, Notice, Output};
use tidegate_core::{ErrorCode, LimitSettings, RateSettings, SessionSettings};

use crate::bench::{Bench, at, name, publish, secs, settings};

fn request(id: CommandId) -> ClientMessage {
    ClientMessage::Request { id, method: "m".into(), data: "1".into() }
}

fn requested(bench: &mut Bench) -> Vec<CommandId> {
    let id = |output| match output {
        Output::Request { id, .. } => Some(id),
        _ => None,
    };
    bench.outputs().into_iter().filter_map(id).collect()
}

fn limited(rate: RateSettings) -> SessionSettings {
    let limits = LimitSettings { rate, ..LimitSettings::default() };
    SessionSettings { limits, ..settings() }
}

#[test]
fn publishes_are_answered_with_what_became_of_them() {
    let mut bench = Bench::new(settings());
    bench.write();
    let answers = [
        Ok(Published { position: Some(at(9)), duplicate: true }),
        Err(BrokerError::Unavailable("disk full at /var/lib".into())),
        Err(BrokerError::Closed),
        Err(BrokerError::Limit("too many keys".into())),
        Err(BrokerError::Invalid { field: "key", problem: "is missing" }),
    ];
    for (id, answer) in (1..).zip(answers) {
        bench.says(ClientMessage::Publish { id, publish: publish("log:a") });
        assert!(matches!(&bench.outputs()[..], [.., Output::Publish { id: asked, .. }] if *asked == id));
        bench.handle(Input::Published(id, answer));
    }
    let error =
        |id, code, message: &str, retry_after_ms| ServerMessage::Error { id: Some(id), code, message: message.into(), retry_after_ms };
    assert_eq!(
        bench.messages(),
        [
            ServerMessage::Published { id: 1, position: Some(at(9)), duplicate: true },
            error(2, ErrorCode::Unavailable, "the broker is unavailable", Some(1000)),
            error(3, ErrorCode::Unavailable, "the broker is closed", Some(1000)),
            error(4, ErrorCode::LimitExceeded, "too many keys", None),
            error(5, ErrorCode::BadRequest, "key: is missing", None),
        ]
    );
}

#[test]
fn what_is_wrong_is_named() {
    let mut bench = Bench::new(settings());
    bench.write();
    bench.says(ClientMessage::Unknown { id: Some(1), kind: "x".repeat(10_000).into() });
    bench.says(ClientMessage::Invalid { id: Some(2), field: "channel", problem: "is missing".into() });
    bench.says(ClientMessage::Publish { id: 3, publish: publish("nowhere:a") });
    bench.says(ClientMessage::Unsubscribe { id: 4, channel: name("log:a") });
    let replies: Vec<_> = bench
        .messages()
        .into_iter()
        .map(|message| match message {
            ServerMessage::Error { id, code, message, retry_after_ms: None } => (id.unwrap(), code, message.len() < 100),
            other => panic!("{other:?}"),
        })
        .collect();
    use ErrorCode::*;
    assert_eq!(replies, [(1, UnknownType, true), (2, BadRequest, true), (3, UnknownChannel, true), (4, NotSubscribed, true)]);
    assert_eq!(bench.notices().len(), 4);
}

#[test]
fn past_what_may_be_in_flight_it_does_not_read_and_what_was_read_waits_in_order() {
    let mut bench = Bench::new(settings());
    bench.write();
    for id in 1..=40 {
        bench.says(request(id));
    }
    assert_eq!(requested(&mut bench), (1..=32).collect::<Vec<_>>());
    assert!(!bench.session.wants_read());
    bench.handle(Input::Responded(1, Ok("1".into())));
    assert_eq!(requested(&mut bench), [], "a reply that nobody has read is still under way");
    assert_eq!(bench.messages(), [ServerMessage::Response { id: 1, data: "1".into() }]);
    assert_eq!(requested(&mut bench), [33]);
    for id in 2..=9 {
        bench.handle(Input::Responded(id, Ok("1".into())));
    }
    bench.write();
    assert_eq!(requested(&mut bench), (34..=40).collect::<Vec<_>>());
    assert!(bench.session.wants_read());
}

#[test]
fn a_client_that_sends_and_never_reads_fills_nothing() {
    let mut bench = Bench::new(settings());
    let mut sent = 0;
    while bench.session.wants_read() {
        bench.says(ClientMessage::Unknown { id: Some(1), kind: "x".into() });
        sent += 1;
        assert!(sent <= 32);
    }
}

#[test]
fn over_the_rate_commands_are_refused_with_the_time_to_wait() {
    let mut bench = Bench::new(limited(RateSettings { per_second: 20, burst: 5 }));
    bench.write();
    for id in 1..=5 {
        bench.says(request(id));
    }
    assert_eq!(requested(&mut bench).len(), 5);
    bench.says(request(6));
    assert_eq!(bench.error(), Some((ErrorCode::RateLimited, Some(100))));
    assert_eq!(bench.notices(), [Notice::Refused(ErrorCode::RateLimited)]);
    bench.pass_ms(100);
    bench.says(request(7));
    assert_eq!(requested(&mut bench), [7]);
}

#[test]
fn a_burst_of_debt_ends_the_session() {
    let mut bench = Bench::new(limited(RateSettings { per_second: 20, burst: 40 }));
    bench.write();
    bench.handle(Input::Frames { count: 79, assembling: false });
    assert_eq!(bench.closing(), None);
    bench.handle(Input::Frames { count: 1, assembling: false });
    assert_eq!(bench.close_frame(), Some((4102, "rate_limited;retry_ms=2050".into())));
}

#[test]
fn a_batch_can_not_get_around_the_rate() {
    let mut bench = Bench::new(limited(RateSettings { per_second: 20, burst: 40 }));
    bench.write();
    bench.handle(Input::Frames { count: 1, assembling: false });
    for id in 1..=1000 {
        bench.handle(Input::Message(request(id)));
    }
    assert_eq!(bench.closing().map(|code| code.number()), Some(4102));
}

#[test]
fn a_ping_a_second_costs_nothing_and_a_flood_of_them_does() {
    let mut bench = Bench::new(limited(RateSettings { per_second: 0, burst: 5 }));
    bench.write();
    for _ in 0..100 {
        bench.pass_ms(1000);
        bench.says(ClientMessage::Ping { n: None });
        bench.write();
    }
    assert_eq!(bench.closing(), None);
    for _ in 0..10 {
        bench.says(ClientMessage::Ping { n: None });
    }
    assert_eq!(bench.closing().map(|code| code.number()), Some(4102));
}

#[test]
fn raw_sessions_have_no_rate() {
    let mut bench = Bench::raw(limited(RateSettings { per_second: 1, burst: 1 }));
    for _ in 0..1000 {
        bench.handle(Input::Frames { count: 1, assembling: false });
        bench.handle(Input::RawReceived);
    }
    assert_eq!(bench.closing(), None);
}

#[test]
fn a_message_in_pieces_has_its_time() {
    for (mode, code) in [(Mode::Tidegate, 4400), (Mode::Raw, 1008)] {
        let mut bench = Bench::open(mode, settings(), Some(crate::bench::identity()));
        bench.write();
        for _ in 0..29 {
            bench.handle(Input::Frames { count: 1, assembling: true });
            bench.pass(secs(1));
        }
        bench.handle(Input::Frames { count: 1, assembling: false });
        bench.pass(secs(10));
        assert_eq!(bench.closing(), None);
        for _ in 0..30 {
            bench.handle(Input::Frames { count: 1, assembling: true });
            assert_eq!(bench.closing(), None);
            bench.pass(secs(1));
        }
        assert_eq!(bench.close_frame(), Some((code, "message not finished in time".into())));
    }
}

#[test]
fn a_client_that_always_sends_in_pieces_is_not_late() {
    for mode in [Mode::Tidegate, Mode::Raw] {
        let mut bench = Bench::open(mode, settings(), Some(crate::bench::identity()));
        for _ in 0..100 {
            bench.handle(Input::Frames { count: 1, assembling: true });
            match mode {
                Mode::Tidegate => bench.handle(Input::Message(ClientMessage::Ping { n: None })),
                Mode::Raw => bench.handle(Input::RawReceived),
            }
            bench.pass(secs(10));
        }
        assert_eq!(bench.closing(), None);
    }
}
