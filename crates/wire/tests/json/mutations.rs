//! Frames with bytes changed, lost, doubled and moved: whatever comes, there is an answer and never a panic.

use proptest::prelude::*;
use tidegate_core::message::ClientMessage;
use tidegate_wire::json::{self, FromServer};

const SEEDS: &[&str] = &[
    r#"{"type":"subscribe","id":2,"channel":"orders:42","since":{"epoch":"xk3","offset":1841}}"#,
    r#"{"type":"publish","id":9,"channel":"chat:1","message_id":"01\ud83d\ude00","key":null,"data":{"a":[1,"\\u",{}]}}"#,
    r#"[{"type":"ping","n":7},{"type":"auth","id":1,"key":"k","claims":"c","signature":"s"},{"type":"request","id":10,"method":"m","data":"\udbff\udfff"}]"#,
    r#"{"type":"welcome","protocol":1,"connection":"c","node":"n","user":null,"expires_in_ms":1,"heartbeat":{"ping_ms":1,"app_ping_ms":null,"dead_ms":1},"limits":{"message_bytes":1,"subscriptions":1,"in_flight":1},"reconnect":{"window_ms":1,"base_ms":1,"cap_ms":1}}"#,
    r#"{"type":"snapshot","channel":"px","epoch":"qa1","offset":9,"entries":[{"key":"BTC","offset":8,"data":1},{"key":"\u0041","offset":9,"deleted":true}],"more":false}"#,
    r#"{"type":"gap","channel":"a","missed":8,"from":1,"to":9,"reason":"slow","position":{"epoch":"1","offset":0}}"#,
    r#"{"type":"challenge","connection":"c","nonce":"n","audience":"a","within_ms":5,"methods":["token","\u0041"]}"#,
];

#[derive(Clone, Debug)]
enum Change {
    Set(u8),
    Insert(u8),
    Remove(usize),
    Repeat(usize),
}

fn change() -> impl Strategy<Value = Change> {
    let telling = proptest::sample::select(br#"{}[]":,\u/dD80eE+-.123nulltrfas"#.to_vec());
    prop_oneof![
        any::<u8>().prop_map(Change::Set),
        telling.clone().prop_map(Change::Set),
        telling.prop_map(Change::Insert),
        (1..20usize).prop_map(Change::Remove),
        (1..20usize).prop_map(Change::Repeat),
    ]
}

fn changed(seed: &str, changes: &[(usize, Change)]) -> Vec<u8> {
    let mut frame = seed.as_bytes().to_vec();
    for (at, change) in changes {
        let at = at % (frame.len() + 1);
        let until = |length: usize| (at + length).min(frame.len());
        match change {
            Change::Set(byte) if at < frame.len() => frame[at] = *byte,
            Change::Set(byte) | Change::Insert(byte) => frame.insert(at, *byte),
            Change::Remove(length) => drop(frame.drain(at..until(*length))),
            Change::Repeat(length) => {
                let part = frame[at..until(*length)].to_vec();
                frame.splice(at..at, part);
            }
        }
    }
    frame
}

/// What is understood can be said again and is then understood alike.
fn check(frame: &[u8]) {
    let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(frame).is_ok();
    if let Ok(messages) = json::decode(frame) {
        assert!(is_json, "{}", String::from_utf8_lossy(frame));
        for message in &messages {
            let mut out = Vec::new();
            match json::encode_client(message, &mut out) {
                Ok(()) => assert_eq!(json::decode(&out).as_deref(), Ok(std::slice::from_ref(message))),
                Err(_) => assert!(matches!(message, ClientMessage::Invalid { .. })),
            }
        }
    }
    if let Ok(messages) = json::decode_server(frame) {
        assert!(is_json, "{}", String::from_utf8_lossy(frame));
        for message in messages.into_iter().flatten() {
            if let FromServer::Publication(publication) = message {
                let encoded = json::encode_publication(&publication);
                let again = json::decode_server(&encoded).expect("our own frame").remove(0).expect("our own message");
                assert!(matches!(again, FromServer::Publication(again) if again == publication));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn changed_frames_never_panic(
        seed in proptest::sample::select(SEEDS),
        changes in proptest::collection::vec((any::<usize>(), change()), 1..6),
    ) {
        check(&changed(seed, &changes));
    }

    #[test]
    fn arbitrary_bytes_never_panic(frame in proptest::collection::vec(any::<u8>(), 0..64)) {
        check(&frame);
    }
}
