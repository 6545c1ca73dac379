//! Compressed messages: those of a zlib stream that keeps its window come out whole, and what breaks off or is no block does not.
#![allow(clippy::unwrap_used, reason = "a test")]

use flate2::{Compress, Compression, FlushCompress};
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use tidegate_ws::{Decoder, Deflate, Event, OpCode, Role, Violation, header, header_compressed};

#[path = "support/puff.rs"]
mod puff;

const LIMIT: usize = 1 << 20;
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// "Hello" in a block marked as the last, and in one that is not (RFC 7692, 7.2.3).
const LAST: &[u8] = &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
const NOT_LAST: &[u8] = &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
/// The same as a match of what came before.
const AGAIN: &[u8] = &[0xf2, 0x00, 0x11, 0x00, 0x00];

fn client(takeover: bool) -> Decoder {
    let mut decoder = Decoder::new(Role::Client, LIMIT);
    decoder.enable_deflate(Deflate {
        server_no_context_takeover: !takeover,
        client_no_context_takeover: true,
        server_max_window_bits: 15,
        client_max_window_bits: 15,
    });
    decoder
}

/// A server's message of these payloads as fragments.
fn frames(fragments: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (at, payload) in fragments.iter().enumerate() {
        let opcode = if at == 0 { OpCode::Binary } else { OpCode::Continuation };
        let start = bytes.len();
        let header = if at == 0 { header_compressed(opcode, payload.len()) } else { header(opcode, payload.len()) };
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(payload);
        if at + 1 < fragments.len() {
            bytes[start] &= 0x7f;
        }
    }
    bytes
}

/// What a message means behind those that the decoder has read.
fn read(decoder: &mut Decoder, bytes: &[u8], piece: usize) -> Result<Vec<u8>, Violation> {
    for mut piece in bytes.chunks(piece) {
        match decoder.decode(&mut piece)? {
            Some(Event::Binary(data)) => return Ok(data.to_vec()),
            None => {}
            other => panic!("{other:?}"),
        }
    }
    panic!("no message")
}

fn inflate(decoder: &mut Decoder, payload: &[u8]) -> Result<Vec<u8>, Violation> {
    read(decoder, &frames(&[payload]), usize::MAX)
}

#[test]
fn a_block_marked_as_the_last_need_not_be() {
    let good: [(&str, &[&[u8]], &str); 7] = [
        ("with the empty block behind it", &[LAST, &[0]], "Hello"),
        ("without it, as some senders have it", &[LAST], "Hello"),
        ("another of its kind", &[LAST, LAST, &[0]], "HelloHello"),
        ("one of the other kind", &[LAST, NOT_LAST], "HelloHello"),
        ("a match of what stands in the one before", &[LAST, AGAIN], "HelloHello"),
        ("an empty stored one, marked itself", &[&NOT_LAST[..6], &[4]], "Hello"),
        ("none but empty ones", &[&[3, 0].repeat(17)], ""),
    ];
    for takeover in [false, true] {
        for (what, blocks, expected) in good {
            let mut decoder = client(takeover);
            // The next message begins anew, with the window or without.
            for _ in 0..2 {
                assert_eq!(inflate(&mut decoder, &blocks.concat()), Ok(expected.into()), "{what}");
                assert_eq!(read(&mut client(takeover), &frames(blocks), 1), Ok(expected.into()), "{what}, in pieces");
            }
        }
        let bad: [(&str, &[&[u8]]); 8] = [
            ("zeros and ones", &[LAST, &[0, 0xff]]),
            ("a reserved block type", &[LAST, &[0xff]]),
            ("the empty block whole", &[LAST, &[0, 0, 0, 0xff, 0xff]]),
            ("half of another", &[LAST, &NOT_LAST[..3]]),
            ("too many", &[&[3, 0].repeat(18)]),
            ("its own end missing", &[&LAST[..6]]),
            ("the end of the other missing", &[&NOT_LAST[..5]]),
            ("a block that ends in what is put behind it", &[&[0xfb, 0x7e, 0x41, 0x71]]),
        ];
        for (what, blocks) in bad {
            assert_eq!(inflate(&mut client(takeover), &blocks.concat()), Err(Violation::Deflate), "{what}");
            assert_eq!(read(&mut client(takeover), &frames(blocks), 1), Err(Violation::Deflate), "{what}, in pieces");
        }
    }
}

#[test]
fn a_window_outlives_a_block_marked_as_the_last() {
    let mut decoder = client(true);
    for payload in [LAST, AGAIN, &[LAST, &[0]].concat(), AGAIN] {
        assert_eq!(inflate(&mut decoder, payload), Ok("Hello".into()));
    }
    assert_eq!(inflate(&mut client(false), AGAIN), Err(Violation::Deflate), "nothing came before");
}

/// With a window that is kept, what the tail was taken for came out as content.
#[test]
fn stored_bytes_that_break_off_are_refused() {
    let whole = [&[0x00, 0x15, 0x00, 0xea, 0xff][..], b"twenty-one bytes long", &[0]].concat();
    for takeover in [false, true] {
        for cut in 1..=whole.len() {
            let message = inflate(&mut client(takeover), &whole[..cut]);
            let expected = match cut {
                1 => Ok(vec![]),
                27 => Ok(b"twenty-one bytes long".to_vec()),
                _ => Err(Violation::Deflate),
            };
            assert_eq!(message, expected, "{cut} bytes, takeover {takeover}");
        }
    }
}

/// A sender with zlib's stream, which keeps its window.
struct Sender {
    stream: Compress,
    before: Vec<u8>,
}

impl Sender {
    fn new(level: u32, bits: u8) -> Self {
        Self { stream: Compress::new_with_window_bits(Compression::new(level), false, bits), before: Vec::new() }
    }

    /// A message in blocks of these parts. The end of a stream is followed by a new one with the same window.
    fn message(&mut self, parts: &[&[u8]], last: bool) -> Vec<u8> {
        let mut payload = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            let finish = last && at + 1 == parts.len();
            self.push(part, if finish { FlushCompress::Finish } else { FlushCompress::Sync }, &mut payload);
            self.before.extend_from_slice(part);
            if finish {
                self.stream.reset();
                self.stream.set_dictionary(&self.before[self.before.len().saturating_sub(32_768)..]).unwrap();
                payload.push(0);
            }
        }
        if payload.is_empty() {
            // zlib flushes nothing twice.
            payload.push(0);
        } else if !last {
            assert!(payload.ends_with(&TAIL));
            payload.truncate(payload.len() - TAIL.len());
        }
        payload
    }

    fn push(&mut self, mut part: &[u8], flush: FlushCompress, payload: &mut Vec<u8>) {
        loop {
            payload.reserve(part.len() + 64);
            let read = self.stream.total_in();
            self.stream.compress_vec(part, payload, flush).unwrap();
            part = &part[(self.stream.total_in() - read) as usize..];
            if part.is_empty() && payload.len() < payload.capacity() {
                return;
            }
        }
    }

    fn window(&self) -> &[u8] {
        &self.before[self.before.len().saturating_sub(32_768)..]
    }
}

fn random(seed: u8) -> TestRng {
    TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32])
}

fn below(random: &mut TestRng, bound: usize) -> usize {
    random.next_u32() as usize % bound
}

/// Some words that come back, some that don't.
fn words(random: &mut TestRng, count: usize) -> Vec<u8> {
    let mut text = Vec::new();
    for _ in 0..count {
        let word = random.next_u32();
        if word.is_multiple_of(7) { text.extend(word.to_le_bytes()) } else { text.extend(format!("word-{} ", word % 97).bytes()) }
    }
    text
}

/// Cut in up to four.
fn parts<'a>(random: &mut TestRng, mut rest: &'a [u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    for _ in 0..below(random, 4) {
        let (part, later) = rest.split_at(below(random, rest.len() + 1));
        parts.push(part);
        rest = later;
    }
    parts.push(rest);
    parts
}

/// Levels, windows, blocks, fragments and pieces as a seed has them: what zlib sends, the reference reads, and the decoder too.
#[test]
fn streams_of_a_foreign_sender_come_out() {
    for seed in 0..60 {
        let mut random = random(seed);
        let level = [0, 2, 3, 4, 5, 6, 7, 8, 9][below(&mut random, 9)];
        let mut sender = Sender::new(level, 9 + below(&mut random, 7) as u8);
        let mut decoder = client(true);
        for number in 0..12 {
            let size = [0, 1, 10, 100, 4000][below(&mut random, 5)];
            let data = words(&mut random, size);
            let before = sender.window().to_vec();
            let last = level > 0 && random.next_u32().is_multiple_of(4);
            let payload = sender.message(&parts(&mut random, &data), last);
            let what = format!("seed {seed}, message {number}, level {level}");
            assert!(puff::message(&payload, &before).is_some_and(|(plain, _)| plain == data), "{what}: the reference");
            let bytes = frames(&parts(&mut random, &payload));
            let piece = 1 + below(&mut random, 3000);
            assert!(read(&mut decoder, &bytes, piece).as_ref() == Ok(&data), "{what}: the decoder");
        }
    }
}

/// Each message of a stream, cut at each of its bytes: the decoder takes what the reference does, and nothing else.
#[test]
fn streams_that_break_off_anywhere_are_judged_like_the_reference() {
    for seed in 0..12 {
        let mut random = random(seed);
        let mut sender = Sender::new([0, 2, 6, 9][below(&mut random, 4)], 15);
        let mut sent: Vec<Vec<u8>> = Vec::new();
        for number in 0..4 {
            let data = words(&mut random, 12);
            let before = sender.window().to_vec();
            let payload = sender.message(&parts(&mut random, &data), number == 2);
            for cut in 0..=payload.len() {
                let mut decoder = client(true);
                for earlier in &sent {
                    inflate(&mut decoder, earlier).unwrap();
                }
                let expected = puff::message(&payload[..cut], &before).map(|(plain, _)| plain);
                let message = inflate(&mut decoder, &payload[..cut]).ok();
                assert_eq!(message, expected, "seed {seed}, message {number}, {cut} of {} bytes", payload.len());
            }
            sent.push(payload);
        }
    }
}
