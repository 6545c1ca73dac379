//! Seeds with bytes changed, lost, doubled and moved, for the ordinary tests that run the targets.

use proptest::prelude::*;

/// A change at some place.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Set(u8),
    Insert(u8),
    Remove(usize),
    Repeat(usize),
}

/// Any change; bytes that mean something in the format come more often.
pub(crate) fn change(telling: &[u8], repeated: std::ops::Range<usize>) -> impl Strategy<Value = Change> + use<> {
    let telling = proptest::sample::select(telling.to_vec());
    prop_oneof![
        any::<u8>().prop_map(Change::Set),
        telling.clone().prop_map(Change::Set),
        telling.prop_map(Change::Insert),
        (1..20usize).prop_map(Change::Remove),
        repeated.prop_map(Change::Repeat),
    ]
}

/// The seed after all of them.
pub(crate) fn changed(seed: &str, changes: &[(usize, Change)]) -> Vec<u8> {
    let mut bytes = seed.as_bytes().to_vec();
    for (at, change) in changes {
        let at = at % (bytes.len() + 1);
        let until = |length: usize| (at + length).min(bytes.len());
        match change {
            Change::Set(byte) if at < bytes.len() => bytes[at] = *byte,
            Change::Set(byte) | Change::Insert(byte) => bytes.insert(at, *byte),
            Change::Remove(length) => drop(bytes.drain(at..until(*length))),
            Change::Repeat(length) => {
                let part = bytes[at..until(*length)].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
    bytes
}
