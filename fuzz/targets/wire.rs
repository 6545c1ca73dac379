//! What must hold for any frame of the JSON dialect: the body of the fuzz target of `tidegate-wire`, which an ordinary test runs too.

use tidegate_core::message::ClientMessage;
use tidegate_wire::json::{self, FromServer};

/// Read as a server and as a client reads it: a message that is understood can be said again, and is then understood alike.
pub(crate) fn json(frame: &[u8]) {
    let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(frame).is_ok();
    if let Ok(messages) = json::decode(frame) {
        assert!(is_json, "{}", String::from_utf8_lossy(frame));
        for message in &messages {
            let mut out = Vec::new();
            match json::encode_client(message, &mut out) {
                Ok(()) => assert_eq!(json::decode(&out).as_deref(), Ok(std::slice::from_ref(message))),
                Err(_) => assert!(matches!(message, ClientMessage::Invalid { .. })),
            }
        }
    }
    if let Ok(messages) = json::decode_server(frame) {
        assert!(is_json, "{}", String::from_utf8_lossy(frame));
        for message in messages.into_iter().flatten() {
            if let FromServer::Publication(publication) = message {
                let encoded = json::encode_publication(&publication);
                let again = json::decode_server(&encoded).expect("our own frame").remove(0).expect("our own message");
                assert!(matches!(again, FromServer::Publication(again) if again == publication));
            }
        }
    }
}
