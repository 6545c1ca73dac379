//! libFuzzer's door to [`wire::json`].
#![no_main]

mod wire;

libfuzzer_sys::fuzz_target!(|input: &[u8]| wire::json(input));
