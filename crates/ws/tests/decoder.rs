//! The decoder against the RFC: what is good comes out whole however the bytes are cut, what is bad is refused at once with the right code.

use proptest::prelude::*;
use tidegate_ws::{Compressor, Decoder, Deflate, Event, OpCode, Role, Violation, close_payload, header_compressed, masked};

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Everything that comes out when the bytes arrive in pieces of these sizes, in turn.
fn decode(limit: usize, deflate: bool, bytes: &[u8], pieces: &[usize]) -> (Vec<Event>, Option<Violation>) {
    let mut decoder = Decoder::new(Role::Server, limit);
    if deflate {
        let takeover = true;
        decoder.enable_deflate(Deflate {
            server_no_context_takeover: takeover,
            client_no_context_takeover: takeover,
            server_max_window_bits: 15,
            client_max_window_bits: 15,
        });
    }
    let mut events = Vec::new();
    let (mut rest, mut sizes) = (bytes, pieces.iter().copied().cycle());
    while !rest.is_empty() {
        let (mut piece, later) = rest.split_at(sizes.next().unwrap_or(rest.len()).clamp(1, rest.len()));
        rest = later;
        loop {
            match decoder.decode(&mut piece) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(violation) => return (events, Some(violation)),
            }
        }
    }
    (events, None)
}

/// A masked frame with any first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = masked(OpCode::Text, payload, KEY);
    frame[0] = first;
    frame
}

#[test]
fn violations_are_refused_with_the_right_code() {
    let mut nonminimal_16 = vec![0x81, 0x80 | 126, 0, 2];
    nonminimal_16.extend_from_slice(&[0; 6]);
    let mut nonminimal_64 = vec![0x81, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
    nonminimal_64.extend_from_slice(&[0; 4]);
    let huge = [0x82, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let negative = [0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let gigabyte = [0x82, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0];
    let table: &[(&str, Vec<u8>, u16)] = &[
        ("unmasked, judged by two bytes", vec![0x81, 0x02], 1002),
        ("reserved bit 1", frame(0xc1, b"hi"), 1002),
        ("reserved bit 2", frame(0xa1, b"hi"), 1002),
        ("reserved bit 3", frame(0x91, b"hi"), 1002),
        ("reserved data opcode", frame(0x83, b""), 1002),
        ("reserved control opcode", frame(0x8b, b""), 1002),
        ("16-bit length that fits in 7", nonminimal_16, 1002),
        ("64-bit length that fits in 16", nonminimal_64, 1002),
        ("highest bit of the length", negative.to_vec(), 1002),
        ("2^62 bytes claimed", huge.to_vec(), 1009),
        ("1 GiB claimed", gigabyte.to_vec(), 1009),
        ("one byte over the limit", frame(0x82, &[0; 1025]), 1009),
        ("ping of 126 bytes", frame(0x89, &[0; 126]), 1002),
        ("fragmented ping", frame(0x09, b""), 1002),
        ("continuation of nothing", frame(0x80, b""), 1002),
        ("message in a message", [frame(0x01, b"a"), frame(0x81, b"b")].concat(), 1002),
        ("close of one byte", frame(0x88, &[3]), 1002),
        ("close 1005", frame(0x88, &1005u16.to_be_bytes()), 1002),
        ("close 999", frame(0x88, &999u16.to_be_bytes()), 1002),
        ("close 5000", frame(0x88, &5000u16.to_be_bytes()), 1002),
        ("close reason not UTF-8", frame(0x88, &[3, 0xe8, 0xff, 0xfe]), 1007),
        ("text not UTF-8", frame(0x81, &[0xce, 0xba, 0xff]), 1007),
        ("text ends in a character", frame(0x81, &[0xce]), 1007),
        ("surrogate", frame(0x81, &[0xed, 0xa0, 0x80]), 1007),
        ("fragments over the limit", [frame(0x02, &[0; 600]), frame(0x80, &[0; 600])].concat(), 1009),
    ];
    for (name, bytes, code) in table {
        for pieces in [&[usize::MAX][..], &[1], &[3, 1, 2]] {
            let (events, violation) = decode(1024, false, bytes, pieces);
            assert_eq!(violation.map(Violation::code), Some(*code), "{name}");
            assert_eq!(events, [], "{name}");
        }
    }
}

#[test]
fn text_fails_at_the_first_byte_that_cannot_go_on() {
    // A character above U+10FFFF: its second byte tells, though the frame claims more.
    let mut bytes = frame(0x81, &[b'a', 0xf4, 0x90, 0x80, 0x80, b'b']);
    bytes.truncate(6 + 3);
    assert_eq!(decode(1024, false, &bytes, &[1]).1, Some(Violation::Utf8));
    bytes.truncate(6 + 2);
    assert_eq!(decode(1024, false, &bytes, &[1]).1, None);
}

#[test]
fn characters_may_be_cut_by_fragments() {
    let text = "κόσμε 🌊";
    let mut bytes = Vec::new();
    let last = text.len() - 1;
    for (at, byte) in text.bytes().enumerate() {
        let first = if at == 0 { 0x01 } else { 0x00 } | if at == last { 0x80 } else { 0 };
        bytes.extend(frame(first, &[byte]));
        bytes.extend(frame(0x89, b"in between"));
    }
    let (events, violation) = decode(1024, false, &bytes, &[5]);
    assert_eq!(violation, None);
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Ping(_))).count(), text.len());
    assert!(events.contains(&Event::Text(text.into())));
}

#[test]
fn the_limit_itself_is_allowed() {
    let (events, violation) = decode(1024, false, &frame(0x82, &[7; 1024]), &[100]);
    assert_eq!((events, violation), (vec![Event::Binary(vec![7; 1024].into())], None));
}

#[test]
fn an_empty_compressed_message_is_empty_either_way() {
    for payload in [&b""[..], &[0]] {
        let (events, violation) = decode(1024, true, &frame(0xc1, payload), &[1]);
        assert_eq!((events, violation), (vec![Event::Text("".into())], None));
    }
}

#[test]
fn a_bomb_is_refused_after_the_limit() {
    let zeros = vec![0; 64 << 20];
    let small = Compressor::new(15).compress(&zeros).unwrap();
    assert!(small.len() < 1_000_000);
    let mut bytes = masked(OpCode::Text, &small, KEY);
    bytes[0] = header_compressed(OpCode::Text, 0)[0];
    for pieces in [usize::MAX, 4096] {
        assert_eq!(decode(1 << 20, true, &bytes, &[pieces]).1, Some(Violation::TooBig));
    }
}

#[test]
fn an_idle_decoder_is_a_few_words() {
    assert!(size_of::<Decoder>() <= 48, "{}", size_of::<Decoder>());
}

#[test]
fn what_a_frame_still_needs_is_known_once_its_header_is() {
    let bytes = frame(0x82, &[0; 1000]);
    let mut decoder = Decoder::new(Role::Server, 1000);
    let steps: Vec<u64> = [3, 5, 100, bytes.len() - 108]
        .into_iter()
        .scan(&bytes[..], |rest, piece| {
            let (mut head, tail) = rest.split_at(piece);
            *rest = tail;
            decoder.decode(&mut head).unwrap();
            Some(decoder.remaining())
        })
        .collect();
    assert_eq!(steps, [0, 1000, 900, 0]);
}

#[test]
fn a_masked_frame_of_a_server_is_refused() {
    let mut decoder = Decoder::new(Role::Client, 1024);
    assert_eq!(decoder.decode(&mut &frame(0x81, b"hi")[..]), Err(Violation::Masked));
    assert_eq!(Decoder::new(Role::Client, 1024).decode(&mut &[0x81, 1, b'x'][..]), Ok(Some(Event::Text("x".into()))));
}

#[test]
fn empty_fragments_count_as_frames() {
    let mut decoder = Decoder::new(Role::Server, 1024);
    let bytes = [frame(0x01, b""), frame(0x00, b"").repeat(10)].concat();
    assert_eq!(decoder.decode(&mut &bytes[..]), Ok(None));
    assert_eq!(decoder.frames(), 11);
    assert!(decoder.is_assembling());
}

#[derive(Clone, Debug)]
enum Sent {
    Text(String, Vec<usize>),
    Binary(Vec<u8>, Vec<usize>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

fn sent() -> impl Strategy<Value = Sent> {
    let cuts = || prop::collection::vec(0usize..40, 0..5);
    prop_oneof![
        (any::<String>(), cuts()).prop_map(|(text, cuts)| Sent::Text(text, cuts)),
        (prop::collection::vec(any::<u8>(), 0..300), cuts()).prop_map(|(data, cuts)| Sent::Binary(data, cuts)),
        prop::collection::vec(any::<u8>(), 0..126).prop_map(Sent::Ping),
        prop::collection::vec(any::<u8>(), 0..126).prop_map(Sent::Pong),
    ]
}

fn message(opcode: u8, payload: &[u8], cuts: &[usize], compress: bool, out: &mut Vec<u8>) {
    let small = if compress { Compressor::new(15).compress(payload) } else { None };
    let (mut rest, first_bit) = (small.as_deref().unwrap_or(payload), if small.is_some() { 0x40 } else { 0 });
    let mut first = opcode | first_bit;
    for &cut in cuts {
        let (part, later) = rest.split_at(cut.min(rest.len()));
        out.extend(frame(first, part));
        (rest, first) = (later, 0);
    }
    out.extend(frame(first | 0x80, rest));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever is sent, however it is fragmented, compressed and cut by the network, the same comes out.
    #[test]
    fn what_goes_in_comes_out(messages in prop::collection::vec(sent(), 0..6), pieces in prop::collection::vec(1usize..50, 1..6), compress: bool) {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for sent in messages {
            match sent {
                Sent::Text(text, cuts) => {
                    message(1, text.as_bytes(), &cuts, compress, &mut bytes);
                    expected.push(Event::Text(text.into()));
                }
                Sent::Binary(data, cuts) => {
                    message(2, &data, &cuts, compress, &mut bytes);
                    expected.push(Event::Binary(data.into()));
                }
                Sent::Ping(data) => {
                    bytes.extend(frame(0x89, &data));
                    expected.push(Event::Ping(data.into()));
                }
                Sent::Pong(data) => {
                    bytes.extend(frame(0x8a, &data));
                    expected.push(Event::Pong(data.into()));
                }
            }
        }
        prop_assert_eq!(decode(64 * 1024, compress, &bytes, &pieces), (expected, None));
    }

    /// No bytes make it panic, and how they are cut changes nothing.
    #[test]
    fn garbage_is_judged_the_same_however_it_is_cut(mut bytes in prop::collection::vec(any::<u8>(), 0..200), pieces in prop::collection::vec(1usize..20, 1..4), deflate: bool) {
        if let Some(second) = bytes.get_mut(1) {
            *second |= 0x80;
        }
        let whole = decode(1024, deflate, &bytes, &[usize::MAX]);
        let cut = decode(1024, deflate, &bytes, &pieces);
        prop_assert_eq!(&cut.0, &whole.0);
        if deflate {
            // What does not inflate may be found not to be text first, if it comes in pieces.
            prop_assert_eq!(cut.1.is_some(), whole.1.is_some());
        } else {
            prop_assert_eq!(cut.1, whole.1);
        }
    }

    /// A close frame's reason is cut to what fits, at a character.
    #[test]
    fn close_frames_come_back(code in prop_oneof![1000u16..=1003, 3000u16..=4999], reason: String) {
        let payload = close_payload(Some(code), &reason);
        prop_assert!(payload.len() <= 125);
        let (events, violation) = decode(1024, false, &frame(0x88, &payload), &[3]);
        prop_assert_eq!(violation, None);
        match &events[..] {
            [Event::Close(Some(close))] => {
                prop_assert_eq!(close.code, code);
                prop_assert!(reason.starts_with(&*close.reason));
                prop_assert!(close.reason.len() + 3 >= reason.len().min(123));
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }
}
