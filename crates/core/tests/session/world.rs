//! A world around one client: a model broker, a hub with delays and faults, a scripted socket, and a session after the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tidegate_core::broker::{BrokerError, HistoryError};
use tidegate_core::message::{ClientMessage, Publish, ServerMessage, Since};
use tidegate_core::session::{Input, Output, Push, Shed, SubscriptionId, Transmit};
use tidegate_core::{Body, ChannelKind, Epoch, OutboxSettings, Publication, SessionSettings};

use crate::bench::{Bench, name, publication, settings};
use crate::broker::Log;
use crate::checker::{Event, Fault, Stage, Truth, Witness};

const CHANNELS: [(&str, ChannelKind); 6] = [
    ("log:a", ChannelKind::Log),
    ("log:b", ChannelKind::Log),
    ("state:a", ChannelKind::State),
    ("state:b", ChannelKind::State),
    ("oldest:a", ChannelKind::Event),
    ("sample:a", ChannelKind::Event),
];

/// A bug to plant, for the checker to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    /// A page of history lacks one of its messages.
    HistoryHole,
    /// The hub forgets to deliver a message, and does not say so.
    SilentLoss,
    /// The hub delivers to the log's end but history is answered from an older one, without its last message.
    StaleSnapshot,
    /// What is written is written twice.
    DoubleWrite,
    /// What was to be written is forgotten.
    ForgottenWrite,
    /// Two messages change places.
    Swap,
    /// A gap says one too many.
    Miscount,
    /// A gap ends one too early.
    ShortGap,
    /// `live` is said twice.
    DoubleLive,
}

struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 33) % bound as u64).unwrap()
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
}

struct Channel {
    truth: Truth,
    witness: Witness,
    /// The hub's registration of the session.
    port: Option<SubscriptionId>,
    /// Whether the node is subscribed at the broker.
    subscribed: bool,
    /// From the broker to the hub.
    bus: VecDeque<Bus>,
}

enum Bus {
    Message(Arc<Publication>),
    Lost(bool),
}

enum Pending {
    Asked(Output),
    Answered(Input),
}

pub(crate) struct World {
    chance: Chance,
    bug: Bug,
    bench: Bench,
    channels: BTreeMap<&'static str, Channel>,
    pending: Vec<Pending>,
    wire: VecDeque<Transmit>,
    writable: bool,
    /// No more faults, no more connections: everything is to come to rest.
    calm: bool,
    numbers: u64,
    /// What happened at least once: a schedule that never meets the interesting cases proves nothing.
    pub(crate) met: BTreeSet<String>,
}

impl World {
    pub(crate) fn new(seed: u64, bug: Bug) -> Self {
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let outbox = OutboxSettings { bytes: 400 + chance.below(3000), messages: 1 + chance.below(16), stall: Duration::from_secs(30) };
        let channel = |(at, (name, kind)): (usize, (&'static str, ChannelKind))| {
            let life = Log::new(Epoch::new(at as u64 * 1000 + 1), 1 + at as u64 % 3);
            let truth = Truth { kind, lives: vec![life], events: VecDeque::new() };
            (name, Channel { truth, witness: Witness::default(), port: None, subscribed: false, bus: VecDeque::new() })
        };
        Self {
            chance,
            bug,
            bench: Bench::new(SessionSettings { outbox, ..settings() }),
            channels: CHANNELS.into_iter().enumerate().map(channel).collect(),
            pending: Vec::new(),
            wire: VecDeque::new(),
            writable: true,
            calm: false,
            numbers: 0,
            met: BTreeSet::new(),
        }
    }

    pub(crate) fn run(&mut self, steps: usize) -> Result<(), Fault> {
        for _ in 0..steps {
            self.step()?;
        }
        self.come_to_rest()?;
        self.channels.values().try_for_each(|channel| channel.witness.ends(&channel.truth))
    }

    fn step(&mut self) -> Result<(), Fault> {
        let channel = CHANNELS[self.chance.below(CHANNELS.len())].0;
        match self.chance.below(100) {
            0..30 => self.publish(channel),
            30..50 => self.deliver(channel),
            50..62 => self.answer(),
            62..76 => self.write(),
            76..84 => self.receive()?,
            84..88 => self.writable = !self.writable,
            88..90 => self.subscribe(channel),
            90..92 => self.fault(channel),
            92 if self.chance.one_in(3) => self.unsubscribe(channel),
            93 if self.chance.one_in(3) => self.reconnect(),
            94 => self.bench.handle(Input::Shed(if self.chance.one_in(2) { Shed::Events } else { Shed::Cursors })),
            _ => self.pass(),
        }
        self.collect();
        Ok(())
    }

    /// The last message of each channel, everything delivered, every answer given.
    fn come_to_rest(&mut self) -> Result<(), Fault> {
        (self.calm, self.writable) = (true, true);
        for (channel, _) in CHANNELS {
            self.publish(channel);
        }
        for _ in 0..2000 {
            for (channel, _) in CHANNELS {
                self.subscribe(channel);
                self.deliver(channel);
            }
            self.collect();
            self.answer();
            self.write();
            self.receive()?;
            if self.is_quiet() {
                if self.bench.session.lanes_behind() == 0 {
                    return Ok(());
                }
                self.pass();
            }
        }
        Err(Fault::WrongAnswer("it never comes to rest".into()))
    }

    fn is_quiet(&self) -> bool {
        let is_quiet = |channel: &Channel| channel.bus.is_empty() && channel.witness.stage != Stage::Away;
        self.pending.is_empty()
            && self.wire.is_empty()
            && !self.bench.session.wants_write()
            && !self.bench.session.has_output()
            && self.channels.values().all(is_quiet)
    }

    fn publish(&mut self, at: &'static str) {
        self.numbers += 1;
        let key = self.chance.below(8).to_string();
        let (size, is_deletion) = (1 + self.chance.below(120), self.chance.one_in(5));
        let channel = self.channels.get_mut(at).unwrap();
        let message = match channel.truth.kind {
            ChannelKind::Event => publication(at, None, None, self.numbers, size),
            ChannelKind::Log => channel.truth.current_mut().append(Publish {
                channel: name(at),
                message_id: None,
                key: None,
                body: Body::Data(format!("{:>size$}", self.numbers).into()),
            }),
            ChannelKind::State => channel.truth.current_mut().append(Publish {
                channel: name(at),
                message_id: None,
                key: Some(key.into()),
                body: if is_deletion { Body::Deleted } else { Body::Data(format!("{:>size$}", self.numbers).into()) },
            }),
        };
        if channel.subscribed {
            channel.bus.push_back(Bus::Message(message));
        }
    }

    /// The next message from the broker reaches the session.
    fn deliver(&mut self, at: &'static str) {
        let is_repeated = !self.calm && self.chance.one_in(10);
        let channel = self.channels.get_mut(at).unwrap();
        let (Some(next), port) = (channel.bus.pop_front(), channel.port) else { return };
        let Some(port) = port else { return };
        match next {
            Bus::Message(message) => {
                if self.bug == Bug::SilentLoss && channel.truth.kind == ChannelKind::Log && self.chance.one_in(6) {
                    return;
                }
                let push = self.bench.session.deliver(self.bench.now, port, &message);
                self.met.insert(format!("{:?} {push:?}", channel.truth.kind).split('(').next().unwrap().to_owned());
                if channel.truth.kind == ChannelKind::Event && push != Push::Ignored {
                    let number = self.number(&message);
                    self.channels.get_mut(at).unwrap().truth.events.push_back(Event::Message(number));
                } else if is_repeated {
                    // At least once in, once out.
                    let again = self.bench.session.deliver(self.bench.now, port, &message);
                    assert!(matches!(again, Push::Ignored | Push::Parked), "a repeat was {again:?}");
                }
            }
            Bus::Lost(is_known) => {
                let top = (is_known && channel.truth.kind != ChannelKind::Event).then(|| channel.truth.current().top());
                if channel.witness.stage != Stage::Away && self.bench.session.subscriptions() > 0 {
                    // Before the attach is answered an event channel is not live, and nothing is lost to it.
                    let is_attaching = self.pending.iter().any(|pending| match pending {
                        Pending::Asked(Output::Attach { subscription, .. }) => *subscription == port,
                        Pending::Answered(Input::Attached(subscription, _)) => *subscription == port,
                        _ => false,
                    });
                    if !is_attaching {
                        channel.truth.events.push_back(Event::Lost);
                    }
                }
                self.bench.handle(Input::Lost(port, top));
            }
        }
    }

    fn number(&self, message: &Publication) -> u64 {
        match &message.body {
            Body::Data(data) => std::str::from_utf8(data).unwrap().parse().unwrap(),
            Body::Deleted => unreachable!("events are not deleted"),
        }
    }

    /// Takes the session's outputs: the hub acts at once, the broker takes its time.
    fn collect(&mut self) {
        while let Some(output) = self.bench.session.poll_output() {
            match output {
                Output::Attach { subscription, ref channel, .. } => {
                    self.channels.get_mut(channel.as_str()).unwrap().port = Some(subscription);
                    self.pending.push(Pending::Asked(output));
                }
                Output::Detach { subscription, channel } => {
                    let channel = self.channels.get_mut(channel.as_str()).unwrap();
                    channel.port = channel.port.filter(|&port| port != subscription);
                    channel.truth.events.clear();
                }
                Output::Fetch { .. } | Output::Snapshot { .. } => self.pending.push(Pending::Asked(output)),
                _ => {}
            }
        }
    }

    /// One of the things under way goes a step further: the broker reads, or its answer arrives.
    fn answer(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let at = self.chance.below(self.pending.len());
        match self.pending.swap_remove(at) {
            Pending::Asked(output) => {
                let answer = self.read(output);
                self.pending.push(Pending::Answered(answer));
            }
            Pending::Answered(input) => self.bench.handle(input),
        }
    }

    fn read(&mut self, output: Output) -> Input {
        let fails = !self.calm && self.chance.one_in(25);
        let (has_hole, is_stale) = (self.bug == Bug::HistoryHole, self.bug == Bug::StaleSnapshot);
        let channels = &mut self.channels;
        match output {
            Output::Attach { subscription, .. } if fails => Input::Attached(subscription, Err(BrokerError::Closed)),
            Output::Attach { subscription, channel: name, .. } => {
                let channel = channels.get_mut(name.as_str()).unwrap();
                channel.subscribed = true;
                let position = (channel.truth.kind != ChannelKind::Event).then(|| channel.truth.current().top());
                Input::Attached(subscription, Ok(position))
            }
            Output::Fetch { subscription, .. } if fails => Input::Fetched(subscription, Err(HistoryError::Broker(BrokerError::Closed))),
            Output::Fetch { subscription, channel: name, since, limit, .. } => {
                let truth = &channels.get_mut(name.as_str()).unwrap().truth;
                let mut page = truth.current().history(truth.kind, since, limit);
                match &mut page {
                    Ok(page) if has_hole && page.messages.len() > 2 => _ = page.messages.remove(1),
                    Ok(_) => _ = self.met.insert("page".into()),
                    Err(error) => _ = self.met.insert(format!("{:?} {error}", truth.kind)),
                }
                Input::Fetched(subscription, page)
            }
            Output::Snapshot { subscription, .. } if fails => Input::SnapshotTaken(subscription, Err(BrokerError::Closed)),
            Output::Snapshot { subscription, channel: name, .. } => {
                let mut snapshot = channels.get_mut(name.as_str()).unwrap().truth.current().snapshot();
                if is_stale {
                    snapshot.entries.pop();
                }
                Input::SnapshotTaken(subscription, Ok(Arc::new(snapshot)))
            }
            other => panic!("{other:?}"),
        }
    }

    fn write(&mut self) {
        if !self.writable {
            return;
        }
        for _ in 0..1 + self.chance.below(6) {
            let Some(mut transmit) = self.bench.session.poll_transmit(self.bench.now) else { break };
            self.bench.handle(Input::Wrote(1));
            let is_chosen = self.chance.one_in(8);
            match (self.bug, &mut transmit) {
                (Bug::DoubleWrite, Transmit::Publication(_)) if is_chosen => self.wire.push_back(transmit.clone()),
                (Bug::ForgottenWrite, Transmit::Publication(_)) if is_chosen => continue,
                (Bug::DoubleLive, Transmit::Message(message)) if matches!(**message, ServerMessage::Live { .. }) => {
                    self.wire.push_back(transmit.clone());
                }
                (Bug::Miscount | Bug::ShortGap, Transmit::Message(message)) => {
                    if let ServerMessage::Gap(gap) = &mut **message {
                        match self.bug {
                            Bug::Miscount => gap.missed = gap.missed.map(|missed| missed + 1),
                            _ => gap.range = gap.range.map(|(from, to)| (from, to - 1)),
                        }
                    }
                }
                _ => {}
            }
            self.wire.push_back(transmit);
            let last = self.wire.len() - 1;
            let is_message = |at: usize| matches!(&self.wire[at], Transmit::Publication(_));
            if self.bug == Bug::Swap && last > 0 && is_message(last) && is_message(last - 1) {
                self.wire.swap(last, last - 1);
            }
        }
    }

    fn receive(&mut self) -> Result<(), Fault> {
        for _ in 0..1 + self.chance.below(10) {
            let Some(transmit) = self.wire.pop_front() else { break };
            self.react(&transmit);
            let named = match &transmit {
                Transmit::Publication(publication) => Some(publication.channel.clone()),
                Transmit::Message(message) => channel_of(message),
                Transmit::Close { code, .. } => panic!("closed with {code:?}"),
                _ => None,
            };
            if let Some(named) = named {
                let channel = self.channels.get_mut(named.as_str()).unwrap();
                // What was under way when the client unsubscribed is not for anybody.
                if channel.witness.stage != Stage::Away {
                    channel.witness.receives(&mut channel.truth, &transmit)?;
                }
            }
        }
        Ok(())
    }

    fn react(&mut self, transmit: &Transmit) {
        self.bench.handle(Input::Frames { count: 0, assembling: false });
        match transmit {
            Transmit::Ping(_) => self.bench.handle(Input::PeerPong),
            Transmit::Message(message) => match &**message {
                ServerMessage::Ping => self.bench.handle(Input::Message(ClientMessage::Pong)),
                ServerMessage::Error { id: Some(id), .. } => {
                    let at = CHANNELS[usize::try_from(*id).unwrap() % CHANNELS.len()].0;
                    self.met.insert("a subscribe was refused".into());
                    self.channels.get_mut(at).unwrap().witness.leaves();
                }
                ServerMessage::Unsubscribed { channel, .. } => {
                    self.met.insert("a subscription was ended".into());
                    self.channels.get_mut(channel.as_str()).unwrap().witness.leaves();
                }
                ServerMessage::Subscribed { kind, recovery, .. } => {
                    self.met.insert(format!("{kind:?} recovery {}", recovery.name()));
                }
                ServerMessage::Gap(gap) => {
                    self.met.insert(format!("gap {}", gap.reason.name()));
                }
                _ => {}
            },
            _ => {}
        }
    }

    fn subscribe(&mut self, at: &'static str) {
        let choice = self.chance.below(8);
        let id = CHANNELS.iter().position(|(channel, _)| *channel == at).unwrap() as u64;
        let channel = self.channels.get_mut(at).unwrap();
        if channel.witness.stage != Stage::Away || channel.port.is_some() {
            return;
        }
        let since = match (channel.truth.kind, channel.witness.cursor, choice) {
            (ChannelKind::Event, ..) | (_, _, 0) => None,
            (_, _, 1) => Some(Since::Earliest),
            (_, _, 2) => Some(Since::Last(3)),
            (_, cursor, _) => cursor.map(Since::Position),
        };
        channel.truth.events.clear();
        channel.witness.asks(&channel.truth, since);
        self.bench.says(ClientMessage::Subscribe { id, channel: name(at), since });
        self.collect();
    }

    /// The client unsubscribes, and has read everything that was written before: what it says and what it reads cross otherwise.
    fn unsubscribe(&mut self, at: &'static str) {
        if self.wire.is_empty() && self.channels[at].witness.stage == Stage::Streaming {
            self.channels.get_mut(at).unwrap().witness.leaves();
            self.bench.says(ClientMessage::Unsubscribe { id: 1000, channel: name(at) });
            self.collect();
        }
    }

    /// The connection is lost with everything that is on it.
    fn reconnect(&mut self) {
        self.bench.handle(Input::Disconnected);
        self.collect();
        let outbox =
            OutboxSettings { bytes: 400 + self.chance.below(3000), messages: 1 + self.chance.below(16), stall: Duration::from_secs(30) };
        self.bench = Bench::at(self.bench.now, SessionSettings { outbox, ..settings() });
        self.pending.clear();
        self.wire.clear();
        for channel in self.channels.values_mut() {
            assert!(channel.port.is_none(), "a lost session left its channels");
            channel.witness.leaves();
        }
        for (channel, _) in CHANNELS {
            if self.chance.one_in(2) {
                self.subscribe(channel);
            }
        }
    }

    fn fault(&mut self, at: &'static str) {
        let (choice, keep, is_known) = (self.chance.below(4), self.chance.below(12), self.chance.one_in(2));
        let channel = self.channels.get_mut(at).unwrap();
        match choice {
            0 => {
                channel.bus.clear();
                channel.bus.push_back(Bus::Lost(is_known));
            }
            1 => channel.truth.current_mut().trim(keep),
            2 if channel.truth.kind != ChannelKind::Event => {
                let (epoch, stride) = (channel.truth.current().epoch.as_u64() + 1, channel.truth.current().stride);
                channel.truth.lives.push(Log::new(Epoch::new(epoch), stride));
                if is_known {
                    channel.bus.push_back(Bus::Lost(true));
                }
            }
            _ => {}
        }
    }

    fn pass(&mut self) {
        let ms = self.chance.below(500) as u64;
        self.bench.pass_ms(ms);
        self.bench.handle(Input::Frames { count: 0, assembling: false });
    }
}

fn channel_of(message: &ServerMessage) -> Option<tidegate_core::ChannelName> {
    match message {
        ServerMessage::Subscribed { channel, .. } | ServerMessage::Live { channel, .. } | ServerMessage::Snapshot { channel, .. } => {
            Some(channel.clone())
        }
        ServerMessage::Gap(gap) => Some(gap.channel.clone()),
        _ => None,
    }
}
