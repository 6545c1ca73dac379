//! What every message costs as JSON: the frame that all subscribers share, a reply, a command.

use std::hint::black_box;

use bytes::Bytes;
use tidegate_core::message::ServerMessage;
use tidegate_core::{Body, ChannelName, Epoch, Position, Publication};
use tidegate_wire::json;

const DATA: &str =
    r#"{"order":"o-17","state":"paid","amount":"129.90","currency":"EUR","customer":"c-4711","at":"2026-01-31T12:00:00Z","note":"-----"}"#;
const MESSAGE_ID: &str = "01J9ZQ4T6M3V5X7Y8Z0A1B2C3D";
const POSITION: Position = Position { epoch: Epoch::new(7), offset: 123_456 };

/// A message of a log with about 128 bytes of data.
pub(crate) fn encode_publication(times: u64) {
    let channel = ChannelName::new("orders:eu").expect("a channel's name");
    let body = Body::Data(Bytes::from_static(DATA.as_bytes()));
    let publication = Publication::new(channel, Some(POSITION), Some(MESSAGE_ID.into()), None, body);
    for _ in 0..times {
        black_box(json::encode_publication(black_box(&publication)));
    }
}

/// The answer to a `publish`.
pub(crate) fn encode_reply(times: u64) {
    let reply = ServerMessage::Published { id: 17, position: Some(POSITION), duplicate: false };
    for _ in 0..times {
        let mut out = Vec::with_capacity(128);
        json::encode_server(black_box(&reply), &mut out);
        black_box(out);
    }
}

/// A `publish` of a client with the same data.
pub(crate) fn decode_publish(times: u64) {
    let frame = format!(r#"{{"type":"publish","id":17,"channel":"orders:eu","message_id":"{MESSAGE_ID}","data":{DATA}}}"#);
    for _ in 0..times {
        assert!(black_box(json::decode(black_box(frame.as_bytes()))).is_ok());
    }
}
