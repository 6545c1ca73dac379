//! What clients and operators entrust to the gateway is nowhere to be read: not in its log at the most talkative level,
//! not in metrics, not in its pages.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bench::frames;
use checks::{Gateway, http, measured};

const HANDSHAKE: &str =
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

/// Each where secrets travel in practice, and what a later part of the protocol will carry there.
const CANARIES: [(&str, &str); 12] = [
    ("a cookie", "canary-cookie-71c0"),
    ("a bearer token", "canary-bearer-52ab"),
    ("a password in Authorization", "Y2FuYXJ5OmJhc2lj"),
    ("a ticket in the query", "canary-ticket-0f9e"),
    ("a token among the subprotocols", "canary-subprotocol-3d1c"),
    ("a header of the team's own", "canary-header-88f2"),
    ("a token in a refused upgrade", "canary-refused-6a60"),
    ("a token in a message that is not understood", "canary-message-e4b7"),
    ("a publication's data", "canary-data-19d3"),
    ("a line that can't be published", "canary-line-c5aa"),
    ("the API's key", "canary-api-key-40be"),
    ("a wrong key for the API", "canary-wrong-key-9b21"),
];

#[test]
fn secrets_are_nowhere_to_be_read() {
    let [cookie, bearer, basic, ticket, subprotocol, header, refused, message, data, line, key, wrong] = CANARIES.map(|(_, canary)| canary);
    let gateway = Gateway::setup().set("log.level", "trace").set("internal.keys", key).start();
    let bearer_of_api = format!("Authorization: Bearer {key}\r\n");

    let headers = format!(
        "{HANDSHAKE}Cookie: session={cookie}\r\nAuthorization: Bearer {bearer}\r\nX-Token: {header}\r\nSec-WebSocket-Protocol: tidegate.v1.json, {subprotocol}\r\n"
    );
    let mut client = ask(gateway.public, &format!("/ws?ticket={ticket}"), &headers);
    assert!(head(&mut client).starts_with("HTTP/1.1 101"), "the gateway lets it in");
    for text in [
        format!(r#"{{"type":"subscribe","id":1,"channel":"event:x","token":"{message}"}}"#),
        format!(r#"{{"type":"publish","id":2,"channel":"event:x","data":"{data}"}}"#),
        format!(r#"{{"type":"{message}"}}"#),
    ] {
        let mut frame = Vec::new();
        frames::append(&mut frame, frames::TEXT, text.as_bytes());
        client.write_all(&frame).expect("a written frame");
    }
    let mut strange =
        ask(gateway.public, "/ws", &format!("{HANDSHAKE}Authorization: Basic {basic}\r\nOrigin: https://{refused}.example\r\n"));
    assert!(head(&mut strange).starts_with("HTTP/1.1 403"), "an origin that is not allowed");

    let api = |method: &str, path: &str, headers: &str, body: &str| {
        let length = format!("{headers}Content-Type: application/x-ndjson\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
        let mut stream = ask_with(method, gateway.internal, path, &length);
        stream.write_all(body.as_bytes()).expect("a written body");
        rest(&mut stream)
    };
    let refusal = api("POST", "/v1/publish", &format!("Authorization: Bearer {wrong}\r\n"), "");
    assert!(refusal.starts_with("HTTP/1.1 401"), "{refusal}");
    let body = format!("{{\"channel\":\"event:x\",\"data\":\"{data}\"}}\n{{\"channel\":\"event:x\",\"datum\":\"{line}\"}}\n");
    assert!(api("POST", "/v1/publish", &bearer_of_api, &body).starts_with("HTTP/1.1 200"), "one of both lines is published");

    std::thread::sleep(Duration::from_millis(500));
    let pages = ["/metrics", "/healthz", "/readyz", "/v1/connections"].map(|path| api("GET", path, &bearer_of_api, ""));
    let shown =
        [gateway.log(), refusal, pages.join("\n"), http::call(gateway.public, "GET", "/", "").map(|(_, page)| page).unwrap_or_default()];
    assert!(shown[0].contains("DEBUG"), "the log says more than by default");
    assert!(shown[2].contains("tidegate_connections_open"), "the metrics were read");
    let told: Vec<_> = CANARIES.iter().filter(|(_, canary)| shown.iter().any(|text| text.contains(canary))).collect();
    measured(
        "secrets",
        &format!("{} of {} kept, in {} KiB of log and pages", CANARIES.len() - told.len(), CANARIES.len(), shown.concat().len() / 1024),
    );
    assert!(told.is_empty(), "can be read: {told:?}");
}

fn ask(address: SocketAddr, path: &str, headers: &str) -> TcpStream {
    ask_with("GET", address, path, headers)
}

fn ask_with(method: &str, address: SocketAddr, path: &str, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a time limit");
    stream.write_all(format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n").as_bytes()).expect("a written request");
    stream
}

/// The head of an answer, byte by byte: what comes after it stays.
fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("a whole answer");
    String::from_utf8_lossy(&answer).into_owned()
}
