//! Frames with bytes changed, lost, doubled and moved: whatever comes, there is an answer and never a panic.

use proptest::prelude::*;

#[path = "../../../../fuzz/targets/damage.rs"]
mod damage;
#[path = "../../../../fuzz/targets/wire.rs"]
mod targets;

const SEEDS: &[&str] = &[
    r#"{"type":"subscribe","id":2,"channel":"orders:42","since":{"epoch":"xk3","offset":1841}}"#,
    r#"{"type":"publish","id":9,"channel":"chat:1","message_id":"01\ud83d\ude00","key":null,"data":{"a":[1,"\\u",{}]}}"#,
    r#"[{"type":"ping","n":7},{"type":"auth","id":1,"key":"k","claims":"c","signature":"s"},{"type":"request","id":10,"method":"m","data":"\udbff\udfff"}]"#,
    r#"{"type":"welcome","protocol":1,"connection":"c","node":"n","user":null,"expires_in_ms":1,"heartbeat":{"ping_ms":1,"app_ping_ms":null,"dead_ms":1},"limits":{"message_bytes":1,"subscriptions":1,"in_flight":1},"reconnect":{"window_ms":1,"base_ms":1,"cap_ms":1}}"#,
    r#"{"type":"snapshot","channel":"px","epoch":"qa1","offset":9,"entries":[{"key":"BTC","offset":8,"data":1},{"key":"\u0041","offset":9,"deleted":true}],"more":false}"#,
    r#"{"type":"gap","channel":"a","missed":8,"from":1,"to":9,"reason":"slow","position":{"epoch":"1","offset":0}}"#,
    r#"{"type":"challenge","connection":"c","nonce":"n","audience":"a","within_ms":5,"methods":["token","\u0041"]}"#,
];

/// What tells most in the format.
const TELLING: &[u8] = br#"{}[]":,\u/dD80eE+-.123nulltrfas"#;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn changed_frames_never_panic(
        seed in proptest::sample::select(SEEDS),
        changes in proptest::collection::vec((any::<usize>(), damage::change(TELLING, 1..20)), 1..6),
    ) {
        targets::json(&damage::changed(seed, &changes));
    }

    #[test]
    fn arbitrary_bytes_never_panic(frame in proptest::collection::vec(any::<u8>(), 0..64)) {
        targets::json(&frame);
    }
}
