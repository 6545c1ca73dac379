//! libFuzzer's door to [`ws::handshake`].
#![no_main]

#[allow(dead_code, reason = "the bodies of the other targets")]
mod ws;

libfuzzer_sys::fuzz_target!(|input: &[u8]| ws::handshake(input));
