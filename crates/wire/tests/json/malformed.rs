//! What is wrong, and exactly what is answered to it.

use bytes::Bytes;
use tidegate_core::message::{ClientMessage, Credential, Publish, Since};
use tidegate_core::{Body, ChannelName, Epoch, Position};
use tidegate_wire::json::{self, DEPTH, Malformed};

fn one(frame: &str) -> ClientMessage {
    let mut messages = json::decode(frame.as_bytes()).unwrap_or_else(|malformed| panic!("{frame}: {malformed}"));
    assert_eq!(messages.len(), 1, "{frame}");
    messages.remove(0)
}

fn invalid(id: impl Into<Option<u64>>, field: &'static str, problem: &str) -> ClientMessage {
    ClientMessage::Invalid { id: id.into(), field, problem: problem.into() }
}

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).expect("a channel name")
}

#[test]
fn frames_that_say_nothing_are_malformed() {
    let frames: &[&[u8]] = &[
        b"",
        b" ",
        b"{",
        b"null",
        b"1",
        b"\"ping\"",
        b"{\"type\":\"pong\"",
        b"{\"type\":\"pong\"}}",
        b"{\"type\":\"pong\"} {\"type\":\"pong\"}",
        b"{\"type\":\"pong\",}",
        b"{type:\"pong\"}",
        b"{'type':'pong'}",
        b"[{\"type\":\"pong\"}",
        b"[{\"type\":\"pong\"},]",
        b"[[{\"type\":\"pong\"}]]",
        b"[[]]",
        b"[1]",
        b"[null]",
        b"[{\"type\":\"pong\"},2]",
        b"[] []",
        b"{\"type\":\"request\",\"id\":1,\"method\":\"m\",\"data\":{\"a\":}}",
        b"{\"type\":\"request\",\"id\":1,\"method\":\"m\",\"data\":01}",
        b"{\"type\":\"request\",\"id\":1,\"method\":\"m\",\"data\":NaN}",
        b"{\"type\":\"request\",\"id\":+1,\"method\":\"m\",\"data\":1}",
        b"{\"type\":\"request\",\"id\":1,\"method\":\"m\",\"data\":\"\x01\"}",
        b"{\"type\":\"request\",\"id\":1,\"method\":\"m\",\"data\":\"\xff\"}",
        b"{\"type\":\"request\",\"id\":1,\"method\":\"\xc3\x28\",\"data\":1}",
        b"{\"\\ud800\":1,\"type\":\"pong\"}",
        b"\xef\xbb\xbf{\"type\":\"pong\"}",
    ];
    for frame in frames {
        assert_eq!(json::decode(frame), Err(Malformed), "{}", String::from_utf8_lossy(frame));
    }
}

#[test]
fn deep_nesting_is_malformed_wherever_it_is() {
    for depth in [DEPTH, 10_000, 1_000_000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let deep = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            for frame in [
                format!(r#"{{"type":"request","id":1,"method":"m","data":{deep}}}"#),
                format!(r#"{{"type":"pong","unknown":{deep}}}"#),
                format!(r#"{{"type":"subscribe","id":1,"channel":"a","since":{deep}}}"#),
                format!("[{deep}]"),
                open.repeat(depth + 1),
            ] {
                assert_eq!(json::decode(frame.as_bytes()), Err(Malformed));
                assert!(matches!(json::decode_server(frame.as_bytes()), Err(Malformed)));
            }
        }
    }
    let deepest = format!("{}{}", "[".repeat(DEPTH - 1), "]".repeat(DEPTH - 1));
    let frame = format!(r#"{{"type":"request","id":1,"method":"m","data":{deepest}}}"#);
    assert!(matches!(one(&frame), ClientMessage::Request { data, .. } if data == deepest));
}

#[test]
fn the_wrong_field_is_named() {
    let integer = "is not an integer from 1 to 9007199254740991";
    let offset = "is not an integer from 0 to 9007199254740991";
    let shapes = "is none of a position, \"earliest\" and {\"last\":n}";
    let grammar = "a channel name has only letters, digits and _ - . @ = ~ between its colons";
    let half = "has an escape that is half of a surrogate pair";
    let several = "is one of several credentials; give one of token, ticket and key, claims, signature";
    let no_data = "is missing (any JSON value, or \"deleted\":true instead)";
    let cases: &[(&str, ClientMessage)] = &[
        ("{}", invalid(None, "type", "is missing")),
        (r#"{"id":3}"#, invalid(3, "type", "is missing")),
        (r#"{"type":null,"id":3}"#, invalid(3, "type", "is missing")),
        (r#"{"type":7,"id":3}"#, invalid(3, "type", "is not a string")),
        (r#"{"type":"\ud800","id":3}"#, invalid(3, "type", half)),
        (r#"{"type":"subscribe","channel":"a"}"#, invalid(None, "id", "is missing")),
        (r#"{"type":"subscribe","id":0,"channel":"a"}"#, invalid(None, "id", integer)),
        (r#"{"type":"subscribe","id":-1,"channel":"a"}"#, invalid(None, "id", integer)),
        (r#"{"type":"subscribe","id":1.0,"channel":"a"}"#, invalid(None, "id", integer)),
        (r#"{"type":"subscribe","id":1e3,"channel":"a"}"#, invalid(None, "id", integer)),
        (r#"{"type":"subscribe","id":"1","channel":"a"}"#, invalid(None, "id", integer)),
        (r#"{"type":"subscribe","id":9007199254740992,"channel":"a"}"#, invalid(None, "id", integer)),
        (r#"{"type":"subscribe","id":99999999999999999999999,"channel":"a"}"#, invalid(None, "id", integer)),
        (r#"{"type":"subscribe","id":1}"#, invalid(1, "channel", "is missing")),
        (r#"{"type":"subscribe","id":1,"channel":["a"]}"#, invalid(1, "channel", "is not a string")),
        (r#"{"type":"subscribe","id":1,"channel":""}"#, invalid(1, "channel", "a channel name is 1 to 255 bytes")),
        (r#"{"type":"subscribe","id":1,"channel":"a::b"}"#, invalid(1, "channel", "a channel name has no empty segment")),
        (r#"{"type":"unsubscribe","id":1,"channel":"a b"}"#, invalid(1, "channel", grammar)),
        (r#"{"type":"publish","id":1,"channel":"\ud800","data":1}"#, invalid(1, "channel", half)),
        (r#"{"type":"subscribe","id":1,"channel":"a","since":"latest"}"#, invalid(1, "since", shapes)),
        (r#"{"type":"subscribe","id":1,"channel":"a","since":5}"#, invalid(1, "since", shapes)),
        (r#"{"type":"subscribe","id":1,"channel":"a","since":[]}"#, invalid(1, "since", shapes)),
        (r#"{"type":"subscribe","id":1,"channel":"a","since":{}}"#, invalid(1, "since", shapes)),
        (r#"{"type":"subscribe","id":1,"channel":"a","since":{"last":0}}"#, invalid(1, "since.last", integer)),
        (
            r#"{"type":"subscribe","id":1,"channel":"a","since":{"last":5,"offset":1}}"#,
            invalid(1, "since.last", "does not go with a position"),
        ),
        (r#"{"type":"subscribe","id":1,"channel":"a","since":{"offset":1}}"#, invalid(1, "since.epoch", "is missing")),
        (r#"{"type":"subscribe","id":1,"channel":"a","since":{"epoch":1,"offset":1}}"#, invalid(1, "since.epoch", "is not a string")),
        (r#"{"type":"subscribe","id":1,"channel":"a","since":{"epoch":"x"}}"#, invalid(1, "since.offset", "is missing")),
        (r#"{"type":"subscribe","id":1,"channel":"a","since":{"epoch":"x","offset":-1}}"#, invalid(1, "since.offset", offset)),
        (
            r#"{"type":"subscribe","id":1,"channel":"a","since":{"epoch":"x","offset":9007199254740992}}"#,
            invalid(1, "since.offset", offset),
        ),
        (r#"{"type":"publish","id":1,"channel":"a"}"#, invalid(1, "data", no_data)),
        (r#"{"type":"publish","id":1,"channel":"a","deleted":false}"#, invalid(1, "data", no_data)),
        (r#"{"type":"publish","id":1,"channel":"a","data":null,"deleted":true}"#, invalid(1, "data", "does not go with deleted")),
        (r#"{"type":"publish","id":1,"channel":"a","deleted":1}"#, invalid(1, "deleted", "is not true or false")),
        (r#"{"type":"publish","id":1,"channel":"a","data":"\udc00"}"#, invalid(1, "data", half)),
        (r#"{"type":"publish","id":1,"channel":"a","message_id":"","data":1}"#, invalid(1, "message_id", "is not 1 to 255 bytes")),
        (r#"{"type":"publish","id":1,"channel":"a","message_id":7,"data":1}"#, invalid(1, "message_id", "is not a string")),
        (r#"{"type":"publish","id":1,"channel":"a","key":"a\u0000","data":1}"#, invalid(1, "key", "has a control character")),
        (r#"{"type":"publish","id":1,"channel":"a","key":"a\u0085","data":1}"#, invalid(1, "key", "has a control character")),
        (r#"{"type":"publish","id":1,"channel":"a","key":"\uD83D","data":1}"#, invalid(1, "key", half)),
        (r#"{"type":"request","id":1,"data":1}"#, invalid(1, "method", "is missing")),
        (r#"{"type":"request","id":1,"method":"","data":1}"#, invalid(1, "method", "is not 1 to 255 bytes")),
        (r#"{"type":"request","id":1,"method":"m"}"#, invalid(1, "data", "is missing")),
        (r#"{"type":"auth","id":1}"#, invalid(1, "token", "is missing, and so are ticket and key, claims, signature")),
        (r#"{"type":"auth","id":1,"token":5}"#, invalid(1, "token", "is not a string")),
        (r#"{"type":"auth","id":1,"token":"a","ticket":"b"}"#, invalid(1, "token", several)),
        (r#"{"type":"auth","id":1,"token":"a","key":"b"}"#, invalid(1, "token", several)),
        (r#"{"type":"auth","id":1,"claims":"a","signature":"b"}"#, invalid(1, "key", "is missing")),
        (r#"{"type":"auth","id":1,"key":"a","claims":"b"}"#, invalid(1, "signature", "is missing")),
        (r#"{"type":"auth","token":"a"}"#, invalid(None, "id", "is missing")),
        (r#"{"type":"ping","n":"\ud800"}"#, invalid(None, "n", half)),
    ];
    for (frame, expected) in cases {
        assert_eq!(one(frame), *expected, "{frame}");
    }
}

#[test]
fn bounds_are_exact() {
    let publish = |id: usize| format!(r#"{{"type":"publish","id":1,"channel":"a","message_id":"{}","data":1}}"#, "x".repeat(id));
    assert!(matches!(one(&publish(255)), ClientMessage::Publish { .. }));
    assert_eq!(one(&publish(256)), invalid(1, "message_id", "is not 1 to 255 bytes"));
    // Bytes count, not characters, and they count when unescaped.
    let escaped = |count: usize| format!(r#"{{"type":"publish","id":1,"channel":"a","key":"{}","data":1}}"#, r"\u00fc".repeat(count));
    assert!(matches!(one(&escaped(127)), ClientMessage::Publish { .. }));
    assert_eq!(one(&escaped(128)), invalid(1, "key", "is not 1 to 255 bytes"));
    let ping = |bytes: usize| format!(r#"{{"type":"ping","n":"{}"}}"#, "x".repeat(bytes - 2));
    assert!(matches!(one(&ping(64)), ClientMessage::Ping { n: Some(n) } if n.len() == 64));
    assert_eq!(one(&ping(65)), invalid(None, "n", "is more than 64 bytes"));
}

#[test]
fn what_is_unknown_is_named_and_what_is_extra_is_ignored() {
    let unknown = |id, kind: &str| ClientMessage::Unknown { id, kind: kind.into() };
    assert_eq!(one(r#"{"type":"dance","id":4,"channel":7}"#), unknown(Some(4), "dance"));
    assert_eq!(one(r#"{"type":"dance","id":"x"}"#), unknown(None, "dance"));
    assert_eq!(one(r#"{"type":"Ping"}"#), unknown(None, "Ping"));
    assert_eq!(one(r#"{"type":"","id":4}"#), unknown(Some(4), ""));
    assert_eq!(one(r#"{"x":[{"type":"ping"}],"type":"pong","n":"\ud800","id":-5}"#), ClientMessage::Pong);
}

#[test]
fn of_a_repeated_name_the_last_counts() {
    assert_eq!(
        one(r#"{"type":"ping","id":1,"id":2,"type":"unsubscribe","channel":5,"channel":"a"}"#),
        ClientMessage::Unsubscribe { id: 2, channel: channel("a") }
    );
    assert_eq!(
        one(r#"{"type":"subscribe","id":1,"channel":"a","since":{"last":0,"last":3}}"#),
        ClientMessage::Subscribe { id: 1, channel: channel("a"), since: Some(Since::Last(3)) }
    );
}

#[test]
fn escapes_are_read_and_data_is_not_touched() {
    let frame = "\t{\"\\u0074ype\":\"pub\\u006cish\",\"id\":9,\"channel\":\"a\\u003ab\",\"message_id\":\"\\ud83d\\ude00\",\"data\": {\r\n \"\\u0061\" : [1.0, 1e2,\t\"\\/\"] } }\n";
    let publish = Publish {
        channel: channel("a:b"),
        message_id: Some("😀".into()),
        key: None,
        body: Body::Data(Bytes::from_static(b"{\r\n \"\\u0061\" : [1.0, 1e2,\t\"\\/\"] }")),
    };
    assert_eq!(one(frame), ClientMessage::Publish { id: 9, publish });
    assert_eq!(one(r#"{"type":"ping","n": 1.50 }"#), ClientMessage::Ping { n: Some(Bytes::from_static(b"1.50")) });
    assert_eq!(one(r#"{"type":"ping","n":null}"#), ClientMessage::Ping { n: Some(Bytes::from_static(b"null")) });
}

#[test]
fn a_foreign_epoch_never_matches() {
    for epoch in ["", "Xk3", "zzzzzzzzzzzzzz", "\\u0000"] {
        let frame = format!(r#"{{"type":"subscribe","id":1,"channel":"a","since":{{"epoch":"{epoch}","offset":3}}}}"#);
        let since = Some(Since::Position(Position { epoch: Epoch::UNKNOWN, offset: 3 }));
        assert_eq!(one(&frame), ClientMessage::Subscribe { id: 1, channel: channel("a"), since });
    }
}

#[test]
fn a_batch_is_in_order_and_its_messages_are_wrong_one_by_one() {
    assert_eq!(json::decode(b"[]").expect("nothing").len(), 0);
    let messages = json::decode(br#" [ {"type":"ping"} , {"type":"auth","id":1,"ticket":"t"}, {}, {"type":"pong"} ] "#).expect("a batch");
    let expected = [
        ClientMessage::Ping { n: None },
        ClientMessage::Auth { id: 1, credential: Credential::Ticket("t".into()) },
        invalid(None, "type", "is missing"),
        ClientMessage::Pong,
    ];
    assert_eq!(messages.as_slice(), &expected);
}
