//! NDJSON to a channel whose publishers wait for its subscribers (`pause`), through the real gateway.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod rig;

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use rig::{Gateway, wait_until};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

const NDJSON: (&str, &str) = ("Content-Type", "application/x-ndjson");
const CHANNEL: &str = "[[channel]]\nmatch = \"pause:**\"\nkind = \"event\"\noverflow = \"pause\"";
const LINES: usize = 400;
/// Of a line's data: all lines together are fewer bytes than one request may have under way, and many times what the outbox and the
/// sockets hold.
const DATA: usize = 8000;

struct Subscriber(WebSocket<TcpStream>);

impl Subscriber {
    fn of(gateway: &Gateway, channel: &str) -> Self {
        let stream = TcpStream::connect(gateway.public).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let (socket, _) = tungstenite::client(format!("ws://{}/ws", gateway.public), stream).unwrap();
        let mut subscriber = Self(socket);
        let command = json!({ "type": "subscribe", "id": 1, "channel": channel });
        subscriber.0.send(Message::text(command.to_string())).unwrap();
        while subscriber.next()["type"] != "live" {}
        subscriber
    }

    fn next(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.0.read().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    /// Reads these messages, and nothing else may come: no gap.
    fn reads(&mut self, numbers: std::ops::Range<usize>, pause: Duration) {
        for number in numbers {
            let message = self.next();
            assert_eq!((&message["type"], &message["data"][0]), (&json!("message"), &json!(number)), "{:.200}", message.to_string());
            thread::sleep(pause);
        }
    }
}

fn lines(channel: &str) -> String {
    let data = "x".repeat(DATA);
    (0..LINES).map(|number| format!("{}\n", json!({ "channel": channel, "data": [number, data] }))).collect()
}

fn answers(gateway: &Gateway, body: &str) -> Vec<Value> {
    let (status, answer) = gateway.call("POST", "/v1/publish", &[NDJSON], body);
    assert_eq!(status, 200);
    answer.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// With this time for an outbox in which nothing moves, and for a publish that finds no room.
fn gateway(stall: &str) -> Gateway {
    Gateway::start(&format!("[outbox]\nstall = \"{stall}\"\n{CHANNEL}"))
}

/// For who publishes or connects from now on; who is connected keeps what was.
fn change_stall(gateway: &mut Gateway, stall: &str) {
    gateway.rewrite_config(&format!("[outbox]\nstall = \"{stall}\"\n{CHANNEL}"));
    gateway.signal("-HUP");
    wait_until("it is read again", || gateway.log().contains("configuration reloaded"));
}

#[test]
fn lines_wait_for_a_slow_subscriber() {
    let gateway = gateway("60s");
    let mut subscriber = Subscriber::of(&gateway, "pause:slow");
    let begun = Instant::now();
    let reading = thread::spawn(move || {
        subscriber.reads(0..LINES, Duration::from_millis(5));
        begun.elapsed()
    });
    let answers = answers(&gateway, &lines("pause:slow"));
    let took = begun.elapsed();
    let read = reading.join().unwrap();
    assert!(answers.len() == LINES && answers.iter().all(|answer| answer["duplicate"] == false), "{answers:?}");
    // What the outbox and the sockets hold is read after the last answer, up to four tenths of all as seen.
    assert!(took > read / 4, "answered after {took:?}, read after {read:?}");
}

#[test]
fn a_line_that_finds_no_room_in_time_is_refused_with_those_behind_it() {
    let mut gateway = gateway("60s");
    let mut subscriber = Subscriber::of(&gateway, "pause:stuck");
    change_stall(&mut gateway, "1s");
    let begun = Instant::now();
    let answers = answers(&gateway, &lines("pause:stuck"));
    let took = begun.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(9)).contains(&took), "{took:?}");
    let stored = answers.iter().position(|answer| answer["error"].is_object()).unwrap();
    assert!(answers.len() == LINES && (10..LINES / 2).contains(&stored), "{stored} of {}", answers.len());
    for (at, answer) in answers.iter().enumerate().skip(stored) {
        let error = &answer["error"];
        assert_eq!((&answer["line"], &error["code"], &error["retry_after_ms"]), (&json!(at + 1), &json!("unavailable"), &json!(1000)));
        let told = if at == stored { "don't keep up; the message is not stored" } else { "a message before it was not stored" };
        assert!(error["message"].as_str().unwrap().contains(told), "{error}");
    }
    // Once it reads, what was stored comes, and after it what is published then.
    subscriber.reads(0..stored, Duration::ZERO);
    assert_eq!(gateway.publish(&json!({ "channel": "pause:stuck", "data": [stored] }).to_string()).0, 200);
    subscriber.reads(stored..stored + 1, Duration::ZERO);
}

#[test]
fn lines_go_on_when_the_subscriber_that_holds_them_up_is_cut() {
    let mut gateway = gateway("1s");
    let _stopped = Subscriber::of(&gateway, "pause:cut");
    change_stall(&mut gateway, "60s");
    let begun = Instant::now();
    let answers = answers(&gateway, &lines("pause:cut"));
    assert!(answers.len() == LINES && answers.iter().all(|answer| answer["duplicate"] == false), "{answers:?}");
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
}

/// Lines of other channels before and between those that wait: each has its answer in its place.
#[test]
fn lines_of_other_channels_do_not_change_that() {
    let gateway = gateway("60s");
    let mut subscriber = Subscriber::of(&gateway, "pause:mixed");
    let reading = thread::spawn(move || subscriber.reads(0..LINES, Duration::from_millis(1)));
    let other = "not json\n{\"channel\":\"log:mixed\",\"data\":1}\n";
    let body: String = lines("pause:mixed").lines().map(|line| format!("{other}{line}\n")).collect();
    let answers = answers(&gateway, &body);
    reading.join().unwrap();
    assert_eq!(answers.len(), 3 * LINES);
    for (at, three) in answers.chunks(3).enumerate() {
        assert_eq!((&three[0]["line"], &three[1]["offset"], &three[2]["offset"]), (&json!(3 * at + 1), &json!(at + 1), &Value::Null));
        assert_eq!(three[2]["duplicate"], false);
    }
}
