//! The machine in virtual time: what it does about losses, closes, moves, repeats and refusals.

use bytes::Bytes;
use tidegate_core::message::{Publish, Since};
use tidegate_core::{Body, ChannelKind, ChannelName};

use super::losing::STABLE_MS;
use super::*;
use crate::client::Credential;

pub(super) const WELCOME: &str = r#"{"type":"welcome","protocol":1,"connection":"c","node":"n","expires_in_ms":1,"heartbeat":{"ping_ms":25000,"app_ping_ms":60000,"dead_ms":62500},"limits":{"message_bytes":65536,"subscriptions":128,"in_flight":2},"reconnect":{"window_ms":8000,"base_ms":1000,"cap_ms":60000}}"#;

/// A machine whose random numbers are all one half, and what it did.
struct World {
    machine: Machine<fn() -> f64>,
    now: u64,
    actions: Vec<Action>,
}

impl World {
    fn new(authenticates: bool) -> Self {
        Self { machine: Machine::new(authenticates, || 0.5), now: 1000, actions: Vec::new() }
    }

    /// Connected and welcomed, with a subscription 7 of the log `a`.
    fn live() -> Self {
        let mut world = Self::new(false);
        world.handle(Input::Start);
        world.subscribe(7, Some(Since::Earliest));
        world.welcome(1);
        world.receive(
            1,
            r#"{"type":"subscribed","id":1,"channel":"a","kind":"log","position":{"epoch":"e","offset":2},"recovery":"complete"}"#,
        );
        world.receive(1, r#"[{"type":"message","channel":"a","offset":1,"data":1},{"type":"message","channel":"a","offset":2,"data":2}]"#);
        world.receive(1, r#"{"type":"live","channel":"a","offset":2}"#);
        world.actions.clear();
        world
    }

    fn handle(&mut self, input: Input) {
        self.machine.handle(self.now, input);
        self.actions.extend(std::iter::from_fn(|| self.machine.poll()));
    }

    fn subscribe(&mut self, reference: u64, since: Option<Since>) {
        self.handle(Input::Subscribe { reference, channel: ChannelName::new("a").unwrap(), kind: Some(ChannelKind::Log), since });
    }

    fn publish(&mut self, reference: u64) {
        let (channel, body) = (ChannelName::new("a").unwrap(), Body::Data(Bytes::from_static(b"1.50")));
        let command = Command::Publish(Publish { channel, message_id: Some(format!("m{reference}").into()), key: None, body });
        self.handle(Input::Command { reference, command, timeout_ms: 30_000 });
    }

    fn welcome(&mut self, attempt: u64) {
        self.handle(Input::Opened { attempt });
        self.receive(attempt, WELCOME);
    }

    fn receive(&mut self, attempt: u64, text: &str) {
        self.handle(Input::Received { attempt, text: text.into() });
    }

    fn close(&mut self, attempt: u64, code: u16, reason: &str) {
        self.handle(Input::Closed { attempt, code, reason: reason.into() });
    }

    /// Lets time pass to the machine's next deadline; how much.
    fn pass(&mut self) -> u64 {
        let passed = self.machine.deadline().saturating_sub(self.now);
        self.now += passed;
        self.handle(Input::Tick);
        passed
    }

    /// What was sent on an attempt since the last look.
    fn sent(&mut self, on: u64) -> Vec<String> {
        let sent = self.actions.iter().filter_map(|action| match action {
            Action::Send { attempt, text } if *attempt == on => Some(text.clone()),
            _ => None,
        });
        let sent = sent.collect();
        self.actions.clear();
        sent
    }

    /// Offsets and gaps that were told, in order.
    fn told(&mut self) -> Vec<String> {
        let told = self.actions.drain(..).filter_map(|action| match action {
            Action::Tell { event: Event::Message(message), .. } => {
                Some(message.offset.map_or("event".to_owned(), |offset| offset.to_string()))
            }
            Action::Tell { event: Event::Gap(gap), .. } => Some(format!("gap {}", gap.reason)),
            Action::Tell { event: Event::Stopped(stop), .. } => Some(format!("stopped {stop}")),
            _ => None,
        });
        told.collect()
    }

    fn opened(&self) -> Option<u64> {
        self.actions.iter().rev().find_map(|action| match action {
            Action::Open { attempt, .. } => Some(*attempt),
            _ => None,
        })
    }
}

#[test]
fn a_lost_connection_resumes_at_the_cursor() {
    let mut world = World::live();
    world.receive(1, r#"{"type":"message","channel":"a","offset":5,"data":1}"#);
    world.close(1, 1006, "");
    assert_eq!(world.pass(), 4000, "the first try after an unexpected loss comes within the window");
    assert_eq!(world.opened(), Some(2));
    world.welcome(2);
    let sent = world.sent(2);
    assert!(sent[0].contains(r#""since":{"epoch":"e","offset":5}"#), "{sent:?}");
}

#[test]
fn what_was_received_is_not_told_again() {
    let mut world = World::live();
    world.receive(1, r#"{"type":"message","channel":"a","offset":2,"data":1}"#);
    world.receive(1, r#"{"type":"message","channel":"a","offset":3,"data":1}"#);
    assert_eq!(world.told(), ["3"]);
}

#[test]
fn each_class_of_close_is_answered_in_its_way() {
    for (code, reason, waits) in [
        (4000, "draining;retry_ms=3500", Some(3500)),
        (4103, "slow_consumer", Some(500)),
        (4101, "overloaded;retry_ms=9000", Some(9000)),
        (4201, "expired", Some(500)),
        (1001, "", Some(4000)),
        (4300, "session_unknown", Some(4000)),
        (4401, "bad_credentials", None),
        (1002, "", None),
        (1000, "", None),
    ] {
        let mut world = World::live();
        world.close(1, code, reason);
        let stopped = world.actions.iter().any(|action| matches!(action, Action::Stopped(_)));
        assert_eq!(stopped, waits.is_none(), "{code}");
        match waits {
            Some(ms) => assert_eq!(world.pass(), ms, "{code}"),
            None => assert_eq!(world.machine.deadline(), u64::MAX, "{code}"),
        }
    }
}

#[test]
fn void_cursors_are_dropped_and_told() {
    let mut world = World::live();
    world.close(1, 4300, "session_unknown");
    assert_eq!(world.told(), ["gap epoch"]);
    world.pass();
    world.welcome(2);
    assert!(world.sent(2)[0].contains(r#""since":"earliest""#), "it starts as at first");
}

#[test]
fn credentials_are_asked_for_three_times() {
    let mut world = World::new(true);
    world.handle(Input::Start);
    for attempt in 1..=4 {
        world.handle(Input::Credential { attempt, credential: Some(Credential::Ticket("t".to_owned())) });
        assert_eq!(world.opened(), Some(attempt));
        world.close(attempt, 4201, "expired");
        let asked = world.actions.iter().any(|action| matches!(action, Action::Stopped(_)));
        assert_eq!(asked, attempt == 4);
        world.pass();
    }
}

#[test]
fn tries_back_off_until_one_lasts() {
    let mut world = World::live();
    world.close(1, 1006, "");
    let waits: Vec<u64> = (2..8)
        .map(|attempt| {
            let waited = world.pass();
            world.close(attempt, 1006, "connection refused");
            waited
        })
        .collect();
    assert_eq!(waits, [4000, 1000, 2000, 4000, 8000, 16_000]);
    world.pass();
    world.welcome(8);
    world.now += STABLE_MS;
    world.close(8, 1006, "");
    assert_eq!(world.pass(), 4000);
}

#[test]
fn a_move_makes_before_it_breaks() {
    let mut world = World::live();
    world.receive(1, r#"{"type":"going_away","reason":"drain","reconnect_after_ms":0,"deadline_ms":10000,"handover":"h"}"#);
    assert!(
        world.actions.iter().any(|action| matches!(action, Action::Open { attempt: 2, query } if query[0] == ("handover", "h".into())))
    );
    world.welcome(2);
    let sent = world.sent(2);
    assert!(sent[0].contains(r#""offset":2"#), "{sent:?}");
    let id = serde_json::from_str::<serde_json::Value>(&sent[0]).unwrap()["id"].clone();
    world.receive(1, r#"{"type":"message","channel":"a","offset":3,"data":1}"#);
    world.receive(
        2,
        &format!(
            r#"{{"type":"subscribed","id":{id},"channel":"a","kind":"log","position":{{"epoch":"e","offset":4}},"recovery":"complete"}}"#
        ),
    );
    world.receive(2, r#"[{"type":"message","channel":"a","offset":3,"data":1},{"type":"message","channel":"a","offset":4,"data":1}]"#);
    world.receive(1, r#"{"type":"message","channel":"a","offset":4,"data":1}"#);
    assert!(!world.actions.iter().any(|action| matches!(action, Action::Close { .. })), "the old one stays until the new one is live");
    world.receive(2, r#"{"type":"live","channel":"a","offset":4}"#);
    assert!(world.actions.iter().any(|action| matches!(action, Action::Close { attempt: 1, code: 1000, reason: "moved" })));
    assert_eq!(world.told(), ["3", "4"]);
    world.close(1, 1000, "moved");
    assert!(world.actions.is_empty(), "the old one's end is of no interest");
}

#[test]
fn publishes_wait_for_room_and_are_repeated_with_the_same_id() {
    let mut world = World::live();
    (1..=3).for_each(|reference| world.publish(reference));
    let sent = world.sent(1);
    assert_eq!(sent.len(), 2, "in_flight is 2");
    assert!(sent[0].contains(r#""message_id":"m1""#) && sent[0].contains(r#""data":1.50"#), "{sent:?}");
    world.close(1, 1006, "");
    world.pass();
    world.welcome(2);
    let again = world.sent(2);
    assert!(again.iter().any(|text| text == &sent[0]), "the same bytes: {again:?}");
    world.now += 30_000;
    world.handle(Input::Tick);
    let failed = world.actions.iter().filter(|action| matches!(action, Action::Settle { result: Err(Error::Timeout), .. })).count();
    assert_eq!(failed, 3);
}

#[test]
fn a_refusal_that_names_a_time_holds_everything_back() {
    let mut world = World::live();
    world.publish(1);
    let sent = world.sent(1);
    let id = serde_json::from_str::<serde_json::Value>(&sent[0]).unwrap()["id"].clone();
    world.receive(1, &format!(r#"{{"type":"error","id":{id},"code":"rate_limited","message":"","retry_after_ms":800}}"#));
    world.publish(2);
    assert!(world.sent(1).is_empty());
    assert_eq!(world.pass(), 800);
    assert_eq!(world.sent(1), sent, "one at a time until the server is content");
}

#[test]
fn silence_is_asked_before_it_is_believed() {
    let mut world = World::live();
    assert_eq!(world.pass(), 62_500);
    assert_eq!(world.sent(1), [r#"{"type":"ping"}"#]);
    world.receive(1, r#"{"type":"pong"}"#);
    assert_eq!(world.pass(), 62_500);
    world.pass();
    assert!(world.actions.iter().any(|action| matches!(action, Action::Close { attempt: 1, code: 4104, .. })));
}

#[test]
fn an_application_that_takes_no_events_does_not_make_the_server_silent() {
    let mut world = World::live();
    for _ in 0..100 {
        world.now += 10_000;
        world.handle(Input::Held);
        world.handle(Input::Tick);
    }
    assert!(world.actions.is_empty(), "{:?}", world.actions);
}

#[test]
fn late_events_of_an_older_attempt_change_nothing() {
    let mut world = World::live();
    world.close(1, 1006, "");
    world.pass();
    world.actions.clear();
    world.receive(1, r#"{"type":"message","channel":"a","offset":9,"data":1}"#);
    world.close(1, 4401, "bad_credentials");
    assert!(world.actions.is_empty(), "{:?}", world.actions);
}

#[test]
fn a_second_subscription_of_a_channel_ends_at_once() {
    let mut world = World::live();
    world.subscribe(8, None);
    assert!(world.told()[0].starts_with("stopped already_subscribed"));
    world.receive(1, r#"{"type":"message","channel":"a","offset":3,"data":1}"#);
    assert_eq!(world.told(), ["3"], "the first goes on");
}

#[test]
fn the_end_is_told_to_everyone_and_to_who_comes_later() {
    let mut world = World::live();
    world.publish(1);
    world.close(1, 4403, "forbidden");
    assert!(world.actions.iter().any(|action| matches!(action, Action::Settle { result: Err(Error::Stopped(_)), .. })));
    assert_eq!(world.told(), ["stopped 4403 forbidden"]);
    world.subscribe(9, None);
    assert_eq!(world.told(), ["stopped 4403 forbidden"]);
}

#[test]
fn a_bad_frame_ends_the_connection_and_not_the_client() {
    let mut world = World::live();
    world.receive(1, "{");
    assert!(world.actions.iter().any(|action| matches!(action, Action::Close { code: 4400, .. })));
    assert_eq!(world.pass(), 4000);
}

#[test]
fn every_frame_that_the_protocol_knows_is_taken() {
    let file: serde_json::Value = serde_json::from_str(include_str!("../../../../conformance/vectors/messages.json")).unwrap();
    let vectors = file["vectors"].as_array().unwrap().iter().filter(|vector| vector["from"] == "server");
    let mut count = 0;
    for vector in vectors {
        let text = vector["raw"].as_str().map_or_else(|| vector["frame"].to_string(), str::to_owned);
        let mut world = World::live();
        world.receive(1, &text);
        let refused = world.actions.iter().any(|action| matches!(action, Action::Close { code: 4400, .. }));
        assert!(!refused, "{}: {:?}", vector["name"], world.actions);
        count += 1;
    }
    assert!(count >= 35, "the file has lost its server vectors");
}

#[test]
fn a_frame_of_which_a_part_is_not_understood_is_not_taken_for_less() {
    let mut world = World::live();
    world.receive(1, r#"{"type":"gap","channel":"a","missed":3,"reason":"of version 2"}"#);
    assert!(world.actions.iter().any(|action| matches!(action, Action::Close { code: 4400, .. })));
}

#[test]
fn what_a_ping_carries_is_echoed() {
    let mut world = World::live();
    world.receive(1, r#"{"type":"ping","n":{"at":1.50}}"#);
    world.receive(1, r#"{"type":"ping"}"#);
    assert_eq!(world.sent(1), [r#"{"type":"pong","n":{"at":1.50}}"#, r#"{"type":"pong"}"#]);
}

#[test]
fn a_revoked_subscription_ends() {
    let mut world = World::live();
    world.receive(1, r#"{"type":"unsubscribed","channel":"a","code":"revoked","retry_after_ms":null}"#);
    assert_eq!(world.told(), ["stopped revoked"]);
}

/// The place of a state means nothing without the state: the next connection asks for a snapshot as long as none was complete.
#[test]
fn a_state_is_resumed_only_from_a_snapshot_that_was_complete() {
    let mut world = World::new(false);
    world.handle(Input::Start);
    let channel = ChannelName::new("a").unwrap();
    world.handle(Input::Subscribe { reference: 7, channel, kind: Some(ChannelKind::State), since: None });
    let snapshot = |epoch: &str, offset: u64, more: bool| {
        format!(
            r#"{{"type":"snapshot","channel":"a","epoch":"{epoch}","offset":{offset},"entries":[{{"key":"k","offset":1,"data":1}}],"more":{more}}}"#
        )
    };
    let before = [
        vec![],
        vec![snapshot("e", 5, true)],
        vec![snapshot("e", 5, true), snapshot("e", 5, false)],
        vec![r#"{"type":"gap","channel":"a","missed":null,"reason":"epoch","position":{"epoch":"f","offset":9}}"#.to_owned()],
        vec![snapshot("f", 9, true)],
        vec![snapshot("f", 9, false), r#"{"type":"live","channel":"a","offset":9}"#.to_owned()],
    ];
    let after = [None, None, Some(("e", 5)), None, None, Some(("f", 9))];
    let mut asked = 1;
    world.welcome(1);
    for (attempt, (frames, place)) in (1..).zip(before.into_iter().zip(after)) {
        let epoch = if attempt <= 4 { "e" } else { "f" };
        world.receive(
            attempt,
            &format!(
                r#"{{"type":"subscribed","id":{asked},"channel":"a","kind":"state","position":{{"epoch":"{epoch}","offset":5}},"recovery":"none"}}"#
            ),
        );
        frames.iter().for_each(|frame| world.receive(attempt, frame));
        world.close(attempt, 4000, "draining;retry_ms=1");
        world.pass();
        world.actions.clear();
        world.welcome(attempt + 1);
        let sent = world.sent(attempt + 1);
        let subscribe: serde_json::Value = serde_json::from_str(&sent[0]).unwrap();
        asked = subscribe["id"].as_u64().unwrap();
        let since = subscribe.get("since").map(|since| (since["epoch"].as_str().unwrap(), since["offset"].as_u64().unwrap()));
        assert_eq!(since, place, "after {frames:?}");
    }
}
