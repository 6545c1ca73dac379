//! The case categories of the Autobahn suite as ordinary tests, for machines that can't run it: what is sent, what must come out.

use tidegate_ws::{Compressor, Decoder, Deflate, Event, OpCode, Role, close_payload, masked};

const LIMIT: usize = 16 << 20;

/// Every event, and the close code of the violation that ended it. In pieces of `piece` bytes.
fn read(bytes: &[u8], piece: usize, deflate: Option<Deflate>) -> (Vec<Event>, Option<u16>) {
    let mut decoder = Decoder::new(Role::Server, LIMIT);
    if let Some(deflate) = deflate {
        decoder.enable_deflate(deflate);
    }
    let mut events = Vec::new();
    for mut piece in bytes.chunks(piece) {
        loop {
            match decoder.decode(&mut piece) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(violation) => return (events, Some(violation.code())),
            }
        }
    }
    (events, None)
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = masked(OpCode::Text, payload, [0xa1, 0xb2, 0xc3, 0xd4]);
    frame[0] = first;
    frame
}

/// Whatever the network does to the bytes, this comes out.
fn check(name: &str, frames: &[Vec<u8>], expected: &[Event], code: Option<u16>) {
    let bytes = frames.concat();
    for piece in [usize::MAX, 997, 1] {
        if bytes.len() / piece.min(bytes.len()) > 100_000 {
            continue;
        }
        let (events, violation) = read(&bytes, piece, None);
        assert_eq!(violation, code, "{name}");
        assert!(events == expected, "{name}: {} events", events.len());
    }
}

fn text(data: &str) -> Event {
    Event::Text(data.to_owned().into())
}

fn binary(data: &[u8]) -> Event {
    Event::Binary(data.to_vec().into())
}

#[test]
fn framing_of_every_length_form() {
    for size in [0usize, 125, 126, 127, 128, 65_535, 65_536] {
        let data = "*".repeat(size);
        check("text", &[frame(0x81, data.as_bytes())], &[text(&data)], None);
        check("binary", &[frame(0x82, data.as_bytes())], &[binary(data.as_bytes())], None);
    }
}

#[test]
fn pings_and_pongs() {
    let payload = |size| vec![0xfe; size];
    for size in [0, 5, 125] {
        check("ping", &[frame(0x89, &payload(size))], &[Event::Ping(payload(size).into())], None);
        check("unsolicited pong", &[frame(0x8a, &payload(size))], &[Event::Pong(payload(size).into())], None);
    }
    check("ping of 126 bytes", &[frame(0x89, &payload(126))], &[], Some(1002));
    let ten: Vec<_> = (0..10).map(|at| frame(0x89, &[at])).collect();
    let expected: Vec<_> = (0..10).map(|at| Event::Ping(vec![at].into())).collect();
    check("ten pings", &ten, &expected, None);
}

#[test]
fn reserved_bits_after_good_messages() {
    for bits in 1..=7u8 {
        for opcode in [1, 2, 8, 9, 10] {
            let bad = frame(0x80 | bits << 4 | opcode, b"");
            check("reserved bits", &[frame(0x81, b"before"), bad, frame(0x89, b"")], &[text("before")], Some(1002));
        }
    }
}

#[test]
fn reserved_opcodes() {
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        for payload in [&b""[..], b"payload"] {
            check(
                "reserved opcode",
                &[frame(0x81, b"before"), frame(0x80 | opcode, payload), frame(0x89, b"")],
                &[text("before")],
                Some(1002),
            );
        }
    }
}

#[test]
fn fragmentation() {
    let ping = Event::Ping("ping".into());
    check("fragmented ping", &[frame(0x09, b"a"), frame(0x80, b"b")], &[], Some(1002));
    check("fragmented pong", &[frame(0x0a, b"a"), frame(0x80, b"b")], &[], Some(1002));
    check("two fragments", &[frame(0x01, b"a"), frame(0x80, b"b")], &[text("ab")], None);
    check("a ping between", &[frame(0x01, b"a"), frame(0x89, b"ping"), frame(0x80, b"b")], &[ping, text("ab")], None);
    check("a continuation first", &[frame(0x80, b"a"), frame(0x81, b"b")], &[], Some(1002));
    check("an unfinished continuation first", &[frame(0x00, b"a"), frame(0x80, b"b")], &[], Some(1002));
    check("a continuation after the end", &[frame(0x01, b"a"), frame(0x80, b"b"), frame(0x80, b"c")], &[text("ab")], Some(1002));
    check("a message in a message", &[frame(0x01, b"a"), frame(0x81, b"b")], &[], Some(1002));
    check("empty fragments", &[frame(0x01, b""), frame(0x00, b""), frame(0x80, b"")], &[text("")], None);
}

#[test]
fn utf8_good() {
    let nonchars = "\u{ffff}\u{10ffff}\u{1fffe}\u{fdd0}\u{0}\u{7f}\u{80}\u{7ff}\u{800}\u{d7ff}\u{e000}\u{fffd}\u{10000}";
    for good in ["Hello-µ@ßöäüàá-UTF-8!!", "κόσμε", "", nonchars] {
        check(good, &[frame(0x81, good.as_bytes())], &[text(good)], None);
        let mut bytes: Vec<_> = good.bytes().map(|byte| frame(0x00, &[byte])).collect();
        bytes.insert(0, frame(0x01, b""));
        bytes.push(frame(0x80, b""));
        check(good, &bytes, &[text(good)], None);
    }
}

#[test]
fn utf8_bad() {
    let bad: [&[u8]; 24] = [
        b"\x80",
        b"\xbf",
        b"\x80\xbf\x80",
        b"\xc0 ",
        b"\xe0 ",
        b"\xf0 ",
        b"\xf8 ",
        b"\xfc ",
        b"\xc3",
        b"\xe0\x80",
        b"\xef\xbf",
        b"\xf0\x80\x80",
        b"\xf7\xbf\xbf",
        b"\xfe",
        b"\xff",
        b"\xfe\xfe\xff\xff",
        b"\xc0\xaf",
        b"\xe0\x80\xaf",
        b"\xf0\x80\x80\xaf",
        b"\xc1\xbf",
        b"\xe0\x9f\xbf",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
        b"\xf4\x90\x80\x80",
    ];
    for bytes in bad {
        check("at once", &[frame(0x81, bytes)], &[], Some(1007));
        let long = [&[b'x'; 300][..], bytes].concat();
        check("behind good text", &[frame(0x81, &long)], &[], Some(1007));
        let mut parts: Vec<_> = bytes.iter().map(|&byte| frame(0x00, &[byte])).collect();
        parts.insert(0, frame(0x01, "κόσμε".as_bytes()));
        parts.push(frame(0x80, b""));
        check("byte by byte", &parts, &[], Some(1007));
    }
}

#[test]
fn closing() {
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
        let (events, violation) = read(&frame(0x88, &close_payload(Some(code), "reason")), 3, None);
        assert!(matches!(&events[..], [Event::Close(Some(close))] if close.code == code && &*close.reason == "reason"), "{code}");
        assert_eq!(violation, None);
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        check("code that must not be sent", &[frame(0x88, &close_payload(Some(code), ""))], &[], Some(1002));
    }
    check("empty", &[frame(0x88, b"")], &[Event::Close(None)], None);
    check("one byte", &[frame(0x88, b"\x03")], &[], Some(1002));
    check("126 bytes", &[frame(0x88, &[3; 126])], &[], Some(1002));
    check("fragmented", &[frame(0x08, b"")], &[], Some(1002));
}

#[test]
fn megabytes_in_fragments_of_64_bytes() {
    let data = "BAsd7&jh23".repeat(400_000);
    let pieces: Vec<_> = data.as_bytes().chunks(64).collect();
    let frames: Vec<_> = pieces
        .iter()
        .enumerate()
        .map(|(at, piece)| frame(u8::from(at == 0) | if at + 1 == pieces.len() { 0x80 } else { 0 }, piece))
        .collect();
    check("4 MB", &frames, &[text(&data)], None);
}

#[test]
fn compression_with_every_window_and_fragments() {
    for takeover in [false, true] {
        for bits in 8..=15 {
            let deflate = Deflate {
                server_no_context_takeover: !takeover,
                client_no_context_takeover: !takeover,
                server_max_window_bits: bits,
                client_max_window_bits: bits,
            };
            let mut compressor = Compressor::new(bits);
            let (mut bytes, mut expected) = (Vec::new(), Vec::new());
            for size in [16usize, 64, 256, 1024, 4096, 8192, 32_768, 131_072] {
                let data: String = "{\"a\":[1,2,3],\"text\":\"κόσμε\"} ".chars().cycle().take(size).collect();
                let small = compressor.compress(data.as_bytes());
                let (first, payload) = small.as_deref().map_or((0x01, data.as_bytes()), |small| (0x41, small));
                let (one, two) = payload.split_at(payload.len() / 2);
                bytes.extend([frame(first, one), frame(0x89, b""), frame(0x80, two)].concat());
                expected.extend([Event::Ping("".into()), text(&data)]);
            }
            for piece in [usize::MAX, 7] {
                assert!(read(&bytes, piece, Some(deflate)) == (expected.clone(), None), "{bits} {takeover}");
            }
        }
    }
}

#[test]
fn the_examples_of_rfc_7692() {
    let takeover = Deflate {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        server_max_window_bits: 15,
        client_max_window_bits: 15,
    };
    let hello = [frame(0xc1, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00])];
    let fragments = [frame(0x41, &[0xf2, 0x48, 0xcd]), frame(0x80, &[0xc9, 0xc9, 0x07, 0x00])];
    let shared = [hello[0].clone(), frame(0xc1, &[0xf2, 0x00, 0x11, 0x00, 0x00])];
    let stored = [frame(0xc1, &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00])];
    let last = [frame(0xc1, &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00])];
    let two_blocks = [frame(0xc1, &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00])];
    for (frames, count) in [(&hello[..], 1), (&fragments, 1), (&shared, 2), (&stored, 1), (&last, 1), (&two_blocks, 1)] {
        assert_eq!(read(&frames.concat(), 4, Some(takeover)), (vec![text("Hello"); count], None));
    }
}

#[test]
fn a_block_that_breaks_off_is_refused() {
    let fresh = Deflate {
        server_no_context_takeover: true,
        client_no_context_takeover: true,
        server_max_window_bits: 15,
        client_max_window_bits: 15,
    };
    let stored_too_short = frame(0xc1, &[0x00, 0x15, 0x00, 0xea, 0xff, 0x48, 0x65, 0x6c]);
    assert_eq!(read(&stored_too_short, usize::MAX, Some(fresh)), (vec![], Some(1007)));
    let reserved_block_type = frame(0xc1, &[0xff]);
    assert_eq!(read(&reserved_block_type, usize::MAX, Some(fresh)), (vec![], Some(1007)));
}
