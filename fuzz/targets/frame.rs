//! libFuzzer's door to [`ws::frame`].
#![no_main]

#[allow(dead_code, reason = "the other targets' bodies")]
mod ws;

libfuzzer_sys::fuzz_target!(|input: &[u8]| ws::frame(input));
