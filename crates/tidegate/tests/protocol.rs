//! The Tidegate protocol over real sockets: subscribe, publish, resume, fall behind, ask, and what each leaves in the metrics.

#![allow(clippy::unwrap_used, reason = "a test")]

mod rig;

use std::sync::Arc;
use std::time::Duration;

use rig::{Peer, Rig, Seen, eventually, frame};
use serde_json::{Value, json};
use tidegate::BoxFuture;
use tidegate::auth::{Admitted, Anonymous, Authenticate, Denied, Refused, UpgradeRequest};
use tidegate::broker::{Embedded, EmbeddedSettings};
use tidegate::message::Credential;
use tidegate::{
    ChannelKind, ChannelName, ChannelRule, Config, ConnectionFilter, ConnectionId, ErrorCode, Gate, Grants, Identity, LimitSettings,
    OutboundMemory, OutboxSettings, Overflow, Pattern, RateSettings, Request, Retention, SessionSettings,
};

/// A client of the protocol: objects in, objects out.
struct Client(Peer);

impl Client {
    async fn open(rig: &Rig) -> Self {
        let mut peer = Peer::open(rig.address).await;
        peer.send(rig::handshake("/ws", "Sec-WebSocket-Protocol: tidegate.v1.json\r\n").as_bytes()).await;
        assert!(peer.head().await.starts_with("HTTP/1.1 101"));
        Self(peer)
    }

    async fn welcome(rig: &Rig) -> Self {
        let mut client = Self::open(rig).await;
        assert_eq!(client.next().await["type"], "welcome");
        client
    }

    /// With a subscription.
    async fn live(rig: &Rig, channel: &str) -> Self {
        let mut client = Self::welcome(rig).await;
        client.subscribe_live(channel).await;
        client
    }

    async fn say(&mut self, object: Value) {
        self.0.send(&frame(0x81, object.to_string().as_bytes())).await;
    }

    /// The next object; pings of either kind are answered on the way.
    async fn next(&mut self) -> Value {
        loop {
            match self.0.see().await {
                Seen::Frame(0x81, payload) => return serde_json::from_slice(&payload).unwrap(),
                Seen::Frame(0x89, payload) => self.0.send(&frame(0x8a, &payload)).await,
                seen => panic!("{seen:?}"),
            }
        }
    }

    async fn ask(&mut self, object: Value) -> Value {
        self.say(object).await;
        self.next().await
    }

    async fn subscribe(&mut self, channel: &str, since: Option<Value>) -> Value {
        let mut command = json!({ "type": "subscribe", "id": 1, "channel": channel });
        if let Some(since) = since {
            command["since"] = since;
        }
        let subscribed = self.ask(command).await;
        assert_eq!(subscribed["type"], "subscribed", "{subscribed}");
        subscribed
    }

    async fn subscribe_live(&mut self, channel: &str) {
        self.subscribe(channel, None).await;
        assert_eq!(self.next().await["type"], "live");
    }
}

fn rule(pattern: &str, kind: ChannelKind, overflow: Overflow) -> Arc<ChannelRule> {
    let retention = Retention { messages: 100_000, ..Retention::default() };
    Arc::new(ChannelRule { overflow, retention, ..ChannelRule::new(Pattern::new(pattern).unwrap(), kind) })
}

fn config(change: impl FnOnce(&mut SessionSettings)) -> Config {
    let limits = LimitSettings { rate: RateSettings { per_second: 10_000, burst: 10_000 }, ..LimitSettings::default() };
    let channels = vec![
        rule("e:*", ChannelKind::Event, Overflow::DropOldest),
        rule("newest:*", ChannelKind::Event, Overflow::DropNewest),
        rule("pause:*", ChannelKind::Event, Overflow::Pause),
        rule("cut:*", ChannelKind::Event, Overflow::Disconnect),
        rule("l:*", ChannelKind::Log, Overflow::CatchUp),
        rule("s:*", ChannelKind::State, Overflow::CatchUp),
    ];
    let mut session = SessionSettings { channels, limits, ..SessionSettings::default() };
    change(&mut session);
    Config { session: Arc::new(session), ..Config::default() }
}

fn everything() -> Grants {
    let all = || vec![Pattern::new("**").unwrap()];
    Grants { subscribe: all(), publish: all(), history: all() }
}

async fn rig(config: Config) -> Rig {
    let broker = Embedded::open(EmbeddedSettings { memory_bytes: 256 << 20, ..EmbeddedSettings::default() }).unwrap();
    let gate = Gate::builder(config).embedded(broker).authenticate(Anonymous::new(everything()));
    let gate = gate.on_request(|request: Request| async move {
        match &*request.method {
            "echo" => Ok(request.data),
            "die" => panic!("as the test wants it"),
            _ => Err((ErrorCode::BadRequest, "no such method".into())),
        }
    });
    Rig::start(gate.build().await.unwrap()).await
}

#[tokio::test]
async fn what_is_published_arrives_at_every_subscriber_in_order() {
    let rig = rig(config(|_| ())).await;
    let (mut first, mut second) = (Client::welcome(&rig).await, Client::welcome(&rig).await);
    for client in [&mut first, &mut second] {
        client.subscribe_live("l:1").await;
        client.subscribe_live("e:1").await;
    }
    let published = first.ask(json!({ "type": "publish", "id": 9, "channel": "l:1", "message_id": "m1", "data": { "n": 0 } })).await;
    // The publisher hears of its own message too; which of the two comes first is not promised.
    let (message, published) =
        if published["type"] == "message" { (published, first.next().await) } else { (first.next().await, published) };
    assert_eq!((&published["offset"], &published["duplicate"]), (&json!(1), &json!(false)));
    assert_eq!((&message["id"], &message["data"]), (&json!("m1"), &json!({ "n": 0 })));
    let publisher = rig.gate.publisher();
    for n in 1..100 {
        publisher.publish("l:1", &json!({ "n": n })).await.unwrap();
        publisher.publish("e:1", &n).await.unwrap();
    }
    for client in [&mut first, &mut second] {
        let (mut log, mut event) = (0, 1);
        while log < 99 || event < 100 {
            let message = client.next().await;
            if message["channel"] == "l:1" {
                if message["data"]["n"] != 0 {
                    log += 1;
                    assert_eq!((&message["data"]["n"], &message["offset"]), (&json!(log), &json!(log + 1)));
                }
            } else {
                assert_eq!(message["data"], event);
                event += 1;
            }
        }
    }
    let again = first.ask(json!({ "type": "publish", "id": 10, "channel": "l:1", "message_id": "m1", "data": 0 })).await;
    assert_eq!((&again["offset"], &again["duplicate"]), (&json!(1), &json!(true)));
    assert_eq!(rig.metric("tidegate_delivery_total{kind=\"log\"}"), 200.0);
    assert_eq!(rig.metric("tidegate_delivery_total{kind=\"event\"}"), 198.0);
    assert_eq!(rig.metric("tidegate_publish_total{kind=\"log\"}"), 100.0);
    assert_eq!(rig.metric("tidegate_publish_duplicate_total"), 1.0);
    assert_eq!(rig.metric("tidegate_log_append_total"), 199.0);
    assert_eq!(rig.metric("tidegate_outbound_bytes"), 0.0, "nothing waits any more");
}

/// Commands that are under way together go to the broker as they came, on however many threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn publishes_of_one_connection_keep_their_order() {
    const MESSAGES: u64 = 4_000;
    let rig = rig(config(|_| {})).await;
    let mut reader = Client::live(&rig, "l:order").await;
    let mut writer = Client::welcome(&rig).await;
    for first in (1..=MESSAGES).step_by(20) {
        let batch = (first..first + 20).map(|id| json!({ "type": "publish", "id": id, "channel": "l:order", "data": id }));
        writer.say(batch.collect()).await;
        for _ in 0..20 {
            assert_eq!(writer.next().await["type"], "published");
        }
    }
    for expected in 1..=MESSAGES {
        assert_eq!(reader.next().await["data"], expected);
    }
}

/// The same while so much is under way that publishes have to wait for each other: they wait in a line, not in a crowd.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn publishes_keep_their_order_when_too_many_are_under_way() {
    const MESSAGES: u64 = 2_000;
    let directory = tempfile::tempdir().unwrap();
    let settings = EmbeddedSettings::fsync(directory.path());
    let broker = tokio::task::spawn_blocking(|| Embedded::open(settings).unwrap()).await.unwrap();
    let mut config = config(|_| {});
    config.concurrency.commands = 3;
    let gate = Gate::builder(config).broker(Arc::new(broker)).authenticate(Anonymous::new(everything()));
    let rig = Rig::start(gate.build().await.unwrap()).await;
    let mut reader = Client::live(&rig, "l:order").await;
    let mut writers = [Client::welcome(&rig).await, Client::welcome(&rig).await];
    for first in (1..=MESSAGES).step_by(20) {
        for (number, writer) in writers.iter_mut().enumerate() {
            let batch = (first..first + 20).map(|id| json!({ "type": "publish", "id": id, "channel": "l:order", "data": [number, id] }));
            writer.say(batch.collect()).await;
        }
        for writer in &mut writers {
            for _ in 0..20 {
                assert_eq!(writer.next().await["type"], "published");
            }
        }
    }
    let mut expected = [1, 1];
    for _ in 0..2 * MESSAGES {
        let message = reader.next().await;
        let writer = message["data"][0].as_u64().unwrap() as usize;
        assert_eq!(message["data"][1], expected[writer]);
        expected[writer] += 1;
    }
}

#[tokio::test]
async fn a_cursor_gets_what_it_missed_and_nothing_twice() {
    let rig = rig(config(|_| ())).await;
    let publisher = rig.gate.publisher();
    for n in 1..=1000 {
        publisher.publish("l:1", &n).await.unwrap();
    }
    let epoch = publisher.publish("l:1", &1001).await.unwrap().position.unwrap().epoch.to_string();
    let publishing = tokio::spawn(async move {
        for n in 1002..=2000 {
            publisher.publish("l:1", &n).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    let mut client = Client::welcome(&rig).await;
    let subscribed = client.subscribe("l:1", Some(json!({ "epoch": epoch, "offset": 400 }))).await;
    assert_eq!(subscribed["recovery"], "complete");
    let mut expected = 401;
    while expected <= 2000 {
        let object = client.next().await;
        if object["type"] == "message" {
            assert_eq!((&object["offset"], &object["data"]), (&json!(expected), &json!(expected)));
            expected += 1;
        } else {
            assert_eq!(object["type"], "live");
        }
    }
    publishing.await.unwrap();
    let mut late = Client::welcome(&rig).await;
    let subscribed = late.subscribe("l:1", Some(json!({ "epoch": "zz", "offset": 4 }))).await;
    assert_eq!(subscribed["recovery"], "gap");
    assert_eq!(late.next().await["reason"], "epoch");
    assert_eq!(rig.metric("tidegate_gap_total{reason=\"epoch\"}"), 1.0);
}

#[tokio::test]
async fn a_state_channel_sends_its_snapshot_and_then_the_latest() {
    let rig = rig(config(|_| ())).await;
    let mut client = Client::welcome(&rig).await;
    for (key, value) in [("a", 1), ("b", 2), ("a", 3)] {
        let published = client.ask(json!({ "type": "publish", "id": 2, "channel": "s:1", "key": key, "data": value })).await;
        assert_eq!(published["type"], "published", "{published}");
    }
    client.subscribe("s:1", None).await;
    let snapshot = client.next().await;
    assert_eq!(snapshot["type"], "snapshot");
    let entries: Vec<_> = snapshot["entries"].as_array().unwrap().iter().map(|entry| (&entry["key"], &entry["data"])).collect();
    assert_eq!(entries, [(&json!("b"), &json!(2)), (&json!("a"), &json!(3))]);
    assert_eq!(client.next().await["type"], "live");
    client.say(json!({ "type": "publish", "id": 3, "channel": "s:1", "key": "a", "deleted": true })).await;
    let (one, other) = (client.next().await, client.next().await);
    assert!(one["deleted"] == true || other["deleted"] == true);
}

/// Reads nothing while 40 MB are published: on an event channel the oldest go and a gap says how many, on a log nothing does.
#[tokio::test]
async fn who_falls_behind_is_told_or_catches_up() {
    let rig = rig(config(|session| session.outbox.stall = Duration::from_secs(60))).await;
    let (mut event, mut log) = (Client::welcome(&rig).await, Client::welcome(&rig).await);
    event.subscribe_live("e:1").await;
    log.subscribe_live("l:1").await;
    let publisher = rig.gate.publisher();
    let filler = "x".repeat(8000);
    for n in 0..2500 {
        publisher.publish("e:1", &json!([n, filler])).await.unwrap();
        publisher.publish("l:1", &json!([n, filler])).await.unwrap();
        if n % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let page = rig.gate.connections(&ConnectionFilter { limit: 10, ..ConnectionFilter::default() });
    assert!(page.connections.iter().all(|connection| connection.outbox_bytes <= 512 * 1024), "{page:?}");
    assert_eq!(page.connections.iter().map(|connection| connection.lanes_behind).sum::<usize>(), 1);
    assert_eq!(rig.metric("tidegate_lanes_behind"), 1.0);
    let high_water = rig.metric("tidegate_buffered_amount_high_water_bytes");
    assert!((100_000.0..=524_288.0).contains(&high_water), "{high_water}");

    let (mut next, mut missed) = (0, 0);
    while next < 2500 {
        let object = event.next().await;
        if object["type"] == "gap" {
            assert_eq!(object["reason"], "slow");
            missed += object["missed"].as_i64().unwrap();
            next += object["missed"].as_i64().unwrap();
        } else {
            assert_eq!(object["data"][0], next);
            next += 1;
        }
    }
    assert!(missed > 1000);
    assert_eq!(rig.metric("tidegate_message_dropped_total{kind=\"event\",policy=\"drop_oldest\"}"), missed as f64);
    for n in 0..2500 {
        let message = log.next().await;
        assert_eq!((&message["data"][0], &message["offset"]), (&json!(n), &json!(n + 1)));
    }
    eventually("it is no longer behind", || rig.metric("tidegate_lanes_behind") == 0.0).await;
    eventually("nothing is held", || rig.metric("tidegate_outbound_bytes") == 0.0).await;
}

#[tokio::test]
async fn the_publisher_waits_on_a_pause_channel() {
    let rig = rig(config(|session| session.outbox = OutboxSettings { stall: Duration::from_secs(60), ..session.outbox })).await;
    let mut client = Client::live(&rig, "pause:1").await;
    let publisher = rig.gate.publisher();
    let published = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&published);
    let publishing = tokio::spawn(async move {
        for n in 0..1000 {
            publisher.publish("pause:1", &json!([n, "x".repeat(8000)])).await.unwrap();
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let held = published.load(std::sync::atomic::Ordering::Relaxed);
    assert!((20..200).contains(&held), "{held}");
    for n in 0..1000 {
        assert_eq!(client.next().await["data"][0], n, "nothing is lost");
    }
    publishing.await.unwrap();
    assert_eq!(rig.metric("tidegate_message_dropped_total{kind=\"event\",policy=\"pause\"}"), 0.0);
}

/// The subscriber that holds up a `pause` channel goes away: the publisher goes on.
#[tokio::test]
async fn a_publisher_does_not_wait_for_who_is_gone() {
    let rig = rig(config(|session| session.outbox.stall = Duration::from_millis(600))).await;
    let _client = Client::live(&rig, "pause:1").await;
    let publisher = rig.gate.publisher();
    let publishing = async {
        for n in 0..200 {
            publisher.publish("pause:1", &json!([n, "x".repeat(8000)])).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(4), publishing).await.unwrap();
}

/// Publishers that wait for a subscriber have nothing in their hands that others need.
#[tokio::test]
async fn who_waits_on_a_pause_channel_holds_up_nobody_else() {
    let mut config = config(|session| session.outbox.stall = Duration::from_secs(60));
    config.concurrency.commands = 1;
    let rig = rig(config).await;
    let mut stalled = Client::live(&rig, "pause:1").await;
    fill(&rig, "pause:1", &json!("x".repeat(8000))).await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let mut client = Client::welcome(&rig).await;
        client.say(json!({ "type": "publish", "id": 1, "channel": "pause:1", "data": 1 })).await;
        waiting.push(client);
    }
    let mut other = Client::welcome(&rig).await;
    let served = async {
        other.subscribe_live("e:1").await;
        assert_eq!(other.ask(json!({ "type": "request", "id": 2, "method": "echo", "data": 7 })).await["data"], 7);
    };
    tokio::time::timeout(Duration::from_secs(2), served).await.expect("the others are served");
    for client in &mut waiting {
        assert!(tokio::time::timeout(Duration::from_millis(20), client.next()).await.is_err(), "it waits for room");
    }
    // Once it reads again, all have their answers.
    let reading = tokio::spawn(async move { while stalled.next().await["data"] != 1 {} });
    for client in &mut waiting {
        assert_eq!(client.next().await["type"], "published");
    }
    reading.await.unwrap();
}

/// Publishes until a publish would have to wait. Once may be for other reasons.
async fn fill(rig: &Rig, channel: &str, data: &Value) {
    let (publisher, name) = (rig.gate.publisher(), ChannelName::new(channel).unwrap());
    let has_room = || async { tokio::time::timeout(Duration::from_millis(150), publisher.room(&name)).await.is_ok() };
    while has_room().await || has_room().await {
        publisher.publish(channel, data).await.unwrap();
    }
}

#[tokio::test]
async fn a_clients_publishes_on_a_pause_channel_wait_for_each_other() {
    let rig = rig(config(|session| session.outbox.stall = Duration::from_secs(60))).await;
    let mut slow = Client::live(&rig, "pause:1").await;
    fill(&rig, "pause:1", &json!([0, "x".repeat(8000)])).await;
    let mut publisher = Client::welcome(&rig).await;
    for n in 1..=30 {
        publisher.say(json!({ "type": "publish", "id": n, "channel": "pause:1", "data": [n, "x".repeat(40_000)] })).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await; // so that all stand in line
    let mut message = json!(null);
    while message["data"][0] != 30 {
        message = slow.next().await;
        assert_eq!(message["type"], "message", "no gap");
    }
}

#[tokio::test]
async fn a_disconnect_channel_cuts_the_slow() {
    let rig = rig(config(|session| session.limits.close = Duration::from_millis(200))).await;
    let _client = Client::live(&rig, "cut:1").await;
    for n in 0..200 {
        rig.gate.publisher().publish("cut:1", &json!([n, "x".repeat(8000)])).await.unwrap();
    }
    eventually("it is cut", || rig.gate.connection_count() == 0).await;
    assert_eq!(rig.metric("tidegate_connection_close_total{code=\"slow_consumer\"}"), 1.0);
}

#[tokio::test]
async fn a_node_over_its_budget_sheds_in_order() {
    let mut config = config(|session| session.outbox.stall = Duration::from_secs(60));
    config.outbound_memory = OutboundMemory::Bytes(2 * 1024 * 1024);
    let rig = rig(config).await;
    let mut clients = Vec::new();
    for n in 0..20 {
        let mut client = Client::welcome(&rig).await;
        client.subscribe_live(&format!("e:{n}")).await;
        clients.push(client);
    }
    let publisher = rig.gate.publisher();
    for n in 0..120 {
        for channel in 0..20 {
            publisher.publish(&format!("e:{channel}"), &json!([n, "x".repeat(8000)])).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        let used = rig.metric("tidegate_outbound_bytes");
        assert!(used < 8.0 * 1024.0 * 1024.0, "{used}");
    }
    assert!(rig.metric("tidegate_shed_total{step=\"events\"}") > 0.0);
    assert!(rig.metric("tidegate_message_dropped_total{kind=\"event\",policy=\"drop_oldest\"}") > 0.0);
}

#[tokio::test]
async fn commands_get_one_answer_each_and_errors_are_counted() {
    let rig = rig(config(|_| ())).await;
    let mut client = Client::welcome(&rig).await;
    for (command, key, value) in [
        (json!({ "type": "request", "id": 1, "method": "echo", "data": { "a": 1 } }), "data", json!({ "a": 1 })),
        (json!({ "type": "request", "id": 2, "method": "none", "data": 0 }), "code", json!("bad_request")),
        (json!({ "type": "subscribe", "id": 3, "channel": "nowhere:1" }), "code", json!("unknown_channel")),
        (json!({ "type": "unsubscribe", "id": 4, "channel": "e:1" }), "code", json!("not_subscribed")),
        (json!({ "type": "dance", "id": 5 }), "code", json!("unknown_type")),
        (json!({ "type": "subscribe", "id": 6, "channel": "a b" }), "code", json!("bad_request")),
        (json!({ "type": "ping", "n": 7 }), "n", json!(7)),
    ] {
        let answer = client.ask(command.clone()).await;
        assert_eq!(answer[key], value, "{command}: {answer}");
    }
    for code in ["bad_request", "unknown_channel", "not_subscribed", "unknown_type"] {
        assert!(rig.metric(&format!("tidegate_command_error_total{{code=\"{code}\"}}")) >= 1.0, "{code}");
    }
    client.0.send(&frame(0x81, b"{")).await;
    assert_eq!(client.0.see().await, Seen::close(4400, "bad_frame"));
    let mut binary = Client::welcome(&rig).await;
    binary.0.send(&frame(0x82, b"{}")).await;
    assert!(matches!(binary.0.see().await, Seen::Frame(0x88, payload) if payload.starts_with(&1003u16.to_be_bytes())));
}

#[tokio::test]
async fn a_panic_in_the_handler_closes_only_who_asked() {
    let rig = rig(config(|_| ())).await;
    let (mut first, mut second) = (Client::welcome(&rig).await, Client::welcome(&rig).await);
    first.say(json!({ "type": "request", "id": 1, "method": "die", "data": 0 })).await;
    assert_eq!(first.0.see().await, Seen::close(4100, "internal"));
    assert_eq!(second.ask(json!({ "type": "request", "id": 1, "method": "echo", "data": 5 })).await["data"], 5);
    assert_eq!(rig.metric("tidegate_panic_total"), 1.0);
}

#[tokio::test]
async fn connections_are_listed_by_user_and_channel_in_pages() {
    let rig = rig(config(|_| ())).await;
    let mut clients = Vec::new();
    for n in 0..10 {
        let mut client = Client::welcome(&rig).await;
        if n % 2 == 0 {
            client.subscribe_live("e:1").await;
        }
        clients.push(client);
    }
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = rig.gate.connections(&ConnectionFilter { after, limit: 3, ..ConnectionFilter::default() });
        assert!(page.connections.len() <= 3);
        seen.extend(page.connections.into_iter().map(|connection| connection.id));
        match page.next {
            Some(next) => after = Some(next.parse().unwrap()),
            None => break,
        }
    }
    let distinct: std::collections::BTreeSet<_> = seen.iter().collect();
    assert_eq!((seen.len(), distinct.len()), (10, 10));
    let channel = Some(tidegate::ChannelName::new("e:1").unwrap());
    let page = rig.gate.connections(&ConnectionFilter { channel, limit: 100, ..ConnectionFilter::default() });
    assert_eq!(page.connections.len(), 5);
    let page = rig.gate.connections(&ConnectionFilter { user: Some("nobody".into()), limit: 100, ..ConnectionFilter::default() });
    assert_eq!(page.connections.len(), 0);
}

/// Lets everyone in without a name; the token is the user's name.
struct ByToken;

impl Authenticate for ByToken {
    fn admit<'a>(&'a self, _request: &'a UpgradeRequest<'a>) -> BoxFuture<'a, Result<Admitted, Denied>> {
        Box::pin(async { Ok(Admitted::Unidentified) })
    }

    fn verify<'a>(&'a self, _connection: ConnectionId, credential: Credential) -> BoxFuture<'a, Result<Arc<Identity>, Refused>> {
        Box::pin(async move {
            match credential {
                Credential::Token(token) if &*token == "old" => Err(Refused::Expired),
                Credential::Token(token) if token.starts_with('u') => {
                    Ok(Arc::new(Identity { user: Some((&*token).into()), grants: everything(), ..Identity::default() }))
                }
                _ => Err(Refused::Bad),
            }
        })
    }
}

#[tokio::test]
async fn who_is_not_known_yet_may_only_say_who_it_is() {
    let mut config = config(|session| session.limits.authenticate = Duration::from_secs(3));
    (config.admission.unauthenticated, config.admission.per_user) = (2, 1);
    let rig = Rig::start(Gate::builder(config).authenticate(ByToken).build().await.unwrap()).await;
    let mut client = Client::open(&rig).await;
    let refused = client.ask(json!({ "type": "subscribe", "id": 1, "channel": "e:1" })).await;
    assert_eq!(refused["code"], "unauthenticated");
    assert_eq!(client.ask(json!({ "type": "auth", "id": 2, "token": "u1" })).await["user"], "u1");
    client.subscribe_live("e:1").await;
    for (token, code, reason) in [("x", 4401, "bad_credentials"), ("old", 4201, "expired"), ("u1", 4429, "quota")] {
        let mut client = Client::open(&rig).await;
        client.say(json!({ "type": "auth", "id": 1, "token": token })).await;
        assert_eq!(client.0.see().await, Seen::close(code, reason), "{token}");
        drop(client);
        eventually("only the first is left", || rig.gate.connection_count() == 1).await;
    }
    let (mut silent, _other) = (Client::open(&rig).await, Client::open(&rig).await);
    let mut third = Peer::open(rig.address).await;
    third.send(rig::handshake("/ws", "").as_bytes()).await;
    assert!(third.head().await.starts_with("HTTP/1.1 503"), "strangers have a pool of their own");
    // Before the 5 s that are the default.
    assert_eq!(silent.0.see_within(Duration::from_millis(4800)).await, Seen::close(4200, "auth_timeout"));
    let users = rig.gate.connections(&ConnectionFilter { user: Some("u1".into()), limit: 10, ..ConnectionFilter::default() });
    assert_eq!(users.connections.len(), 1);
}

#[tokio::test]
async fn a_drain_tells_clients_of_the_protocol_before_it_closes_them() {
    let mut config = config(|_| ());
    config.drain = tidegate::DrainSettings {
        announce: Duration::ZERO,
        window: Duration::from_millis(100),
        grace: Duration::from_secs(3),
        deadline: Duration::from_secs(10),
    };
    let rig = rig(config).await;
    let mut stays = Client::welcome(&rig).await;
    let mut moves = Client::welcome(&rig).await;
    let drained = tokio::spawn({
        let gate = rig.gate.clone();
        async move { gate.drain_on(std::future::ready(())).await }
    });
    for client in [&mut stays, &mut moves] {
        let going = client.next().await;
        assert_eq!((&going["type"], &going["reason"]), (&json!("going_away"), &json!("drain")));
        assert!((1000..=3000).contains(&going["deadline_ms"].as_u64().unwrap()), "{going}");
    }
    moves.0.send(&frame(0x88, &[&1000u16.to_be_bytes()[..], b"moved"].concat())).await;
    let Seen::Frame(0x88, payload) = stays.0.see_within(Duration::from_secs(20)).await else { panic!("not closed") };
    assert!(payload.starts_with(&4000u16.to_be_bytes()) && payload[2..].starts_with(b"draining;retry_ms="));
    stays.0.send(&frame(0x88, &payload)).await;
    assert_eq!(drained.await.unwrap(), tidegate::Drained { connections: 2, cut: 0 });
}

/// More commands at once than may be under way: the rest wait in the socket, and are taken up as answers are written.
#[tokio::test]
async fn commands_beyond_the_bound_wait_and_are_all_answered() {
    let rig = rig(config(|session| session.limits.in_flight = 2)).await;
    let mut client = Client::welcome(&rig).await;
    let commands: Vec<u8> = (1..=500)
        .flat_map(|id| frame(0x81, json!({ "type": "request", "id": id, "method": "echo", "data": id }).to_string().as_bytes()))
        .collect();
    client.0.send(&commands).await;
    let mut answered = std::collections::BTreeSet::new();
    while answered.len() < 500 {
        let answer = client.next().await;
        assert_eq!(answer["id"], answer["data"], "{answer}");
        assert!(answered.insert(answer["id"].as_u64()), "answered twice: {answer}");
    }
}
