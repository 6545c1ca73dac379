//! The model of the server: one log and one state channel, and connections whose frames are on their way in both directions.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tidegate_core::message::{ClientMessage, CommandId, DepartReason, Gap, GapReason, Recovery, ServerMessage, Since};
use tidegate_core::{Body, ChannelKind, ChannelName, Epoch, ErrorCode, Position, Publication};
use tidegate_wire::json;

use crate::machine::tests::WELCOME;

pub(super) const LOG: &str = "log";
pub(super) const STATE: &str = "state";
/// Stands for the 101.
pub(super) const UPGRADED: &str = "101";
/// What the server publishes itself; what clients publish is numbered from far below.
const OWN: u64 = 1_000_000;
const SNAPSHOT_PART: usize = 2;

#[derive(Default)]
struct Line {
    frames: VecDeque<String>,
    questions: VecDeque<String>,
    has_log: bool,
    has_state: bool,
    leaving: bool,
}

pub(super) struct Server {
    log: Vec<u64>,
    /// Offsets up to here are not kept any more.
    trimmed: u64,
    stored: HashMap<Box<str>, u64>,
    state_epoch: Epoch,
    /// The last change of each key; nothing where it was deleted.
    changes: BTreeMap<String, (u64, Option<u64>)>,
    state_top: u64,
    lines: BTreeMap<u64, Line>,
}

impl Server {
    pub(super) fn new() -> Self {
        Self {
            log: Vec::new(),
            trimmed: 0,
            stored: HashMap::new(),
            state_epoch: Epoch::new(100),
            changes: BTreeMap::new(),
            state_top: 0,
            lines: BTreeMap::new(),
        }
    }

    pub(super) fn connect(&mut self, attempt: u64) {
        let frames = VecDeque::from([UPGRADED.to_owned(), WELCOME.to_owned()]);
        self.lines.insert(attempt, Line { frames, ..Line::default() });
    }

    pub(super) fn said(&mut self, attempt: u64, text: String) {
        if let Some(line) = self.lines.get_mut(&attempt) {
            line.questions.push_back(text);
        }
    }

    pub(super) fn cut(&mut self, attempt: u64) {
        self.lines.remove(&attempt);
    }

    pub(super) fn lose(&mut self, pick: u64) -> Option<u64> {
        let attempt = self.pick(pick, |_| true)?;
        self.cut(attempt);
        Some(attempt)
    }

    pub(super) fn next_frame(&mut self, pick: u64) -> Option<(u64, String)> {
        let attempt = self.pick(pick, |line| !line.frames.is_empty())?;
        let frame = self.lines.get_mut(&attempt)?.frames.pop_front()?;
        Some((attempt, frame))
    }

    pub(super) fn has_frames(&self) -> bool {
        self.lines.values().any(|line| !line.frames.is_empty())
    }

    pub(super) fn has_questions(&self) -> bool {
        self.lines.values().any(|line| !line.questions.is_empty())
    }

    fn pick(&self, pick: u64, which: impl Fn(&Line) -> bool) -> Option<u64> {
        let found: Vec<u64> = self.lines.iter().filter(|(_, line)| which(line)).map(|(attempt, _)| *attempt).collect();
        found.get(usize::try_from(pick).unwrap() % found.len().max(1)).copied()
    }

    /// Asks the newest connection that is at work to move.
    pub(super) fn go_away(&mut self) {
        let Some(line) = self.lines.values_mut().rev().find(|line| line.has_log && !line.leaving) else { return };
        line.leaving = true;
        let (reason, handover) = (DepartReason::Drain, Some("h".into()));
        line.tell(&ServerMessage::GoingAway { reason, reconnect_after_ms: 0, deadline_ms: 10_000, handover });
    }

    pub(super) fn publish(&mut self, value: Option<u64>) {
        self.log.push(value.unwrap_or(OWN + self.log.len() as u64));
        let message = self.message(self.top());
        self.lines.values_mut().filter(|line| line.has_log).for_each(|line| line.tell_publication(&message));
    }

    pub(super) fn trim(&mut self, kept: u64) {
        self.trimmed = self.trimmed.max(self.top().saturating_sub(kept));
    }

    pub(super) fn set(&mut self, key: &str, value: Option<u64>) {
        self.state_top += 1;
        self.changes.insert(key.to_owned(), (self.state_top, value));
        let message = self.entry(key);
        self.lines.values_mut().filter(|line| line.has_state).for_each(|line| line.tell_publication(&message));
    }

    /// The state is lost, and begins anew with so many entries.
    pub(super) fn begin_state_anew(&mut self, entries: u64) {
        self.state_epoch = Epoch::new(self.state_epoch.as_u64() + 1);
        self.state_top = entries;
        self.changes = (1..=entries).map(|entry| (format!("new{entry}"), (entry, Some(entry)))).collect();
        let gap = Gap { channel: name(STATE), missed: None, range: None, reason: GapReason::Epoch, position: Some(self.state_position()) };
        let mut told = vec![ServerMessage::Gap(Box::new(gap))];
        told.extend(self.snapshot());
        for line in self.lines.values_mut().filter(|line| line.has_state) {
            told.iter().for_each(|message| line.tell(message));
        }
    }

    /// Reads what a client has said on one of the connections.
    pub(super) fn answer(&mut self, pick: u64, refuses: bool) {
        let Some(attempt) = self.pick(pick, |line| !line.questions.is_empty()) else { return };
        let Some(text) = self.lines.get_mut(&attempt).and_then(|line| line.questions.pop_front()) else { return };
        for message in json::decode(text.as_bytes()).unwrap() {
            let answers = match message {
                ClientMessage::Subscribe { id, .. } | ClientMessage::Publish { id, .. } if refuses => vec![later(id)],
                ClientMessage::Subscribe { id, channel, since } if channel.as_str() == LOG => self.subscribe_log(attempt, id, since),
                ClientMessage::Subscribe { id, since, .. } => self.subscribe_state(attempt, id, since),
                ClientMessage::Publish { id, publish } => {
                    let (message_id, Body::Data(data)) = (publish.message_id.unwrap(), publish.body) else { panic!("{text}") };
                    vec![self.store(id, message_id.into(), &data)]
                }
                ClientMessage::Unsubscribe { id, .. } => vec![ServerMessage::Ok { id }],
                ClientMessage::Ping { n } => vec![ServerMessage::Pong { n }],
                ClientMessage::Pong => vec![],
                other => panic!("{other:?}"),
            };
            if let Some(line) = self.lines.get_mut(&attempt) {
                answers.iter().for_each(|answer| line.tell(answer));
            }
        }
    }

    fn store(&mut self, id: CommandId, message_id: Box<str>, data: &Bytes) -> ServerMessage {
        let known = self.stored.get(&message_id).copied();
        let offset = known.unwrap_or(self.top() + 1);
        if known.is_none() {
            self.publish(Some(std::str::from_utf8(data).unwrap().parse().unwrap()));
            self.stored.insert(message_id, offset);
        }
        ServerMessage::Published { id, position: Some(at(offset)), duplicate: known.is_some() }
    }

    fn subscribe_log(&mut self, attempt: u64, id: CommandId, since: Option<Since>) -> Vec<ServerMessage> {
        let from = match since {
            Some(Since::Position(position)) if position.epoch == EPOCH => position.offset,
            Some(Since::Earliest) => 0,
            other => panic!("a log is asked for from where it was, or from the start: {other:?}"),
        };
        let (top, trimmed) = (self.top(), self.trimmed);
        let recovery = if from < trimmed { Recovery::Gap } else { Recovery::Complete };
        let messages: Vec<_> = (from.max(trimmed) + 1..=top).map(|offset| self.message(offset)).collect();
        let Some(line) = self.lines.get_mut(&attempt) else { return vec![] };
        line.has_log = true;
        line.tell(&ServerMessage::Subscribed { id, channel: name(LOG), kind: ChannelKind::Log, position: Some(at(top)), recovery });
        if from < trimmed {
            let (missed, range) = (Some(trimmed - from), Some((from + 1, trimmed)));
            line.tell(&ServerMessage::Gap(Box::new(Gap {
                channel: name(LOG),
                missed,
                range,
                reason: GapReason::Retention,
                position: None,
            })));
        }
        messages.iter().for_each(|message| line.tell_publication(message));
        vec![ServerMessage::Live { channel: name(LOG), offset: Some(top) }]
    }

    fn subscribe_state(&mut self, attempt: u64, id: CommandId, since: Option<Since>) -> Vec<ServerMessage> {
        let position = self.state_position();
        let delta = match since {
            Some(Since::Position(since)) if since.epoch == position.epoch => Some(since.offset),
            _ => None,
        };
        let recovery = match (delta, since) {
            (Some(_), _) => Recovery::Complete,
            (None, Some(_)) => Recovery::Snapshot,
            (None, None) => Recovery::None,
        };
        let mut changed: Vec<_> = self.changes.iter().filter(|(_, (offset, _))| delta.is_some_and(|since| *offset > since)).collect();
        changed.sort_by_key(|(_, (offset, _))| *offset);
        let changed: Vec<_> = changed.into_iter().map(|(key, _)| self.entry(key)).collect();
        let snapshot = if delta.is_none() { self.snapshot() } else { vec![] };
        let Some(line) = self.lines.get_mut(&attempt) else { return vec![] };
        line.has_state = true;
        line.tell(&ServerMessage::Subscribed { id, channel: name(STATE), kind: ChannelKind::State, position: Some(position), recovery });
        changed.iter().for_each(|message| line.tell_publication(message));
        snapshot.iter().for_each(|part| line.tell(part));
        vec![ServerMessage::Live { channel: name(STATE), offset: Some(position.offset) }]
    }

    fn snapshot(&self) -> Vec<ServerMessage> {
        let kept: Vec<_> =
            self.changes.iter().filter(|(_, (_, value))| value.is_some()).map(|(key, _)| Arc::new(self.entry(key))).collect();
        let parts = kept.len().div_ceil(SNAPSHOT_PART).max(1);
        let part = |part: usize| kept.iter().skip(part * SNAPSHOT_PART).take(SNAPSHOT_PART).cloned().collect();
        let position = self.state_position();
        let message = |at: usize| ServerMessage::Snapshot { channel: name(STATE), position, entries: part(at), more: at + 1 < parts };
        (0..parts).map(message).collect()
    }

    fn state_position(&self) -> Position {
        Position { epoch: self.state_epoch, offset: self.state_top }
    }

    fn message(&self, offset: u64) -> Publication {
        let body = Body::Data(Bytes::from(self.logged(offset).to_string()));
        Publication::new(name(LOG), Some(at(offset)), None, None, body)
    }

    fn entry(&self, key: &str) -> Publication {
        let (offset, value) = self.changes[key];
        let body = value.map_or(Body::Deleted, |value| Body::Data(Bytes::from(value.to_string())));
        Publication::new(name(STATE), Some(Position { epoch: self.state_epoch, offset }), None, Some(key.into()), body)
    }

    pub(super) fn top(&self) -> u64 {
        self.log.len() as u64
    }

    pub(super) fn logged(&self, offset: u64) -> u64 {
        self.log[usize::try_from(offset).unwrap() - 1]
    }

    pub(super) fn all(&self) -> impl Iterator<Item = u64> {
        self.log.iter().copied()
    }

    pub(super) fn state(&self) -> BTreeMap<String, u64> {
        self.changes.iter().filter_map(|(key, (_, value))| Some((key.clone(), (*value)?))).collect()
    }
}

impl Line {
    fn tell(&mut self, message: &ServerMessage) {
        let mut frame = Vec::new();
        json::encode_server(message, &mut frame);
        self.frames.push_back(String::from_utf8(frame).unwrap());
    }

    fn tell_publication(&mut self, publication: &Publication) {
        self.frames.push_back(String::from_utf8(json::encode_publication(publication).to_vec()).unwrap());
    }
}

const EPOCH: Epoch = Epoch::new(7);

fn at(offset: u64) -> Position {
    Position { epoch: EPOCH, offset }
}

fn name(text: &str) -> ChannelName {
    ChannelName::new(text).unwrap()
}

fn later(id: CommandId) -> ServerMessage {
    ServerMessage::Error { id: Some(id), code: ErrorCode::RateLimited, message: "".into(), retry_after_ms: Some(200) }
}
