//! `request` where the service has no handler: an answer that does not invite the client to try again.

#![allow(clippy::unwrap_used, reason = "a test")]

mod rig;

use rig::{Peer, Rig, Seen, frame};
use serde_json::{Value, json};
use tidegate::auth::Anonymous;
use tidegate::{Config, Gate, Grants, Pattern};

#[tokio::test]
async fn without_a_handler_a_request_is_no_command_here() {
    let grants = Grants { subscribe: vec![Pattern::new("**").unwrap()], ..Grants::default() };
    let gate = Gate::builder(Config::default()).authenticate(Anonymous::new(grants));
    let rig = Rig::start(gate.build().await.unwrap()).await;
    let mut peer = Peer::open(rig.address).await;
    peer.send(rig::handshake("/ws", "Sec-WebSocket-Protocol: tidegate.v1.json\r\n").as_bytes()).await;
    assert!(peer.head().await.starts_with("HTTP/1.1 101"));
    assert_eq!(object(&mut peer).await["type"], "welcome");
    let request = json!({ "type": "request", "id": 7, "method": "orders.cancel", "data": {} });
    peer.send(&frame(0x81, request.to_string().as_bytes())).await;
    let answer = object(&mut peer).await;
    assert_eq!((&answer["type"], &answer["id"], &answer["code"]), (&json!("error"), &json!(7), &json!("unknown_type")), "{answer}");
    assert_eq!(answer["retry_after_ms"], Value::Null, "a repetition would never be taken");
}

async fn object(peer: &mut Peer) -> Value {
    match peer.see().await {
        Seen::Frame(0x81, payload) => serde_json::from_slice(&payload).unwrap(),
        seen => panic!("{seen:?}"),
    }
}
