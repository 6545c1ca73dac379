//! What a frame of 128 bytes costs: `cargo test --release -p tidegate-ws --test cost -- --ignored --nocapture`.
#![allow(clippy::disallowed_methods, reason = "a measurement needs a clock")]

use std::hint::black_box;
use std::time::Instant;

use tidegate_ws::{Decoder, OpCode, Role, header, masked};

const ROUNDS: u32 = 2_000;

#[test]
#[ignore = "long: a measurement, of use in a release build only"]
fn of_128_bytes() {
    const FRAMES: usize = 400;
    let bytes = masked(OpCode::Text, &[b'x'; 128], [1, 2, 3, 4]).repeat(FRAMES);
    let mut decoder = Decoder::new(Role::Server, 64 * 1024);
    let mut events = 0;
    let started = Instant::now();
    for _ in 0..ROUNDS {
        let mut rest = black_box(&bytes[..]);
        while let Ok(Some(event)) = decoder.decode(&mut rest) {
            black_box(event);
            events += 1;
        }
    }
    let decoding = started.elapsed() / events;
    assert_eq!(events as usize, ROUNDS as usize * FRAMES);

    let started = Instant::now();
    for _ in 0..events {
        let mut frame = Vec::with_capacity(132);
        frame.extend_from_slice(&header(black_box(OpCode::Text), 128));
        frame.extend_from_slice(black_box(&bytes[8..136]));
        black_box(frame);
    }
    println!("decode {decoding:?}, encode {:?} a frame of 128 bytes", started.elapsed() / events);
}
