//! The HTTP API of the real binary: streamed publishing, and who may use it.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod rig;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use rig::Gateway;
use serde_json::Value;

const NDJSON: (&str, &str) = ("Content-Type", "application/x-ndjson");

#[test]
fn every_line_has_a_result_in_its_place() {
    let gateway = Gateway::start("");
    let body = "{\"channel\":\"log:a\",\"data\":1}\nnot json\n{\"channel\":\"nowhere\",\"data\":1}\n{\"channel\":\"log:a\",\"data\":2}\n\n\
                {\"channel\":\"event:a\",\"data\":3}\n{\"channel\":\"log:a\",\"data\":4}";
    let (status, answer) = gateway.call("POST", "/v1/publish", &[NDJSON], body);
    assert_eq!(status, 200);
    let results: Vec<Value> = answer.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(results.len(), 7);
    let offsets: Vec<Option<u64>> = results.iter().map(|result| result["offset"].as_u64()).collect();
    assert_eq!(offsets, [Some(1), None, None, Some(2), None, None, Some(3)]);
    assert_eq!((&results[1]["line"], &results[1]["error"]["code"]), (&Value::from(2), &Value::from("bad_request")));
    assert_eq!((&results[2]["line"], &results[2]["error"]["code"]), (&Value::from(3), &Value::from("unknown_channel")));
    assert_eq!(&results[4]["line"], 5);
    assert_eq!((&results[5]["epoch"], &results[5]["duplicate"]), (&Value::Null, &Value::from(false)));
}

#[test]
fn results_come_while_the_body_goes_on() {
    let gateway = Gateway::start("");
    let mut stream = TcpStream::connect(gateway.internal).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let head = "POST /v1/publish HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap()).lines();
    for offset in 1..=3 {
        let line = "{\"channel\":\"log:b\",\"data\":1}\n";
        // In two pieces, as networks cut.
        for part in [&line[..9], &line[9..]] {
            write!(stream, "{:x}\r\n{part}\r\n", part.len()).unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
        let answer = answers.by_ref().map(Result::unwrap).find(|line| line.contains("offset")).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&answer).unwrap()["offset"], offset);
    }
}

#[test]
fn thousands_of_lines_keep_their_order() {
    let gateway = Gateway::start("");
    let body: String = (0..5000).map(|line| format!("{{\"channel\":\"log:order\",\"data\":{line}}}\n")).collect();
    let (_, answer) = gateway.call("POST", "/v1/publish", &[NDJSON], &body);
    let offsets: Vec<u64> = answer.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["offset"].as_u64().unwrap()).collect();
    assert!(offsets.len() == 5000 && offsets.is_sorted());
    let (_, page) = gateway.call("GET", "/v1/history?channel=log:order&limit=1000", &[], "");
    let page: Value = serde_json::from_str(&page).unwrap();
    let data: Vec<u64> = page["messages"].as_array().unwrap().iter().map(|message| message["data"].as_u64().unwrap()).collect();
    assert_eq!(data, (0..1000).collect::<Vec<_>>());
    let (status, gone) = gateway.call("GET", "/v1/history?channel=log:order&epoch=0000&offset=1", &[], "");
    assert_eq!((status, serde_json::from_str::<Value>(&gone).unwrap()["oldest"]["offset"].as_u64()), (410, Some(0)));
}

#[test]
fn a_line_that_is_too_long_is_refused_and_the_rest_goes_on() {
    let gateway = Gateway::start("");
    let long = format!("{{\"channel\":\"log:long\",\"data\":\"{}\"}}", "x".repeat(3 << 20));
    let body = format!("{long}\n{{\"channel\":\"log:long\",\"data\":1}}\n");
    let (_, answer) = gateway.call("POST", "/v1/publish", &[NDJSON], &body);
    let results: Vec<Value> = answer.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&results[0]["error"]["code"], &results[1]["offset"]), (&Value::from("too_large"), &Value::from(1)));
}

#[test]
fn an_id_that_was_stored_is_a_duplicate() {
    let gateway = Gateway::start("");
    let body = r#"{"channel":"log:dup","data":1,"message_id":"m1"}"#;
    let first: Value = serde_json::from_str(&gateway.publish(body).1).unwrap();
    let second: Value = serde_json::from_str(&gateway.publish(body).1).unwrap();
    assert_eq!((&first["offset"], &first["duplicate"]), (&second["offset"], &Value::from(false)));
    assert_eq!(second["duplicate"], true);
}

#[test]
fn without_a_key_only_this_machine_is_answered() {
    let gateway = Gateway::start("");
    for (headers, expected) in [
        (&[][..], 200),
        (&[("Host", "localhost:1")][..], 200),
        (&[("Host", "rebound.example")], 403),
        (&[("Host", "127.0.0.1.rebound.example")], 403),
        (&[("Host", "10.1.2.3")], 403),
        (&[("Origin", "https://page.example")], 403),
        (&[("Origin", "null")], 403),
        (&[("Origin", "http://localhost:5173")], 200),
    ] {
        for path in ["/v1/connections", "/metrics", "/v1/openapi.json"] {
            assert_eq!(gateway.call("GET", path, headers, "").0, expected, "{path} {headers:?}");
        }
    }
    // What a page can send without being asked for permission first.
    assert_eq!(gateway.call("POST", "/v1/publish", &[("Content-Type", "text/plain")], r#"{"channel":"log:a","data":1}"#).0, 400);
    assert_eq!(gateway.call("GET", "/livez", &[("Host", "anything")], "").0, 200);
}

#[test]
fn with_keys_every_call_needs_one() {
    let key = "0123456789abcdef0123456789abcdef";
    let gateway = Gateway::start_with("", &[("TIDEGATE__INTERNAL__KEYS", "env:KEY"), ("KEY", key)]);
    let bearer = format!("Bearer {key}");
    for (authorization, expected) in [
        (None, 401),
        (Some("Bearer wrong"), 401),
        (Some("Bearer "), 401),
        (Some(&bearer[..bearer.len() - 1]), 401),
        (Some("Basic 0123456789abcdef0123456789abcdef"), 401),
        (Some(bearer.as_str()), 200),
    ] {
        let headers: Vec<(&str, &str)> = authorization.iter().map(|value| ("Authorization", *value)).collect();
        for path in ["/v1/connections", "/metrics"] {
            assert_eq!(gateway.call("GET", path, &headers, "").0, expected, "{path} {authorization:?}");
        }
        assert_eq!(gateway.call("POST", "/v1/drain", &[("Authorization", "Bearer wrong")], "").0, 401);
    }
    assert_eq!(gateway.call("GET", "/readyz", &[], "").0, 200);
    assert!(gateway.tool(&["publish", "log:a", "--data", "1"]).env("TIDEGATE_API_KEY", key).output().unwrap().status.success());
    let refused = gateway.tool(&["publish", "log:a", "--data", "1"]).env("TIDEGATE_API_KEY", "wrong").output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(!gateway.log().contains(key));
}

#[test]
fn what_is_not_there_is_said() {
    let gateway = Gateway::start("");
    assert_eq!(gateway.call("GET", "/v1/nothing", &[], "").0, 404);
    assert_eq!(gateway.call("GET", "/v1/publish", &[], "").0, 405);
    assert_eq!(gateway.call("POST", "/v1/tickets", &[], "{}").0, 501);
    assert_eq!(gateway.call("POST", "/v1/revocations", &[], "{}").0, 501);
    assert_eq!(gateway.call("GET", "/v1/connections?limit=1001", &[], "").0, 400);
    assert_eq!(gateway.call("GET", "/v1/connections?lmit=1", &[], "").0, 400);
    assert_eq!(gateway.call("DELETE", "/v1/connections/abc", &[], "").0, 404);
    assert_eq!(gateway.call("GET", "/v1/history?channel=event:a", &[], "").0, 400);
    assert_eq!(gateway.call("GET", "/v1/snapshot?channel=log:a", &[], "").0, 400);
    let (_, state) = gateway.call("GET", "/v1/snapshot?channel=state:a", &[], "");
    assert_eq!(serde_json::from_str::<Value>(&state).unwrap()["entries"], Value::Array(Vec::new()));
}
