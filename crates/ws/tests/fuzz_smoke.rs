//! The fuzz targets for a few seconds on any machine: seeds, cut, joined and damaged by a seeded generator.
#![allow(clippy::disallowed_methods, reason = "how long it runs is bounded by a clock")]

use std::time::{Duration, Instant};

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use tidegate_ws::{Compressor, OpCode, close_payload, masked};

#[path = "../../../fuzz/targets/ws.rs"]
mod targets;

const EACH: Duration = Duration::from_secs(4);
/// And at least so many inputs, however slow the machine is.
const RUNS: u32 = 1001;

#[test]
fn frames_of_any_bytes() {
    let mut all = Vec::new();
    for (first, payload) in [
        (0x81, "héllo 🌊".as_bytes()),
        (0x01, b"par"),
        (0x80, b"t"),
        (0x82, &[7; 300]),
        (0x89, b"?"),
        (0x8a, b""),
        (0x88, &close_payload(Some(1000), "bye")),
    ] {
        let mut frame = masked(OpCode::Text, payload, [1, 2, 3, 4]);
        frame[0] = first;
        all.push([&[7][..], &frame].concat());
    }
    mutate(&all, targets::frame);
}

#[test]
fn compressed_messages_of_any_bytes() {
    let text = "the same again and ".repeat(30);
    let small = Compressor::new(15).compress(text.as_bytes()).unwrap();
    let bomb = Compressor::new(15).compress(&[0; 100_000]).unwrap();
    let seeds = [
        [&[0][..], &small].concat(),
        [&[255][..], &bomb].concat(),
        vec![9, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 7, 0],
        vec![9, 0xf3, 0x48, 0xcd, 0xc9, 0xc9, 7, 0, 0],
        vec![3, 0],
        vec![10, 0xfb, 0x7e, 0x41, 0x71],
        vec![1, 0, 5, 0, 0xfa, 0xff, b'H', b'e', b'l', b'l', b'o', 0],
    ];
    mutate(&seeds, targets::inflate);
}

#[test]
fn handshakes_of_any_bytes() {
    let seeds = [
        "GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n",
        "permessage-deflate; server_max_window_bits=\"10\"; client_max_window_bits, permessage-deflate; client_no_context_takeover",
    ];
    mutate(&seeds.map(|seed| seed.as_bytes().to_vec()), targets::handshake);
}

/// Gives what is not found interesting too: there is no coverage to go by, only speed.
fn mutate(seeds: &[Vec<u8>], target: impl Fn(&[u8])) {
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let started = Instant::now();
    let mut runs = 0;
    seeds.iter().for_each(|seed| target(seed));
    while started.elapsed() < EACH || runs < RUNS {
        let mut input = Vec::new();
        for _ in 0..=random.next_u32() % 4 {
            let mut piece = seeds[random.next_u32() as usize % seeds.len()].clone();
            if !input.is_empty() {
                piece.remove(0);
            }
            input.extend(piece);
        }
        for _ in 0..random.next_u32() % 6 {
            let at = random.next_u32() as usize % input.len();
            match random.next_u32() % 5 {
                0 => input[at] = random.next_u32() as u8,
                1 => input[at] ^= 1 << (random.next_u32() % 8),
                2 => input.insert(at, random.next_u32() as u8),
                3 => input.truncate(at.max(1)),
                _ => drop(input.drain(at..(at + 3).min(input.len()).max(at))),
            }
            if input.is_empty() {
                break;
            }
        }
        target(&input);
        runs += 1;
    }
}
