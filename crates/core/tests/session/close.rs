//! The close handshake, from either side, and its deadline.

use tidegate_core::CloseCode;
use tidegate_core::message::ClientMessage;
use tidegate_core::session::{Ending, Input, Output, Transmit};

use crate::bench::{Bench, at, name, publication, secs, settings};

fn close(code: CloseCode) -> Input {
    Input::Close { code, retry_ms: None, reason: None }
}

fn ending(bench: &mut Bench) -> Option<Ending> {
    bench.outputs().into_iter().find_map(|output| match output {
        Output::Terminate(ending) => Some(ending),
        _ => None,
    })
}

/// Whether it lives or is closing: who loses the connection learns what is left to be taken out of the hub, and each once.
#[test]
fn an_abandoned_session_tells_what_it_is_still_attached_to() {
    for closes in [false, true] {
        let mut bench = Bench::new(settings());
        let kept = bench.join("log:kept", Some(0));
        let left = bench.join("log:left", Some(0));
        let polled = bench.join("log:polled", Some(0));
        bench.says(ClientMessage::Unsubscribe { id: 7, channel: name("log:polled") });
        assert!(matches!(&bench.outputs()[..], [Output::Detach { subscription, .. }] if *subscription == polled));
        bench.says(ClientMessage::Unsubscribe { id: 8, channel: name("log:left") });
        if closes {
            bench.handle(close(CloseCode::Internal));
        }
        let mut abandoned = bench.session.abandon();
        abandoned.sort();
        assert_eq!(abandoned, [(kept, name("log:kept")), (left, name("log:left"))], "closes: {closes}");
        assert_eq!(bench.session.abandon(), [], "closes: {closes}");
        assert_eq!((bench.session.poll_timeout(), bench.session.wants_write()), (None, false));
    }
}

#[test]
fn ours_first_then_the_peers_answer() {
    let mut bench = Bench::new(settings());
    bench.write();
    bench.handle(Input::Close { code: CloseCode::Overloaded, retry_ms: Some(3500), reason: None });
    assert!(bench.session.wants_write());
    assert_eq!(bench.close_frame(), Some((4101, "overloaded;retry_ms=3500".into())));
    assert!(bench.session.wants_read() && !bench.session.ends_once_written(), "for the peer's close frame");
    assert_eq!(bench.take(), []);
    bench.outputs();
    bench.handle(Input::PeerClosed(Some(4101)));
    assert_eq!(ending(&mut bench), Some(Ending::Clean { code: Some(4101), ours: true }));
    assert!(!bench.session.wants_read() && !bench.session.wants_write());
}

#[test]
fn nothing_is_taken_and_nothing_sent_once_we_close() {
    let mut bench = Bench::new(settings());
    let subscription = bench.join("log:a", Some(0));
    let _ = bench.deliver(subscription, &publication("log:a", Some(at(1)), None, 1, 1));
    bench.handle(close(CloseCode::Internal));
    assert!(matches!(bench.outputs().as_slice(), [Output::Notice(_), Output::Detach { .. }]));
    let _ = bench.deliver(subscription, &publication("log:a", Some(at(2)), None, 2, 1));
    bench.says(ClientMessage::Ping { n: None });
    bench.handle(Input::PeerPing("x".into()));
    bench.handle(close(CloseCode::Overloaded));
    assert!(matches!(&bench.write()[..], [Transmit::Close { code: Some(4100), .. }]));
    assert!(bench.outputs().is_empty());
    assert_eq!(bench.session.outbox_bytes(), 0);
}

/// What was taken out and not written may be what the close is to keep from the peer: only a flush, or a peer that wants the end itself,
/// lets it go out.
#[test]
fn our_close_withholds_what_was_taken_until_its_frame_is() {
    let mut bench = Bench::new(settings());
    assert!(!bench.session.withholds());
    bench.handle(close(CloseCode::Revoked));
    assert!(bench.session.withholds());
    assert!(matches!(&bench.take()[..], [Transmit::Close { .. }]));
    assert!(!bench.session.withholds(), "nor the close frame");
    let ends = [
        (Bench::new(settings()), Input::PeerClosed(None)),
        (Bench::raw(settings()), Input::RawClose { code: CloseCode::Normal, reason: None }),
    ];
    for (mut bench, end) in ends {
        bench.handle(end);
        assert!(bench.session.wants_write() && !bench.session.withholds());
    }
}

#[test]
fn the_peers_first_is_echoed_and_ends_when_it_is_written() {
    for (theirs, echoed) in [(Some(1000), 1000), (Some(3999), 3999), (None, 1000)] {
        let mut bench = Bench::new(settings());
        let subscription = bench.join("log:a", Some(0));
        let _ = bench.deliver(subscription, &publication("log:a", Some(at(1)), None, 1, 1));
        bench.outputs();
        bench.handle(Input::PeerClosed(theirs));
        assert!(!bench.session.wants_read() && !bench.session.ends_once_written(), "it has still to be given");
        let taken = bench.take();
        assert_eq!(taken, [Transmit::Close { code: Some(echoed), reason: "".into() }]);
        assert!(bench.session.ends_once_written());
        assert_eq!(ending(&mut bench), None, "the frame is not on the wire yet");
        bench.handle(Input::Flushed);
        assert_eq!(ending(&mut bench), Some(Ending::Clean { code: theirs, ours: false }));
    }
}

#[test]
fn a_flush_before_the_frame_was_given_means_nothing() {
    let mut bench = Bench::new(settings());
    bench.handle(Input::PeerClosed(Some(1001)));
    bench.handle(Input::Flushed);
    assert_eq!(ending(&mut bench), None);
    bench.take();
    bench.handle(Input::Flushed);
    assert_eq!(ending(&mut bench), Some(Ending::Clean { code: Some(1001), ours: false }));
}

#[test]
fn both_at_once_is_clean_and_ours() {
    let mut bench = Bench::new(settings());
    bench.handle(close(CloseCode::Draining));
    bench.handle(Input::PeerClosed(Some(1000)));
    assert_eq!(ending(&mut bench), None);
    assert!(!bench.session.ends_once_written());
    assert_eq!(bench.close_frame(), Some((4000, "draining".into())));
    assert_eq!(ending(&mut bench), Some(Ending::Clean { code: Some(4000), ours: true }));
}

#[test]
fn an_unanswered_close_ends_at_the_deadline() {
    let mut bench = Bench::new(settings());
    bench.handle(close(CloseCode::Draining));
    bench.write();
    bench.pass_ms(4999);
    assert_eq!(ending(&mut bench), None);
    bench.pass_ms(1);
    assert_eq!(ending(&mut bench), Some(Ending::Unanswered(CloseCode::Draining)));
}

#[test]
fn a_peer_that_closes_and_takes_nothing_ends_at_the_deadline() {
    let mut bench = Bench::new(settings());
    bench.handle(Input::PeerClosed(Some(1000)));
    bench.pass(secs(5));
    assert_eq!(ending(&mut bench), Some(Ending::Clean { code: Some(1000), ours: false }));
}

#[test]
fn the_end_of_tcp_tells_how_far_it_came() {
    let mut bench = Bench::new(settings());
    bench.handle(Input::Disconnected);
    assert_eq!(ending(&mut bench), Some(Ending::Lost));

    let mut bench = Bench::new(settings());
    bench.handle(close(CloseCode::Draining));
    bench.write();
    bench.handle(Input::Disconnected);
    assert_eq!(ending(&mut bench), Some(Ending::Unanswered(CloseCode::Draining)));

    let mut bench = Bench::new(settings());
    bench.handle(Input::PeerClosed(None));
    bench.handle(Input::Disconnected);
    assert_eq!(ending(&mut bench), Some(Ending::Clean { code: None, ours: false }));
}

#[test]
fn a_lost_connection_leaves_its_channels() {
    let mut bench = Bench::new(settings());
    bench.join("log:a", Some(0));
    bench.join("log:b", Some(0));
    bench.handle(Input::Disconnected);
    let outputs = bench.outputs();
    assert!(matches!(&outputs[..], [Output::Detach { .. }, Output::Detach { .. }, Output::Terminate(Ending::Lost)]), "{outputs:?}");
}

#[test]
fn a_violation_closes_with_its_code_and_words() {
    let mut bench = Bench::new(settings());
    bench.handle(Input::Violation(CloseCode::ProtocolError, "reserved bit set"));
    assert_eq!(bench.close_frame(), Some((1002, "reserved bit set".into())));
}

#[test]
fn an_operators_reason_is_cut_to_what_fits() {
    let mut bench = Bench::new(settings());
    bench.handle(Input::Close { code: CloseCode::Quota, retry_ms: Some(1), reason: Some("x".repeat(500).into()) });
    let (code, reason) = bench.close_frame().unwrap();
    assert_eq!((code, reason.len()), (4429, 123));
    assert!(reason.ends_with(";retry_ms=1"));
}
