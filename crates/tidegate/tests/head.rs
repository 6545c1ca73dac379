//! The listener's own reading of a request's head, on damaged requests: the body of its fuzz target, on any machine.

#![allow(clippy::unwrap_used, reason = "a test")]

use proptest::prelude::*;

#[path = "../../../fuzz/targets/listener.rs"]
mod targets;

const SEEDS: [&str; 3] = [
    "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nEmpty:\r\nX: 1\r\n\r\nearly",
    "GET /ws?ticket=a HTTP/1.1\nupgrade: websocket\nx: 1\nx: 2\n\n",
    "POST /ws HTTP/1.1\r\nUpgrade: h2c\r\nContent-Length: 4\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\nbody",
];

#[derive(Clone, Debug)]
enum Change {
    Set(u8),
    Insert(u8),
    Remove(usize),
    Repeat(usize),
}

fn change() -> impl Strategy<Value = Change> {
    let telling = proptest::sample::select(b"\r\n :\t\0/?%HTTP1.0GETUpgrade".to_vec());
    prop_oneof![
        any::<u8>().prop_map(Change::Set),
        telling.prop_map(Change::Insert),
        (1..20usize).prop_map(Change::Remove),
        (1..40usize).prop_map(Change::Repeat)
    ]
}

fn changed(seed: &str, changes: &[(usize, Change)]) -> Vec<u8> {
    let mut head = seed.as_bytes().to_vec();
    for (at, change) in changes {
        let at = at % (head.len() + 1);
        let until = |length: usize| (at + length).min(head.len());
        match change {
            Change::Set(byte) if at < head.len() => head[at] = *byte,
            Change::Set(byte) | Change::Insert(byte) => head.insert(at, *byte),
            Change::Remove(length) => drop(head.drain(at..until(*length))),
            Change::Repeat(length) => {
                let part = head[at..until(*length)].to_vec();
                head.splice(at..at, part);
            }
        }
    }
    head
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_is_an_upgrade_or_left_to_http(
        seed in proptest::sample::select(SEEDS.to_vec()),
        changes in proptest::collection::vec((any::<usize>(), change()), 0..6),
    ) {
        targets::upgrade(&changed(seed, &changes));
    }
}
