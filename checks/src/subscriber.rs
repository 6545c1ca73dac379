//! What tests look for in the messages of a subscriber, and operations for the judge made of them.

use std::collections::BTreeMap;

use bench::http::Answer;
use bench::{End, Sink};
use serde_json::Value;

use crate::verdict::Op;

/// Notes every message, gap and end as an operation of a history. Messages carry their own id as `data.id`.
#[derive(Default)]
pub struct Witness {
    /// What was seen, in order.
    pub history: Vec<Op>,
    /// How connections ended.
    pub ends: BTreeMap<usize, End>,
    /// The highest offset that each connection received or was told.
    pub reached: BTreeMap<usize, u64>,
    /// The epoch that each connection is in.
    pub epochs: BTreeMap<usize, String>,
    /// Answers to publishes, in order.
    pub answers: Vec<Answer>,
    /// Names of connections where one subscriber has several, one after the other.
    names: BTreeMap<usize, String>,
}

impl Witness {
    /// Connection `peer` is (another connection of) the subscriber `name`.
    pub fn name(&mut self, peer: usize, name: &str) {
        self.names.insert(peer, name.to_owned());
    }

    fn by(&self, peer: usize) -> String {
        self.names.get(&peer).cloned().unwrap_or_else(|| format!("s{peer}"))
    }

    fn object(&mut self, peer: usize, message: &Value) {
        let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        let by = self.by(peer);
        match message["type"].as_str() {
            Some("subscribed") => {
                let epoch = message["position"]["epoch"].as_str().unwrap_or_default().to_owned();
                self.epochs.insert(peer, epoch.clone());
                if message["recovery"] == "none" {
                    let offset = message["position"]["offset"].as_u64().unwrap_or(0);
                    self.history.push(Op::Start { by, epoch, offset });
                }
            }
            Some("message") => {
                let offset = message["offset"].as_u64().unwrap_or(0);
                let id = message["data"]["id"].as_str().unwrap_or_default().to_owned();
                self.reached.insert(peer, offset);
                let epoch = self.epochs.get(&peer).cloned().unwrap_or_default();
                self.history.push(Op::Receive { by, epoch, offset, id });
            }
            Some("gap") => {
                let number = |name: &str| message[name].as_u64();
                self.history.push(Op::Gap { by, from: number("from"), to: number("to"), missed: number("missed"), reason: text("reason") });
            }
            _ => {}
        }
    }
}

impl Sink for Witness {
    fn message(&mut self, peer: usize, payload: &[u8]) {
        match serde_json::from_slice(payload) {
            Ok(Value::Array(batch)) => batch.iter().for_each(|message| self.object(peer, message)),
            Ok(message) => self.object(peer, &message),
            Err(e) => panic!("connection {peer} received what is not JSON: {e}"),
        }
    }

    fn ended(&mut self, peer: usize, end: End) {
        self.ends.insert(peer, end);
    }

    fn answer(&mut self, answer: Answer) {
        self.answers.push(answer);
    }
}
