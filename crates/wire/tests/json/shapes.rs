//! Frames byte for byte as the protocol shows them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_core::message::{DepartReason, Gap, GapReason, ReauthReason, Recovery, ServerMessage, Welcome};
use tidegate_core::{Body, ChannelKind, ChannelName, Epoch, ErrorCode, Position, Publication, ReconnectSettings};
use tidegate_wire::json::{self, Challenge};

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).expect("a channel name")
}

fn at(epoch: &str, offset: u64) -> Position {
    let epoch: Epoch = epoch.parse().expect("never fails");
    assert_ne!(epoch, Epoch::UNKNOWN);
    Position { epoch, offset }
}

fn data(json: &'static str) -> Body {
    Body::Data(Bytes::from_static(json.as_bytes()))
}

#[track_caller]
fn says(message: ServerMessage, expected: &str) {
    let mut out = Vec::new();
    json::encode_server(&message, &mut out);
    assert_eq!(String::from_utf8(out).expect("UTF-8"), expected);
}

#[test]
fn welcome_and_challenge() {
    let welcome = Welcome {
        id: Some(1),
        connection: "c9f".into(),
        node: "n7".into(),
        user: Some("u\"42".into()),
        session: Some("s1".into()),
        expires_in: Duration::from_secs(3600),
        ping: Duration::from_secs(25),
        app_ping: Some(Duration::from_secs(60)),
        dead: Duration::from_millis(62_500),
        message_bytes: 65_536,
        subscriptions: 128,
        in_flight: 32,
        reconnect: ReconnectSettings::default(),
    };
    says(
        ServerMessage::Welcome(Box::new(welcome.clone())),
        concat!(
            r#"{"type":"welcome","id":1,"protocol":1,"connection":"c9f","node":"n7","user":"u\"42","session":"s1","expires_in_ms":3600000,"#,
            r#""heartbeat":{"ping_ms":25000,"app_ping_ms":60000,"dead_ms":62500},"#,
            r#""limits":{"message_bytes":65536,"subscriptions":128,"in_flight":32},"#,
            r#""reconnect":{"window_ms":8000,"base_ms":1000,"cap_ms":60000}}"#
        ),
    );
    let anonymous = Welcome { id: None, user: None, session: None, expires_in: Duration::MAX, app_ping: None, ..welcome };
    says(
        ServerMessage::Welcome(Box::new(anonymous)),
        concat!(
            r#"{"type":"welcome","protocol":1,"connection":"c9f","node":"n7","user":null,"session":null,"expires_in_ms":9007199254740991,"#,
            r#""heartbeat":{"ping_ms":25000,"app_ping_ms":null,"dead_ms":62500},"#,
            r#""limits":{"message_bytes":65536,"subscriptions":128,"in_flight":32},"#,
            r#""reconnect":{"window_ms":8000,"base_ms":1000,"cap_ms":60000}}"#
        ),
    );
    let challenge = Challenge {
        connection: "c9f".into(),
        nonce: "bm8".into(),
        audience: "tidegate.example".into(),
        within_ms: 5000,
        methods: vec!["token".into(), "signature".into()],
    };
    let mut out = Vec::new();
    json::encode_challenge(&challenge, &mut out);
    let expected = r#"{"type":"challenge","connection":"c9f","nonce":"bm8","audience":"tidegate.example","within_ms":5000,"methods":["token","signature"]}"#;
    assert_eq!(String::from_utf8(out).expect("UTF-8"), expected);
}

#[test]
fn subscriptions() {
    let subscribed =
        |kind, position, recovery| ServerMessage::Subscribed { id: 2, channel: channel("orders:42"), kind, position, recovery };
    says(
        subscribed(ChannelKind::Log, Some(at("xk3", 1850)), Recovery::Complete),
        r#"{"type":"subscribed","id":2,"channel":"orders:42","kind":"log","position":{"epoch":"xk3","offset":1850},"recovery":"complete"}"#,
    );
    says(
        subscribed(ChannelKind::Event, None, Recovery::None),
        r#"{"type":"subscribed","id":2,"channel":"orders:42","kind":"event","position":null,"recovery":"none"}"#,
    );
    says(ServerMessage::Live { channel: channel("a"), offset: Some(1850) }, r#"{"type":"live","channel":"a","offset":1850}"#);
    says(ServerMessage::Live { channel: channel("a"), offset: None }, r#"{"type":"live","channel":"a"}"#);
    says(
        ServerMessage::Unsubscribed { channel: channel("a"), code: ErrorCode::Forbidden, retry_after_ms: None },
        r#"{"type":"unsubscribed","channel":"a","code":"forbidden","retry_after_ms":null}"#,
    );
    says(ServerMessage::Ok { id: 5 }, r#"{"type":"ok","id":5}"#);
}

#[test]
fn gaps_and_snapshots() {
    let gap =
        |missed, range, reason, position| ServerMessage::Gap(Box::new(Gap { channel: channel("a"), missed, range, reason, position }));
    says(
        gap(Some(8), Some((1842, 1849)), GapReason::Slow, None),
        r#"{"type":"gap","channel":"a","missed":8,"from":1842,"to":1849,"reason":"slow"}"#,
    );
    says(
        gap(None, None, GapReason::Epoch, Some(at("yz9", 0))),
        r#"{"type":"gap","channel":"a","missed":null,"reason":"epoch","position":{"epoch":"yz9","offset":0}}"#,
    );
    let entry = |key: &str, offset, body| {
        Arc::new(Publication::new(channel("px"), Some(at("qa1", offset)), Some("not shown".into()), Some(key.into()), body))
    };
    let snapshot = |entries, more| ServerMessage::Snapshot { channel: channel("px"), position: at("qa1", 99_201), entries, more };
    says(
        snapshot(vec![entry("BTC", 99_188, data("1")), entry("a\nb", 2, data("{ }"))], false),
        r#"{"type":"snapshot","channel":"px","epoch":"qa1","offset":99201,"entries":[{"key":"BTC","offset":99188,"data":1},{"key":"a\u000ab","offset":2,"data":{ }}],"more":false}"#,
    );
    says(snapshot(vec![], true), r#"{"type":"snapshot","channel":"px","epoch":"qa1","offset":99201,"entries":[],"more":true}"#);
}

#[test]
fn replies() {
    says(
        ServerMessage::Published { id: 9, position: Some(at("xk3", 1851)), duplicate: true },
        r#"{"type":"published","id":9,"epoch":"xk3","offset":1851,"duplicate":true}"#,
    );
    says(
        ServerMessage::Published { id: 9, position: None, duplicate: false },
        r#"{"type":"published","id":9,"epoch":null,"offset":null,"duplicate":false}"#,
    );
    says(
        ServerMessage::Response { id: 10, data: Bytes::from_static(b"{\n \"a\": 1.0 }") },
        "{\"type\":\"response\",\"id\":10,\"data\":{\n \"a\": 1.0 }}",
    );
    says(
        ServerMessage::Error { id: Some(9), code: ErrorCode::RateLimited, message: "20 \"a\" second".into(), retry_after_ms: Some(800) },
        r#"{"type":"error","id":9,"code":"rate_limited","message":"20 \"a\" second","retry_after_ms":800}"#,
    );
    says(
        ServerMessage::Error { id: None, code: ErrorCode::UnknownType, message: "no".into(), retry_after_ms: None },
        r#"{"type":"error","id":null,"code":"unknown_type","message":"no","retry_after_ms":null}"#,
    );
}

#[test]
fn heartbeat_and_leaving() {
    says(ServerMessage::Ping, r#"{"type":"ping"}"#);
    says(ServerMessage::Pong { n: None }, r#"{"type":"pong"}"#);
    says(ServerMessage::Pong { n: Some(Bytes::from_static(b"1.50")) }, r#"{"type":"pong","n":1.50}"#);
    says(
        ServerMessage::Reauth { within_ms: 30_000, reason: ReauthReason::Expiring, nonce: Some("bm8".into()) },
        r#"{"type":"reauth","within_ms":30000,"reason":"expiring","nonce":"bm8"}"#,
    );
    says(
        ServerMessage::GoingAway { reason: DepartReason::MaxAge, reconnect_after_ms: 0, deadline_ms: 10_000, handover: None },
        r#"{"type":"going_away","reason":"max_age","reconnect_after_ms":0,"deadline_ms":10000,"handover":null}"#,
    );
}

#[test]
fn publications_have_their_fields_in_order_and_their_data_untouched() {
    let frame = |position, id: Option<&str>, key: Option<&str>, body| {
        let publication = Publication::new(channel("px"), position, id.map(Into::into), key.map(Into::into), body);
        String::from_utf8(json::encode_publication(&publication).to_vec()).expect("UTF-8")
    };
    assert_eq!(
        frame(Some(at("qa1", 7)), Some("01J"), Some("B\\C"), data("{ \"a\" :\n1e2 }")),
        "{\"type\":\"message\",\"channel\":\"px\",\"key\":\"B\\\\C\",\"offset\":7,\"id\":\"01J\",\"data\":{ \"a\" :\n1e2 }}"
    );
    assert_eq!(frame(None, None, None, data("null")), r#"{"type":"message","channel":"px","data":null}"#);
    assert_eq!(
        frame(Some(at("qa1", 99_208)), None, Some("OLD"), Body::Deleted),
        r#"{"type":"message","channel":"px","key":"OLD","offset":99208,"deleted":true}"#
    );
}

#[test]
fn a_publication_is_written_into_exactly_the_room_it_needs() {
    for (id, key, offset) in
        [(None, None, 0), (Some("i\u{1}\"ü"), None, 9), (Some("i"), Some("\\\n\u{7f}"), 10), (None, Some("k"), 1 << 52)]
    {
        for (position, body) in [(None, data("[1, 2]")), (Some(at("1", offset)), data("\"x\"")), (Some(at("1", offset)), Body::Deleted)] {
            let publication = Publication::new(channel("a:b"), position, id.map(Into::into), key.map(Into::into), body);
            let mut out = Vec::new();
            json::encode_publication_into(&publication, &mut out);
            assert_eq!(out.len(), out.capacity(), "{publication:?}");
        }
    }
}
