//! Opening, renewal and end of authority.

use std::sync::Arc;

use tidegate_core::message::{ClientMessage, ReauthReason, ServerMessage, Since};
use tidegate_core::session::{Input, Mode, Output};
use tidegate_core::{CloseCode, ErrorCode, Grants, Identity, Pattern};

use crate::bench::{Bench, at, identity, name, secs, settings, token};

fn unknown() -> Bench {
    Bench::open(Mode::Tidegate, settings(), None)
}

fn expiring(after: u64) -> Arc<Identity> {
    Arc::new(Identity { expires_in: Some(secs(after)), ..(*identity()).clone() })
}

fn may_only(patterns: &[&str]) -> Arc<Identity> {
    let subscribe = patterns.iter().map(|pattern| Pattern::new(pattern).unwrap()).collect();
    Arc::new(Identity { grants: Grants { subscribe, ..Grants::default() }, ..Identity::default() })
}

#[test]
fn who_is_known_is_welcome_at_once() {
    let mut bench = Bench::new(settings());
    match &bench.messages()[..] {
        [ServerMessage::Welcome(welcome)] => {
            assert_eq!((welcome.id, &*welcome.connection, &*welcome.node), (None, "1", "n1"));
            assert_eq!(welcome.user.as_deref(), Some("u1"));
            assert_eq!((welcome.dead, welcome.expires_in), (secs(62) + secs(1) / 2, secs(24 * 60 * 60)));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.session.message_limit(), 64 * 1024);
}

#[test]
fn before_welcome_only_auth_is_taken() {
    let mut bench = unknown();
    assert_eq!(bench.messages(), []);
    assert_eq!(bench.session.message_limit(), 16 * 1024);
    bench.says(ClientMessage::Subscribe { id: 1, channel: name("log:a"), since: None });
    assert_eq!(bench.error(), Some((ErrorCode::Unauthenticated, None)));
    bench.says(ClientMessage::Unknown { id: None, kind: "x".into() });
    assert_eq!(bench.error(), Some((ErrorCode::Unauthenticated, None)));
    bench.says(token(2));
    assert!(bench.outputs().iter().any(|output| matches!(output, Output::Authenticate { id: 2, .. })));
    bench.says(token(3));
    assert_eq!(bench.error(), Some((ErrorCode::BadRequest, None)), "one at a time");
    bench.handle(Input::Authenticated { id: Some(2), identity: identity() });
    assert!(matches!(&bench.messages()[..], [ServerMessage::Welcome(welcome)] if welcome.id == Some(2)));
    bench.pass_answering(secs(6));
    assert_eq!(bench.closing(), None);
}

#[test]
fn who_does_not_authenticate_in_time_is_closed() {
    let mut bench = unknown();
    bench.says(token(2));
    bench.pass(secs(5));
    assert_eq!(bench.close_frame(), Some((4200, "auth_timeout".into())));
}

#[test]
fn a_refusal_closes_with_its_code() {
    for (code, text) in [(CloseCode::BadCredentials, "bad_credentials"), (CloseCode::Expired, "expired")] {
        let mut bench = unknown();
        bench.says(token(2));
        bench.handle(Input::Refused { id: Some(2), code });
        assert_eq!(bench.close_frame(), Some((code.number(), text.into())));
    }
}

#[test]
fn authority_that_ends_is_asked_for_and_ends() {
    let mut bench = Bench::open(Mode::Tidegate, settings(), Some(expiring(3600)));
    bench.write();
    bench.pass_answering(secs(3570) - secs(1) / 1000);
    bench.write();
    bench.pass_ms(1);
    let asked = ServerMessage::Reauth { within_ms: 30_000, reason: ReauthReason::Expiring, nonce: None };
    assert!(bench.messages().contains(&asked));
    bench.pass_answering(secs(30) - secs(1) / 1000);
    assert_eq!(bench.closing(), None);
    bench.pass_ms(1);
    assert_eq!(bench.close_frame(), Some((4201, "expired".into())));
}

#[test]
fn a_short_authority_is_asked_for_at_once() {
    let mut bench = Bench::open(Mode::Tidegate, settings(), Some(expiring(10)));
    bench.pass_ms(0);
    let asked = ServerMessage::Reauth { within_ms: 10_000, reason: ReauthReason::Expiring, nonce: None };
    assert!(bench.messages().contains(&asked));
    bench.pass(secs(10));
    assert_eq!(bench.close_frame(), Some((4201, "expired".into())));
}

#[test]
fn renewed_authority_goes_on_with_what_it_still_grants() {
    let mut bench = Bench::open(Mode::Tidegate, settings(), Some(expiring(3600)));
    bench.join("log:a", Some(0));
    bench.join("oldest:a", None);
    bench.subscribe(8, "state:a", None);
    bench.outputs();
    bench.pass_answering(secs(3580));
    bench.says(token(9));
    bench.outputs();
    let narrower = Arc::new(Identity { expires_in: Some(secs(100)), ..(*may_only(&["log:*"])).clone() });
    bench.handle(Input::Authenticated { id: Some(9), identity: narrower });
    let messages = bench.messages();
    let gone = |channel: &str| ServerMessage::Unsubscribed { channel: name(channel), code: ErrorCode::Revoked, retry_after_ms: None };
    assert!(messages.contains(&gone("oldest:a")) && messages.contains(&gone("state:a")) && !messages.contains(&gone("log:a")));
    assert!(messages.iter().any(|message| matches!(message, ServerMessage::Error { id: Some(8), code: ErrorCode::Forbidden, .. })));
    assert!(matches!(&messages[messages.len() - 1], ServerMessage::Welcome(welcome) if welcome.expires_in == secs(100)));
    assert_eq!(bench.outputs().iter().filter(|output| matches!(output, Output::Detach { .. })).count(), 2);
    bench.pass_answering(secs(99));
    assert_eq!(bench.closing(), None, "the old end is void");
    bench.pass_answering(secs(1));
    assert_eq!(bench.closing().map(|code| code.number()), Some(4201));
}

#[test]
fn changed_privileges_are_answered_or_the_session_ends() {
    let mut bench = Bench::new(settings());
    bench.write();
    bench.handle(Input::PrivilegeChanged);
    let asked = ServerMessage::Reauth { within_ms: 30_000, reason: ReauthReason::PrivilegeChanged, nonce: None };
    assert_eq!(bench.messages(), [asked]);
    bench.pass_answering(secs(20));
    bench.handle(Input::PrivilegeChanged);
    assert_eq!(bench.messages(), [], "asking twice does not give more time");
    bench.pass_answering(secs(10));
    assert_eq!(bench.closing().map(|code| code.number()), Some(4202));

    let mut bench = Bench::new(settings());
    bench.handle(Input::PrivilegeChanged);
    bench.says(token(1));
    bench.handle(Input::Authenticated { id: Some(1), identity: identity() });
    bench.pass_answering(secs(60));
    assert_eq!(bench.closing(), None);
}

#[test]
fn a_raw_sessions_authority_ends_too() {
    let mut bench = Bench::open(Mode::Raw, settings(), Some(expiring(60)));
    bench.pass_answering(secs(59));
    bench.pass(secs(1));
    assert_eq!(bench.close_frame(), Some((1008, "expired".into())));
    let mut bench = Bench::open(Mode::Raw, settings(), Some(identity()));
    bench.pass_answering(secs(48 * 60 * 60));
    assert_eq!(bench.closing(), None);
}

#[test]
fn grants_come_before_rules_and_a_cursor_is_no_credential() {
    let mut bench = Bench::open(Mode::Tidegate, settings(), Some(may_only(&["log:*", "none:*", "secret:*"])));
    bench.write();
    let mut ask = |channel: &str, since| {
        bench.says(ClientMessage::Subscribe { id: 1, channel: name(channel), since });
        bench.error().map(|(code, _)| code)
    };
    assert_eq!(ask("nothing:a", None), Some(ErrorCode::Forbidden), "who has no grant learns nothing of the rules");
    assert_eq!(ask("none:a", None), Some(ErrorCode::UnknownChannel));
    assert_eq!(ask("secret:a", Some(Since::Position(at(1)))), Some(ErrorCode::Forbidden));
    assert_eq!(ask("secret:a", Some(Since::Last(1))), Some(ErrorCode::Forbidden));
    assert_eq!(ask("secret:a", None), None);
    bench.says(ClientMessage::Publish { id: 2, publish: crate::bench::publish("log:a") });
    assert_eq!(bench.error(), Some((ErrorCode::Forbidden, None)));
}
