//! Event lanes against a model that keeps everything: the outcome of every push and every item written, exactly, by every policy.

use std::collections::VecDeque;

use proptest::prelude::*;
use tidegate_core::message::{ClientMessage, GapReason, ServerMessage};
use tidegate_core::session::{Input, Notice, Push, Shed, Transmit};

use crate::bench::{Bench, many_cases, name, publication, with_outbox};

const EVENTS: [&str; 6] = ["oldest:a", "oldest:b", "newest:a", "sample:a", "pause:a", "cut:a"];

/// Every message since the last that was written, whether it still waits or was dropped.
#[derive(Default)]
struct EventModel {
    slots: VecDeque<Slot>,
}

struct Slot {
    number: u64,
    cost: usize,
    dropped: bool,
}

#[derive(Debug, PartialEq)]
enum Told {
    Message(u64),
    Missing(u64),
}

impl EventModel {
    fn waiting(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(|slot| !slot.dropped)
    }

    fn drop_each(&mut self, which: impl Fn(usize) -> bool) -> u32 {
        let mut dropped = 0;
        for (_, slot) in self.slots.iter_mut().filter(|slot| !slot.dropped).enumerate().filter(|(at, _)| which(*at)) {
            slot.dropped = true;
            dropped += 1;
        }
        dropped
    }

    fn next(&mut self) -> Option<Told> {
        let mut missing = 0;
        while self.slots.front().is_some_and(|slot| slot.dropped) {
            self.slots.pop_front();
            missing += 1;
        }
        if missing > 0 { Some(Told::Missing(missing)) } else { self.slots.pop_front().map(|slot| Told::Message(slot.number)) }
    }
}

struct EventsModel {
    lanes: Vec<EventModel>,
    /// Lanes in the order in which they are served.
    turn: VecDeque<usize>,
    bytes: usize,
    messages: usize,
}

impl EventsModel {
    fn fits(&self, cost: usize, without: Option<usize>) -> bool {
        let others = || self.lanes.iter().enumerate().filter(|(lane, _)| Some(*lane) != without).flat_map(|(_, lane)| lane.waiting());
        let (bytes, messages) = (others().map(|slot| slot.cost).sum::<usize>(), others().count());
        messages == 0 || (messages < self.messages && bytes + cost <= self.bytes)
    }

    fn is_above_half(&self) -> bool {
        let all = || self.lanes.iter().flat_map(EventModel::waiting);
        all().count() > self.messages / 2 || all().map(|slot| slot.cost).sum::<usize>() > self.bytes / 2
    }

    fn push(&mut self, lane: usize, number: u64, cost: usize) -> Push {
        let mut dropped = 0;
        if !self.fits(cost, None) {
            match EVENTS[lane].split(':').next() {
                Some("oldest") if self.fits(cost, Some(lane)) => {
                    while !self.fits(cost, None) {
                        dropped += self.lanes[lane].drop_each(|at| at == 0);
                    }
                }
                Some("sample") => dropped += self.lanes[lane].drop_each(|at| at % 2 == 0),
                Some("cut") => return Push::Disconnected,
                _ => {}
            }
        }
        let fits = self.fits(cost, None);
        dropped += u32::from(!fits);
        self.lanes[lane].slots.push_back(Slot { number, cost, dropped: !fits });
        if !self.turn.contains(&lane) {
            self.turn.push_back(lane);
        }
        match dropped {
            0 if EVENTS[lane] == "pause:a" && self.is_above_half() => Push::Full,
            0 => Push::Queued,
            dropped if fits => Push::Dropped(dropped),
            dropped => Push::Refused(dropped),
        }
    }

    fn next(&mut self) -> Option<(usize, Told)> {
        let lane = self.turn.pop_front()?;
        let told = self.lanes[lane].next()?;
        if !self.lanes[lane].slots.is_empty() {
            self.turn.push_back(lane);
        }
        Some((lane, told))
    }
}

#[derive(Clone, Debug)]
enum EventStep {
    Publish { lane: usize, size: usize },
    Write { count: usize },
    Unsubscribe { lane: usize },
    Shed,
}

fn event_step() -> impl Strategy<Value = EventStep> {
    prop_oneof![
        20 => (0..EVENTS.len(), 1..200usize).prop_map(|(lane, size)| EventStep::Publish { lane, size }),
        6 => (1..6usize).prop_map(|count| EventStep::Write { count }),
        1 => (0..EVENTS.len()).prop_map(|lane| EventStep::Unsubscribe { lane }),
        1 => Just(EventStep::Shed),
    ]
}

fn told(transmit: &Transmit) -> (usize, Told) {
    let lane = |channel: &str| EVENTS.iter().position(|event| *event == channel).unwrap();
    match transmit {
        Transmit::Publication(publication) => {
            let number = match &publication.body {
                tidegate_core::Body::Data(data) => std::str::from_utf8(data).unwrap().parse().unwrap(),
                tidegate_core::Body::Deleted => panic!("a deletion"),
            };
            (lane(publication.channel.as_str()), Told::Message(number))
        }
        Transmit::Message(message) => match &**message {
            ServerMessage::Gap(gap) => {
                assert_eq!((gap.reason, gap.range, gap.position), (GapReason::Slow, None, None));
                (lane(gap.channel.as_str()), Told::Missing(gap.missed.unwrap()))
            }
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(many_cases())]

    #[test]
    fn event_lanes_do_exactly_what_their_policies_say(
        bytes in 200..3000usize,
        messages in 1..12usize,
        steps in prop::collection::vec(event_step(), 1..120),
    ) {
        let mut bench = Bench::new(with_outbox(bytes, messages));
        let mut subscriptions: Vec<_> = EVENTS.iter().map(|channel| Some(bench.join(channel, None))).collect();
        bench.write();
        let lanes = EVENTS.iter().map(|_| EventModel::default()).collect();
        let mut model = EventsModel { lanes, turn: VecDeque::new(), bytes, messages };
        for (number, step) in (1..).zip(steps) {
            match step {
                EventStep::Publish { lane, size } => {
                    let Some(subscription) = subscriptions[lane] else { continue };
                    let message = publication(EVENTS[lane], None, None, number, size);
                    // Past the outbox exactly when nothing waits in it, and then nothing is left behind.
                    if size.is_multiple_of(3) {
                        let passes = bench.session.pass(bench.now, subscription, std::slice::from_ref(&message));
                        prop_assert_eq!(passes, model.turn.is_empty());
                        prop_assert!(!passes || !bench.session.wants_write());
                        if passes {
                            continue;
                        }
                    }
                    let expected = model.push(lane, number, message.cost());
                    prop_assert_eq!(bench.deliver(subscription, &message), expected, "{}", EVENTS[lane]);
                    if expected == Push::Disconnected {
                        prop_assert_eq!(bench.close_frame().map(|(code, _)| code), Some(4103));
                        return Ok(());
                    }
                }
                EventStep::Write { count } => {
                    for _ in 0..count {
                        let written = bench.session.poll_transmit(bench.now);
                        prop_assert_eq!(written.as_ref().map(told), model.next());
                    }
                }
                EventStep::Unsubscribe { lane } => {
                    if subscriptions[lane].take().is_some() {
                        bench.says(ClientMessage::Unsubscribe { id: 1, channel: name(EVENTS[lane]) });
                        let reply = bench.session.poll_transmit(bench.now);
                        prop_assert_eq!(reply, Some(Transmit::Message(Box::new(ServerMessage::Ok { id: 1 }))), "control goes first");
                        model.lanes[lane].slots.clear();
                        model.turn.retain(|&turn| turn != lane);
                    }
                }
                EventStep::Shed => {
                    bench.outputs();
                    bench.handle(Input::Shed(Shed::Events));
                    let shed: u32 = bench.notices().iter().map(|notice| match notice {
                        Notice::Shed { dropped, .. } => *dropped,
                        other => panic!("{other:?}"),
                    }).sum();
                    prop_assert_eq!(shed, model.lanes.iter_mut().map(|lane| lane.drop_each(|_| true)).sum::<u32>());
                }
            }
            let waiting: usize = model.lanes.iter().flat_map(EventModel::waiting).map(|slot| slot.cost).sum();
            prop_assert_eq!(bench.session.outbox_bytes(), waiting);
            prop_assert_eq!(bench.session.wants_pause(), model.is_above_half());
        }
        while let Some(expected) = model.next() {
            prop_assert_eq!(bench.session.poll_transmit(bench.now).as_ref().map(told), Some(expected));
        }
        prop_assert_eq!(bench.session.poll_transmit(bench.now), None);
        prop_assert_eq!(bench.session.outbox_bytes(), 0);
    }
}
