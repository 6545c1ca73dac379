//! The vectors that every implementation of the protocol reads.

use serde_json::Value;
use tidegate_wire::json::{self, FromServer};

const VECTORS: &str = include_str!("../../../../conformance/vectors/messages.json");

struct Vector {
    name: String,
    from: String,
    frame: Value,
    text: String,
}

fn vectors() -> Vec<Vector> {
    let file: Value = serde_json::from_str(VECTORS).expect("the file is JSON");
    let vectors = file["vectors"].as_array().expect("vectors");
    vectors.iter().map(vector).collect()
}

fn vector(vector: &Value) -> Vector {
    let text = vector["raw"].as_str().map_or_else(|| vector["frame"].to_string(), str::to_owned);
    let frame = ours(serde_json::from_str(&text).expect("a frame is JSON"));
    let text = if vector["raw"].is_string() { text } else { frame.to_string() };
    let field = |name: &str| vector[name].as_str().expect("name and from").to_owned();
    Vector { name: field("name"), from: field("from"), frame, text }
}

/// The vectors' epochs are opaque texts; in lower case they are such as this server issues.
fn ours(mut json: Value) -> Value {
    if let Some(epoch) = json.get_mut("epoch").filter(|epoch| epoch.is_string()) {
        *epoch = epoch.as_str().unwrap_or_default().to_lowercase().into();
    }
    for name in ["position", "since"] {
        if let Some(position) = json.get_mut(name) {
            *position = ours(position.take());
        }
    }
    json
}

/// A message without what may as well be absent: null of an optional field, and fields of later versions.
fn essential(json: &Value) -> Value {
    match json {
        Value::Array(messages) => messages.iter().map(essential).collect(),
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(name, value)| *name == "data" || (!value.is_null() && *name != "later"));
            let kept = kept.map(|(name, value)| (name.clone(), if name == "heartbeat" { essential(value) } else { value.clone() }));
            Value::Object(kept.collect())
        }
        other => other.clone(),
    }
}

fn same_frame(vector: &Vector, encoded: Vec<Vec<u8>>) {
    let mut encoded: Vec<Value> = encoded.iter().map(|bytes| serde_json::from_slice(bytes).expect("JSON")).collect();
    let encoded = if vector.frame.is_array() { Value::Array(encoded) } else { encoded.remove(0) };
    assert_eq!(essential(&encoded), essential(&vector.frame), "{}", vector.name);
}

#[test]
fn what_clients_say_is_understood_and_said_again() {
    let vectors: Vec<_> = vectors().into_iter().filter(|vector| vector.from == "client").collect();
    assert!(vectors.len() >= 15, "the file has lost its client vectors");
    for vector in &vectors {
        let messages = json::decode(vector.text.as_bytes()).expect(&vector.name);
        let encode = |message| {
            let mut out = Vec::new();
            json::encode_client(message, &mut out).expect(&vector.name);
            out
        };
        same_frame(vector, messages.iter().map(encode).collect());
    }
}

#[test]
fn what_servers_say_is_understood_and_said_again() {
    let vectors: Vec<_> = vectors().into_iter().filter(|vector| vector.from == "server").collect();
    assert!(vectors.len() >= 35, "the file has lost its server vectors");
    for vector in &vectors {
        let messages = json::decode_server(vector.text.as_bytes()).expect(&vector.name);
        let messages = messages.into_iter().map(|message| message.unwrap_or_else(|wrong| panic!("{}: {wrong}", vector.name)));
        let encoded = messages.filter_map(encode_again).collect::<Vec<_>>();
        if encoded.is_empty() {
            assert_eq!(vector.frame["type"], "tidings", "{} was ignored", vector.name);
            continue;
        }
        same_frame(vector, encoded);
    }
}

fn encode_again(message: FromServer) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match message {
        FromServer::Challenge(challenge) => json::encode_challenge(&challenge, &mut out),
        FromServer::Message(message) => json::encode_server(&message, &mut out),
        FromServer::Publication(publication) => out.extend_from_slice(&json::encode_publication(&publication)),
        FromServer::Ping { n } => out.extend_from_slice(format!(r#"{{"type":"ping","n":{}}}"#, String::from_utf8_lossy(&n)).as_bytes()),
        FromServer::Unknown { .. } => return None,
    }
    Some(out)
}
