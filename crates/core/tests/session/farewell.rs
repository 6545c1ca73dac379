//! The farewell of a raw session: what was said is written before the close frame, and nobody can draw it out.

use tidegate_core::session::{Ending, Input, Output, Transmit};
use tidegate_core::{CloseCode, LimitSettings, SessionSettings};

use super::bench::{Bench, secs, settings};

const VIOLATION: Input = Input::Violation(CloseCode::ProtocolError, "reserved bit set");

fn violation() -> Transmit {
    Transmit::Close { code: Some(1002), reason: "reserved bit set".into() }
}

fn send(text: &'static str) -> Input {
    Input::RawSend { text: true, data: text.into() }
}

fn sent(text: &'static str) -> Transmit {
    Transmit::Raw { text: true, data: text.into() }
}

fn ending(bench: &mut Bench) -> Option<Ending> {
    bench.outputs().into_iter().find_map(|output| match output {
        Output::Terminate(ending) => Some(ending),
        _ => None,
    })
}

/// A raw session whose peer has just broken the protocol.
fn violated() -> Bench {
    let mut bench = Bench::raw(settings());
    bench.handle(VIOLATION);
    bench
}

#[test]
fn answers_come_before_the_close_frame() {
    let mut bench = violated();
    assert_eq!(bench.write(), []);
    bench.handle(send("one"));
    assert_eq!(bench.write(), [sent("one")]);
    assert!(!bench.session.has_written_close());
    bench.handle(send("two"));
    bench.handle(Input::RawAnswered);
    assert_eq!(bench.write(), [sent("two"), violation()]);
    assert!(bench.session.has_written_close());
}

#[test]
fn who_has_nothing_to_say_closes_at_once() {
    let mut bench = violated();
    bench.handle(Input::RawAnswered);
    assert_eq!(bench.write(), [violation()]);
}

#[test]
fn what_was_said_before_the_violation_is_written_too() {
    let mut bench = Bench::raw(settings());
    bench.handle(send("before"));
    bench.handle(VIOLATION);
    bench.handle(Input::RawAnswered);
    assert_eq!(bench.write(), [sent("before"), violation()]);
}

#[test]
fn an_application_without_an_answer_delays_the_close_by_half_a_second() {
    let mut bench = violated();
    bench.pass_ms(499);
    assert!(bench.session.has_room_for(1, 0));
    bench.handle(send("just in time"));
    assert_eq!(bench.write(), [sent("just in time")]);
    bench.pass_ms(1);
    assert!(!bench.session.has_room_for(1, 0));
    bench.handle(send("late"));
    assert_eq!(bench.write(), [violation()]);
}

#[test]
fn a_shorter_close_deadline_bounds_the_answers_as_well() {
    let limits = LimitSettings { close: std::time::Duration::from_millis(50), ..LimitSettings::default() };
    let mut bench = Bench::raw(SessionSettings { limits, ..settings() });
    bench.handle(VIOLATION);
    bench.pass_ms(50);
    assert_eq!(bench.write(), [violation()]);
}

/// Half a second for both together: neither a full outbox nor a peer that takes nothing draws it out.
#[test]
fn a_peer_that_reads_nothing_loses_the_answers_but_not_the_close() {
    let mut bench = violated();
    bench.handle(Input::Blocked);
    bench.handle(send("unread"));
    bench.handle(Input::RawAnswered);
    bench.pass_ms(500);
    assert_eq!(bench.take(), [violation()]);
    bench.pass(secs(5));
    assert_eq!(ending(&mut bench), Some(Ending::Unanswered(CloseCode::ProtocolError)));
}

#[test]
fn answers_stay_within_the_outbox() {
    let mut bench = Bench::raw(super::bench::with_outbox(1000, 100));
    bench.handle(VIOLATION);
    bench.handle(Input::RawSend { text: false, data: vec![0; 1000].into() });
    assert!(!bench.session.has_room_for(1, 0));
    assert_eq!(bench.write().len(), 1);
    assert!(bench.session.has_room_for(1, 0));
}

#[test]
fn the_end_of_the_application_is_an_answer_and_changes_no_code() {
    let mut bench = violated();
    bench.handle(send("last"));
    bench.handle(Input::RawClose { code: CloseCode::Normal, reason: None });
    assert_eq!(bench.write(), [sent("last"), violation()]);
}

#[test]
fn an_application_that_ends_is_heard_to_the_end() {
    let mut bench = Bench::raw(settings());
    bench.handle(send("one"));
    bench.handle(send("two"));
    bench.handle(Input::RawClose { code: CloseCode::Normal, reason: Some("done".into()) });
    bench.handle(Input::RawClose { code: CloseCode::Internal, reason: None });
    assert!(!bench.session.has_room_for(1, 0));
    let close = Transmit::Close { code: Some(1000), reason: "done".into() };
    assert_eq!(bench.write(), [sent("one"), sent("two"), close]);
}

#[test]
fn an_application_that_ends_waits_for_no_peer_longer_than_the_deadline() {
    let mut bench = Bench::raw(settings());
    bench.handle(send("unread"));
    bench.handle(Input::RawClose { code: CloseCode::Normal, reason: None });
    bench.pass(secs(5));
    assert_eq!(bench.take(), [Transmit::Close { code: Some(1000), reason: "normal".into() }]);
}

#[test]
fn a_violation_during_a_farewell_gives_it_its_code() {
    let mut bench = Bench::raw(settings());
    bench.handle(send("one"));
    bench.handle(Input::RawClose { code: CloseCode::Normal, reason: None });
    bench.handle(VIOLATION);
    // The application has ended: nothing is to be waited for.
    assert_eq!(bench.write(), [sent("one"), violation()]);
}

/// A peer that ends its side behind the violation is still told why, and no answer of it is waited for.
#[test]
fn a_hang_up_behind_a_violation_is_no_bare_cut() {
    let mut bench = violated();
    bench.handle(Input::Disconnected);
    assert_eq!(ending(&mut bench), None);
    bench.handle(send("one"));
    bench.handle(Input::RawAnswered);
    assert_eq!(bench.write(), [sent("one"), violation()]);
    assert_eq!(ending(&mut bench), Some(Ending::Unanswered(CloseCode::ProtocolError)));
}

#[test]
fn a_connection_that_fails_behind_a_violation_is_over() {
    let mut bench = violated();
    bench.handle(Input::Disconnected);
    bench.handle(Input::Disconnected);
    assert_eq!(ending(&mut bench), Some(Ending::Lost));
}

#[test]
fn an_operator_does_not_wait_for_answers() {
    let mut bench = violated();
    bench.handle(send("one"));
    bench.handle(Input::Close { code: CloseCode::Quota, retry_ms: None, reason: None });
    assert_eq!(bench.close_frame().map(|(code, _)| code), Some(4429));
}

/// The silence of a peer that is not listened to is nobody's fault, and no other timer takes the violation's place.
#[test]
fn no_timer_gives_another_code() {
    let mut settings = settings();
    settings.heartbeat.ping = std::time::Duration::from_millis(100);
    settings.limits.assemble = std::time::Duration::from_millis(300);
    let mut bench = Bench::raw(settings);
    bench.handle(Input::Frames { count: 1, assembling: true });
    bench.handle(VIOLATION);
    bench.pass_ms(499);
    assert_eq!(bench.closing(), None);
    bench.pass_ms(1);
    assert_eq!(bench.closing(), Some(CloseCode::ProtocolError));
}

#[test]
fn a_session_of_the_protocol_closes_at_once() {
    let mut bench = Bench::new(settings());
    bench.write();
    bench.handle(VIOLATION);
    assert_eq!(bench.write(), [violation()]);
}
