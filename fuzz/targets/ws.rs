//! What must hold for any bytes: the bodies of the fuzz targets of `tidegate-ws`, which an ordinary test runs too.

use tidegate_ws::{Compressor, Decoder, Deflate, Event, Role, Violation, accept_offer, check_answer, check_request, check_response};

#[path = "../../crates/ws/tests/support/head.rs"]
mod head;
#[path = "../../crates/ws/tests/support/model.rs"]
mod model;
#[path = "../../crates/ws/tests/support/puff.rs"]
mod puff;

const LIMIT: usize = 4096;

/// What a sender of compressed messages cuts off (RFC 7692, 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Frames: the first byte says how the rest is cut. However that is, the events are those of the reference decoder.
pub(crate) fn frame(input: &[u8]) {
    let Some((&cut, bytes)) = input.split_first() else { return };
    let expected = model::read(bytes, LIMIT);
    let mut decoder = Decoder::new(Role::Server, LIMIT);
    assert_eq!(decode(&mut decoder, bytes, usize::from(cut) + 1), expected);
    let mut client = Decoder::new(Role::Client, LIMIT);
    decode(&mut client, bytes, usize::from(cut) + 1);
}

/// Compressed messages: nothing is larger than the limit, and what comes out is what the reference inflater says.
pub(crate) fn inflate(input: &[u8]) {
    let Some((&cut, payload)) = input.split_first() else { return };
    let deflate = Deflate {
        server_no_context_takeover: cut & 1 == 0,
        client_no_context_takeover: true,
        server_max_window_bits: 15,
        client_max_window_bits: 15,
    };
    let mut decoder = Decoder::new(Role::Client, LIMIT);
    decoder.enable_deflate(deflate);
    let mut bytes = tidegate_ws::header_compressed(tidegate_ws::OpCode::Binary, payload.len()).to_vec();
    bytes.extend_from_slice(payload);
    let (events, violation) = decode(&mut decoder, &bytes, usize::from(cut) + 1);
    match (&events[..], violation) {
        ([Event::Binary(data)], None) => {
            assert!(data.len() <= LIMIT);
            // A block that breaks off can end by chance in what is put behind it: there the reference has nothing to say.
            if let Some((reference, _)) = puff::inflate(&[payload, &TAIL].concat()) {
                assert_eq!(reference, data.to_vec());
            }
            let small = Compressor::new(9 + cut % 7).compress(data);
            assert_eq!(
                small.map_or_else(
                    || data.to_vec(),
                    |small| puff::inflate(&[&small[..], &TAIL].concat()).map_or_else(Vec::new, |(data, _)| data)
                ),
                data.to_vec()
            );
        }
        ([], Some(violation)) => assert!(matches!(violation, Violation::Deflate | Violation::TooBig)),
        other => panic!("{other:?}"),
    }
}

/// Heads of requests and answers, and the negotiation of extensions: judged without a panic, and what is answered can be read.
pub(crate) fn handshake(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Some((agreed, answer)) = accept_offer([&*text]) {
        assert_eq!(check_answer(&answer), Ok(agreed));
    }
    let _judged = check_answer(&text);
    let Some(head) = head::Head::parse(input) else { return };
    if let Ok(key) = check_request(head.word(0), head.word(2) == "HTTP/1.1", &head) {
        assert!(tidegate_ws::is_valid_key(key));
    }
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    let _judged = check_response(head.word(1).parse().unwrap_or(0), &head, key, &["chat"], true);
}

fn decode(decoder: &mut Decoder, bytes: &[u8], piece_bytes: usize) -> (Vec<Event>, Option<Violation>) {
    let mut events = Vec::new();
    for mut piece in bytes.chunks(piece_bytes) {
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
