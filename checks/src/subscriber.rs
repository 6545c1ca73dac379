//! A witness of what happens: it publishes, notes what subscribers see, and makes operations for the judge of both.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bench::http::Answer;
use bench::{End, Sink, Swarm};
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
    /// Connections that have caught up.
    pub live: BTreeSet<usize>,
    /// Publishes that were refused, with the answer.
    pub refusals: Vec<(String, Answer)>,
    /// Publishes without an answer, by publisher, in order.
    unanswered: BTreeMap<usize, VecDeque<String>>,
    published: u64,
    /// Names of connections where one subscriber has several, one after the other.
    names: BTreeMap<usize, String>,
}

impl Witness {
    /// Connection `peer` is (another connection of) the subscriber `name`.
    pub fn name(&mut self, peer: usize, name: &str) {
        self.names.insert(peer, name.to_owned());
    }

    /// Publishes a message with an id of its own and `pad` bytes of padding, by `publisher` of `swarm`.
    pub fn publish(&mut self, swarm: &mut Swarm, publisher: usize, prefix: &str, pad: usize) {
        self.published += 1;
        let id = format!("{prefix}{}", self.published);
        let body =
            format!(r#"{{"channel":"{}","message_id":"{id}","data":{{"id":"{id}","pad":"{}"}}}}"#, swarm.target().channel, "x".repeat(pad));
        let request = format!(
            "POST /v1/publish HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            swarm.target().api,
            body.len()
        );
        self.history.push(Op::Publish { id: id.clone() });
        self.unanswered.entry(publisher).or_default().push_back(id);
        swarm.request(publisher, &request);
    }

    /// Connection `peer` goes on where connection `before` of the same subscriber got to.
    pub fn inherit(&mut self, peer: usize, before: usize) {
        if let (Some(epoch), Some(reached)) = (self.epochs.get(&before).cloned(), self.reached.get(&before).copied()) {
            self.epochs.insert(peer, epoch);
            self.reached.insert(peer, reached);
        }
    }

    /// The command that subscribes where connection `before` got to.
    pub fn resume_after(&self, before: usize, channel: &str) -> String {
        let epoch = self.epochs.get(&before).map(String::as_str).unwrap_or_default();
        let offset = self.reached.get(&before).copied().unwrap_or(0);
        format!(r#"{{"type":"subscribe","id":1,"channel":"{channel}","since":{{"epoch":"{epoch}","offset":{offset}}}}}"#)
    }

    /// How many publishes were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.history.iter().filter(|op| matches!(op, Op::Acknowledge { .. })).count()
    }

    /// How many publishes have no answer yet.
    pub fn unanswered(&self) -> usize {
        self.unanswered.values().map(VecDeque::len).sum()
    }

    /// Whether every publish has its answer and these connections have seen the last that was acknowledged.
    pub fn all_seen(&self, peers: impl IntoIterator<Item = usize>) -> bool {
        let acknowledged = |op: &Op| if let Op::Acknowledge { offset, .. } = op { Some(*offset) } else { None };
        let highest = self.history.iter().filter_map(acknowledged).max();
        self.unanswered() == 0 && peers.into_iter().all(|peer| self.reached.get(&peer).copied() >= highest)
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
                    self.reached.insert(peer, offset);
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
            Some("live") => drop(self.live.insert(peer)),
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

    fn answer(&mut self, publisher: usize, answer: Answer) {
        let id = self.unanswered.get_mut(&publisher).and_then(VecDeque::pop_front).expect("an answer to a publish");
        if answer.status != 200 {
            self.refusals.push((id, answer));
            return;
        }
        let position: Value = serde_json::from_str(&answer.body).unwrap_or_else(|e| panic!("{}: {e}", answer.body));
        let epoch = position["epoch"].as_str().unwrap_or_default().to_owned();
        let offset = position["offset"].as_u64().unwrap_or_else(|| panic!("{} has no offset", answer.body));
        self.history.push(Op::Acknowledge { id, epoch, offset });
    }
}
