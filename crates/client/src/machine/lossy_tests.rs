//! The machine against a model of the server in a lossy world: connections that fail, drop, close, move and repeat themselves, a
//! log that is trimmed, a state that begins anew. Whatever happens, nothing is lost untold and nothing is told twice.

mod server;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use tidegate_core::message::{Publish, Since};
use tidegate_core::{Body, ChannelKind, ChannelName};

use self::server::{LOG, STATE, Server};
use super::*;

const LOG_REFERENCE: u64 = 1;
const STATE_REFERENCE: u64 = 2;
const FIRST_COMMAND: u64 = 10;

/// Lives that are lived, each from its own seed, and what happens in each.
const SEEDS: u64 = 300;
const STEPS: usize = 400;
/// Turns within which a life has to come to rest once nothing fails any more.
const TURNS: usize = 4000;

/// SplitMix64: the same life for the same seed, everywhere.
#[derive(Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }

    pub(super) fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }
}

/// What an application has, from nothing but what it was told.
#[derive(Default)]
struct Application {
    /// The log is accounted for up to here: by messages and by gaps.
    at: u64,
    state: BTreeMap<String, u64>,
    settled: HashMap<u64, u64>,
}

struct World {
    seed: u64,
    dice: Dice,
    now: u64,
    machine: Machine<Box<dyn FnMut() -> f64>>,
    server: Server,
    application: Application,
    commands: BTreeSet<u64>,
    /// Nothing fails any more.
    calm: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut jitter = Dice(seed ^ 0xa5a5);
        let random: Box<dyn FnMut() -> f64> = Box::new(move || jitter.below(1 << 20) as f64 / f64::from(1 << 20));
        let mut world = Self {
            seed,
            dice: Dice(seed),
            now: 1000,
            machine: Machine::new(false, random),
            server: Server::new(),
            application: Application::default(),
            commands: BTreeSet::new(),
            calm: false,
        };
        world.put(Input::Start);
        let (channel, kind) = (ChannelName::new(LOG).unwrap(), Some(ChannelKind::Log));
        world.put(Input::Subscribe { reference: LOG_REFERENCE, channel, kind, since: Some(Since::Earliest) });
        let (channel, kind) = (ChannelName::new(STATE).unwrap(), Some(ChannelKind::State));
        world.put(Input::Subscribe { reference: STATE_REFERENCE, channel, kind, since: None });
        world
    }

    fn put(&mut self, input: Input) {
        self.machine.handle(self.now, input);
        while let Some(action) = self.machine.poll() {
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action) {
        let seed = self.seed;
        match action {
            Action::Open { attempt, .. } => self.server.connect(attempt),
            Action::Send { attempt, text } => self.server.said(attempt, text),
            Action::Close { attempt, .. } => self.server.cut(attempt),
            Action::Settle { reference, result } => {
                let Ok(Reply::Published(published)) = result else { panic!("seed {seed}: {reference}: {result:?}") };
                let earlier = self.application.settled.insert(reference, published.offset.unwrap());
                assert_eq!(earlier, None, "seed {seed}: command {reference} was settled twice");
            }
            Action::Tell { reference: LOG_REFERENCE, event, .. } => self.log_told(event),
            Action::Tell { event, .. } => self.state_told(event),
            Action::Waiting { .. } => {}
            Action::Authenticate { .. } | Action::Stopped(_) => panic!("seed {seed}: {action:?}"),
        }
    }

    fn log_told(&mut self, event: Event) {
        let (seed, at) = (self.seed, &mut self.application.at);
        match event {
            Event::Message(message) => {
                let offset = message.offset.unwrap();
                assert_eq!(offset, *at + 1, "seed {seed}: lost or told twice");
                assert_eq!(message.json::<u64>().unwrap(), self.server.logged(offset), "seed {seed}: another message");
                *at = offset;
            }
            // The client was told to start afresh: everything comes again, and that is said.
            Event::Gap(gap) if &*gap.reason == "epoch" => *at = 0,
            Event::Gap(gap) => {
                // While two connections overlap, one may have brought what the other says is missing.
                let (from, to) = gap.from.zip(gap.to).unwrap();
                assert!(from <= *at + 1 && to > *at, "seed {seed}: a gap that is not where something is missing: {gap:?} at {at}");
                assert_eq!(gap.missed, Some(to + 1 - from), "seed {seed}");
                *at = to;
            }
            Event::Status(_) => {}
            Event::Snapshot(_) | Event::Stopped(_) => panic!("seed {seed}: {event:?}"),
        }
    }

    fn state_told(&mut self, event: Event) {
        let state = &mut self.application.state;
        match event {
            Event::Snapshot(snapshot) => {
                let entries = snapshot.entries.iter();
                *state = entries.map(|entry| (entry.key.to_string(), entry.data.get().parse().unwrap())).collect();
            }
            Event::Message(message) if message.deleted => drop(state.remove(&*message.key.unwrap())),
            Event::Message(message) => drop(state.insert(message.key.clone().unwrap().into(), message.json().unwrap())),
            Event::Gap(_) | Event::Status(_) => {}
            Event::Stopped(_) => panic!("seed {}: {event:?}", self.seed),
        }
    }

    fn step(&mut self) {
        match self.dice.below(40) {
            0..=4 => self.server.publish(None),
            5..=8 => {
                let (key, value) = (format!("k{}", self.dice.below(6)), self.dice.below(1000));
                let deletes = self.dice.one_in(4);
                self.server.set(&key, (!deletes).then_some(value));
            }
            9..=11 => self.command(),
            12..=22 => self.hear(),
            23..=29 => self.answer(),
            30 | 31 => self.pass(),
            32 | 33 => self.lose(1006, ""),
            34 => self.lose(4000, "draining;retry_ms=50"),
            35 => self.lose(4103, "slow_consumer"),
            36 => {
                if self.dice.one_in(4) {
                    self.lose(4301, "epoch_reset");
                }
            }
            37 => self.server.go_away(),
            38 => self.server.trim(self.dice.below(5)),
            _ => self.server.begin_state_anew(self.dice.below(4)),
        }
    }

    fn command(&mut self) {
        let reference = FIRST_COMMAND + self.commands.len() as u64;
        self.commands.insert(reference);
        let body = Body::Data(Bytes::from(reference.to_string()));
        let publish =
            Publish { channel: ChannelName::new(LOG).unwrap(), message_id: Some(format!("m{reference}").into()), key: None, body };
        self.put(Input::Command { reference, command: Command::Publish(publish), timeout_ms: 1 << 40 });
    }

    /// A frame of the server arrives, perhaps twice.
    fn hear(&mut self) {
        let pick = self.dice.below(8);
        let Some((attempt, frame)) = self.server.next_frame(pick) else { return };
        let repeats = frame.contains(r#""type":"message""#) && !self.calm && self.dice.one_in(6);
        if frame == server::UPGRADED {
            if !self.calm && self.dice.one_in(5) {
                self.server.cut(attempt);
                return self.put(Input::Closed { attempt, code: 1006, reason: "refused".into() });
            }
            return self.put(Input::Opened { attempt });
        }
        for _ in 0..=u64::from(repeats) {
            self.put(Input::Received { attempt, text: frame.as_str().into() });
        }
    }

    /// The server reads what a client has said.
    fn answer(&mut self) {
        let (pick, refuses) = (self.dice.below(8), !self.calm && self.dice.one_in(5));
        self.server.answer(pick, refuses);
    }

    /// A connection ends, with all that was on its way.
    fn lose(&mut self, code: u16, reason: &str) {
        let pick = self.dice.below(8);
        if let Some(attempt) = self.server.lose(pick) {
            self.put(Input::Closed { attempt, code, reason: reason.into() });
        }
    }

    /// Time goes on to what is due next, if that is not far.
    fn pass(&mut self) {
        let due = self.machine.deadline();
        if due != u64::MAX {
            self.now = self.now.max(due);
            self.put(Input::Tick);
        }
    }

    /// Nothing fails any more: what the application has becomes what the server has.
    fn rest(&mut self) {
        self.calm = true;
        for _ in 0..TURNS {
            while self.server.has_frames() || self.server.has_questions() {
                self.hear();
                self.answer();
            }
            let settled = self.commands.len() == self.application.settled.len();
            if settled && self.application.at == self.server.top() && self.application.state == self.server.state() {
                return;
            }
            self.pass();
        }
        let Application { at, state, settled } = &self.application;
        panic!(
            "seed {}: after all it has the log up to {at} of {}, the state {state:?} of {:?}, and {} of {} commands answered",
            self.seed,
            self.server.top(),
            self.server.state(),
            settled.len(),
            self.commands.len()
        );
    }
}

#[test]
fn nothing_is_lost_and_nothing_is_told_twice() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.rest();
        for (reference, offset) in &world.application.settled {
            let stored = world.server.all().filter(|value| value == reference).count();
            assert_eq!((stored, world.server.logged(*offset)), (1, *reference), "seed {seed}: stored once, where it is said to be");
        }
    }
}
