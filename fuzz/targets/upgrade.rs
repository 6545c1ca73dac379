//! libFuzzer's door to [`listener::upgrade`].
#![no_main]

mod listener;

libfuzzer_sys::fuzz_target!(|input: &[u8]| listener::upgrade(input));
