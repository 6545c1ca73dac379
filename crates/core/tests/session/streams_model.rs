//! All kinds of lanes together: each stream whole or with its gaps, whatever was parked, fetched, lost and shed on the way.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use proptest::prelude::*;
use tidegate_core::Publication;
use tidegate_core::broker::{Page, PageLimit, Snapshot};
use tidegate_core::message::{GapReason, ServerMessage, Since};
use tidegate_core::session::{Input, Notice, Output, Push, Shed, SubscriptionId, Transmit};

use crate::bench::{Bench, at, many_cases, publication, with_outbox};

#[derive(Debug, PartialEq)]
enum Told {
    Message(u64),
    Missing(u64),
}

const MIXED: [&str; 6] = ["log:a", "log:b", "state:a", "state:b", "oldest:a", "sample:a"];

#[derive(Clone, Debug)]
enum MixedStep {
    Publish {
        lane: usize,
        key: usize,
        size: usize,
    },
    Write {
        count: usize,
    },
    /// The broker reads for the oldest request that it has not read for.
    Read,
    /// The oldest answer arrives.
    Answer,
    /// The last few messages of a channel were lost on the bus.
    Lose {
        lane: usize,
        known: bool,
    },
    Repeat {
        lane: usize,
    },
    Shed(Shed),
}

fn mixed_step() -> impl Strategy<Value = MixedStep> {
    prop_oneof![
        20 => (0..MIXED.len(), 0..24usize, 1..200usize).prop_map(|(lane, key, size)| MixedStep::Publish { lane, key, size }),
        8 => (1..8usize).prop_map(|count| MixedStep::Write { count }),
        4 => Just(MixedStep::Read),
        4 => Just(MixedStep::Answer),
        2 => (0..MIXED.len(), any::<bool>()).prop_map(|(lane, known)| MixedStep::Lose { lane, known }),
        1 => (0..MIXED.len()).prop_map(|lane| MixedStep::Repeat { lane }),
        1 => Just(MixedStep::Shed(Shed::Events)),
        1 => Just(MixedStep::Shed(Shed::Cursors)),
    ]
}

/// What a channel's log holds, and what its subscriber was told.
struct Channel {
    subscription: SubscriptionId,
    log: Vec<Arc<Publication>>,
    /// Messages on their way to the session; they come in order, or are lost together.
    received: Vec<Told>,
    dropped: u32,
    lost: bool,
}

struct Mixed {
    bench: Bench,
    channels: Vec<Channel>,
    asked: VecDeque<Output>,
    answers: VecDeque<Input>,
}

impl Mixed {
    fn new(bytes: usize, messages: usize) -> Self {
        let mut bench = Bench::new(with_outbox(bytes, messages));
        let mut channels = Vec::new();
        for channel in MIXED {
            let is_event = channel.starts_with("oldest") || channel.starts_with("sample");
            let subscription = bench.join(channel, (!is_event).then_some(0));
            if channel.starts_with("state") {
                bench.handle(Input::SnapshotTaken(subscription, Ok(Arc::new(Snapshot { position: at(0), entries: vec![] }))));
            }
            channels.push(Channel { subscription, log: vec![], received: vec![], dropped: 0, lost: false });
        }
        bench.write();
        bench.outputs();
        Self { bench, channels, asked: VecDeque::new(), answers: VecDeque::new() }
    }

    fn publish(&mut self, lane: usize, key: usize, size: usize, is_lost: bool) {
        let channel = &mut self.channels[lane];
        let number = channel.log.len() as u64 + 1;
        let message = match MIXED[lane].split(':').next() {
            Some("log") => publication(MIXED[lane], Some(at(number)), None, number, size),
            Some("state") => publication(MIXED[lane], Some(at(number)), Some(&key.to_string()), number, size),
            _ => publication(MIXED[lane], None, None, number, size),
        };
        channel.log.push(message.clone());
        let may_pass = !is_lost && key.is_multiple_of(3);
        if may_pass && self.bench.session.pass(self.bench.now, channel.subscription, std::slice::from_ref(&message)) {
            channel.received.push(Told::Message(number));
        } else if !is_lost {
            match self.bench.session.deliver(self.bench.now, channel.subscription, &message) {
                Push::Dropped(dropped) | Push::Refused(dropped) => channel.dropped += dropped,
                Push::Ignored => assert!(message.position.is_some(), "an event was ignored"),
                Push::Disconnected => panic!("no lane here disconnects"),
                Push::Queued | Push::Full | Push::Conflated | Push::Parked => {}
            }
        }
    }

    fn lane(&self, subscription: SubscriptionId) -> usize {
        self.channels.iter().position(|channel| channel.subscription == subscription).unwrap()
    }

    fn page(&self, lane: usize, since: Since, limit: PageLimit) -> Page {
        let Since::Position(start) = since else { panic!("a running subscription reads from a position") };
        let log = &self.channels[lane].log;
        let after = log.iter().filter(|message| message.offset() > start.offset);
        let is_latest = |message: &Publication| log[message.offset() as usize..].iter().all(|later| later.key != message.key);
        let after: Vec<_> = after.filter(|message| message.key.is_none() || is_latest(message)).cloned().collect();
        let mut bytes = 0;
        let fits = |message: &&Arc<Publication>| {
            let begun = bytes;
            bytes += message.cost();
            begun == 0 || bytes <= limit.bytes
        };
        let messages: Vec<_> = after.iter().take(limit.messages).take_while(fits).cloned().collect();
        let more = messages.len() < after.len();
        Page { start, messages, top: at(log.len() as u64), more }
    }

    fn read(&mut self) {
        self.asked.extend(std::iter::from_fn(|| self.bench.session.poll_output()));
        match self.asked.pop_front() {
            Some(Output::Fetch { subscription, since, limit, .. }) => {
                let page = self.page(self.lane(subscription), since, limit);
                self.answers.push_back(Input::Fetched(subscription, Ok(page)));
            }
            Some(Output::Notice(Notice::Shed { rule, dropped })) => {
                let matching = |channel: &&mut Channel| rule.pattern.matches(&channel.log[0].channel);
                self.channels.iter_mut().filter(|channel| !channel.log.is_empty()).find(matching).unwrap().dropped += dropped;
            }
            Some(other) => panic!("{other:?}"),
            None => {}
        }
    }

    fn answer(&mut self) {
        if let Some(answer) = self.answers.pop_front() {
            self.bench.handle(answer);
        }
    }

    fn write(&mut self) -> bool {
        let Some(transmit) = self.bench.session.poll_transmit(self.bench.now) else { return false };
        let channel = |name: &str| MIXED.iter().position(|channel| *channel == name).unwrap();
        match transmit {
            Transmit::Publication(publication) => {
                let number = match &publication.body {
                    tidegate_core::Body::Data(data) => std::str::from_utf8(data).unwrap().parse().unwrap(),
                    tidegate_core::Body::Deleted => panic!("a deletion"),
                };
                self.channels[channel(publication.channel.as_str())].received.push(Told::Message(number));
            }
            Transmit::Message(message) => match *message {
                ServerMessage::Gap(gap) if gap.reason == GapReason::Slow => {
                    self.channels[channel(gap.channel.as_str())].received.push(Told::Missing(gap.missed.unwrap()));
                }
                ServerMessage::Gap(gap) if gap.reason == GapReason::Bus => {}
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
        true
    }

    fn step(&mut self, step: MixedStep) {
        match step {
            MixedStep::Publish { lane, key, size } => self.publish(lane, key, size, false),
            MixedStep::Write { count } => (0..count).for_each(|_| _ = self.write()),
            MixedStep::Read => self.read(),
            MixedStep::Answer => self.answer(),
            MixedStep::Lose { lane, known } => {
                self.publish(lane, 3, 10, true);
                let position = (known && self.channels[lane].log[0].position.is_some()).then(|| at(self.channels[lane].log.len() as u64));
                self.channels[lane].lost = true;
                self.bench.handle(Input::Lost(self.channels[lane].subscription, position));
            }
            MixedStep::Repeat { lane } => {
                if let Some(message) = self.channels[lane].log.iter().rev().find(|message| message.position.is_some()).cloned()
                    && !self.channels[lane].lost
                {
                    let push = self.bench.session.deliver(self.bench.now, self.channels[lane].subscription, &message);
                    assert_eq!(push, Push::Ignored, "a repeat on {}", MIXED[lane]);
                }
            }
            MixedStep::Shed(shed) => self.bench.handle(Input::Shed(shed)),
        }
    }

    /// Lets everything arrive that is on its way.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let wrote = self.write();
            self.read();
            self.answer();
            if !wrote
                && !self.bench.session.wants_write()
                && self.asked.is_empty()
                && self.answers.is_empty()
                && !self.bench.session.has_output()
            {
                if self.bench.session.lanes_behind() == 0 {
                    return;
                }
                self.bench.pass_ms(100);
            }
        }
        panic!("it does not settle");
    }

    fn check(&self, lane: usize) {
        let Channel { log, received, dropped, lost, .. } = &self.channels[lane];
        match MIXED[lane].split(':').next() {
            Some("log") => {
                let all: Vec<_> = (1..=log.len() as u64).map(Told::Message).collect();
                assert_eq!(*received, all, "{}: every message once, in order", MIXED[lane]);
            }
            Some("state") => {
                let mut values = BTreeMap::new();
                let mut before = 0;
                for told in received {
                    let Told::Message(offset) = *told else { panic!("a gap on {}", MIXED[lane]) };
                    assert!(offset > before, "{}: {offset} after {before}", MIXED[lane]);
                    before = offset;
                    values.insert(log[offset as usize - 1].key.clone(), offset);
                }
                let latest: BTreeMap<_, _> = log.iter().map(|message| (message.key.clone(), message.offset())).collect();
                assert_eq!(values, latest, "{}", MIXED[lane]);
            }
            _ => {
                let missing = |told: &Told| match told {
                    Told::Missing(missing) => *missing,
                    Told::Message(_) => 0,
                };
                assert_eq!(received.iter().map(missing).sum::<u64>(), u64::from(*dropped), "{}: all drops are told", MIXED[lane]);
                let mut next = 1;
                for told in received {
                    match told {
                        Told::Missing(missing) => next += missing,
                        Told::Message(number) if *lost => next = *number + 1,
                        Told::Message(number) => {
                            assert_eq!(*number, next, "{}", MIXED[lane]);
                            next += 1;
                        }
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(many_cases())]

    #[test]
    fn every_stream_is_whole_or_says_what_is_missing(
        bytes in 300..3000usize,
        messages in 1..16usize,
        steps in prop::collection::vec(mixed_step(), 1..120),
    ) {
        let mut mixed = Mixed::new(bytes, messages);
        for step in steps {
            mixed.step(step);
            // A message that is larger than half of the budget comes from history whole.
            prop_assert!(mixed.bench.session.outbox_bytes() <= bytes + 300);
        }
        mixed.settle();
        prop_assert_eq!(mixed.bench.session.outbox_bytes(), 0);
        for lane in 0..MIXED.len() {
            mixed.check(lane);
        }
    }
}
