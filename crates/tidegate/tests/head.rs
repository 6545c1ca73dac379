//! The listener's own reading of a request's head, on damaged requests: the body of its fuzz target, on any machine.

#![allow(clippy::unwrap_used, reason = "a test")]

use proptest::prelude::*;

#[path = "../../../fuzz/targets/damage.rs"]
mod damage;
#[path = "../../../fuzz/targets/listener.rs"]
mod targets;

const SEEDS: [&str; 3] = [
    "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nEmpty:\r\nX: 1\r\n\r\nearly",
    "GET /ws?ticket=a HTTP/1.1\nupgrade: websocket\nx: 1\nx: 2\n\n",
    "POST /ws HTTP/1.1\r\nUpgrade: h2c\r\nContent-Length: 4\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\nbody",
];

/// What tells most in the format.
const TELLING: &[u8] = b"\r\n :\t\0/?%HTTP1.0GETUpgrade";

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_is_an_upgrade_or_left_to_http(
        seed in proptest::sample::select(SEEDS.to_vec()),
        changes in proptest::collection::vec((any::<usize>(), damage::change(TELLING, 1..40)), 0..6),
    ) {
        targets::upgrade(&damage::changed(seed, &changes));
    }
}
