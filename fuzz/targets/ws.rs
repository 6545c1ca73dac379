//! What must hold for any bytes: the bodies of the fuzz targets of `tidegate-ws`, which an ordinary test runs too.

use tidegate_ws::{
    Compressor, Decoder, Deflate, Event, OpCode, Role, Violation, accept_offer, check_answer, check_request, check_response,
    header_compressed,
};

#[path = "../../crates/ws/tests/support/head.rs"]
mod head;
#[path = "../../crates/ws/tests/support/model.rs"]
mod model;
#[path = "../../crates/ws/tests/support/puff.rs"]
mod puff;

const LIMIT: usize = 4096;

/// Frames: the first byte says how the rest is cut. However that is, the events are those of the reference decoder.
pub(crate) fn frame(input: &[u8]) {
    let Some((&cut, bytes)) = input.split_first() else { return };
    let expected = model::read(bytes, LIMIT);
    let mut decoder = Decoder::new(Role::Server, LIMIT);
    assert_eq!(decode(&mut decoder, bytes, usize::from(cut) + 1), expected);
    let mut client = Decoder::new(Role::Client, LIMIT);
    decode(&mut client, bytes, usize::from(cut) + 1);
}

/// Compressed messages: the reference inflater says which are whole and what they mean, the second behind the first too.
pub(crate) fn inflate(input: &[u8]) {
    let Some((&cut, payload)) = input.split_first() else { return };
    let takeover = cut & 1 == 1;
    let deflate = Deflate {
        server_no_context_takeover: !takeover,
        client_no_context_takeover: true,
        server_max_window_bits: 15,
        client_max_window_bits: 15,
    };
    let mut decoder = Decoder::new(Role::Client, LIMIT);
    decoder.enable_deflate(deflate);
    let bytes = [&header_compressed(OpCode::Binary, payload.len())[..], payload].concat();
    let mut before = Vec::new();
    for _ in 0..2 {
        let reference = puff::message(payload, &before).map(|(data, _)| data);
        let (mut events, violation) = decode(&mut decoder, &bytes, usize::from(cut) + 1);
        match (events.pop(), violation, reference) {
            (Some(Event::Binary(data)), None, Some(reference)) => {
                assert!(data.len() <= LIMIT);
                assert_eq!(data, reference);
                compress(cut, &data);
                if takeover {
                    before = reference;
                }
            }
            (None, Some(Violation::Deflate), None) => return,
            // It may be too big before it turns out to be broken.
            (None, Some(Violation::TooBig), reference) => {
                return assert!(payload.len() > LIMIT || reference.is_none_or(|reference| reference.len() > LIMIT));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// What is compressed again comes back.
fn compress(cut: u8, data: &[u8]) {
    if let Some(small) = Compressor::new(9 + cut % 7).compress(data) {
        assert!(small.len() < data.len());
        assert_eq!(puff::message(&small, &[]).map(|(data, _)| data).as_deref(), Some(data));
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
