//! Ends that nobody wanted: cut connections, peers that answer nothing, brokers that lose messages, and what the metrics say of each.

#![allow(clippy::unwrap_used, reason = "a test")]

mod rig;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rig::{Peer, Rig, Seen, eventually, frame};
use tidegate::auth::Anonymous;
use tidegate::broker::{
    Broker, BrokerError, Embedded, EmbeddedSettings, Guarantees, HistoryError, Page, PageLimit, Published, Sequence, Sink, Snapshot,
};
use tidegate::message::{Publish, Since};
use tidegate::{
    BoxFuture, ChannelKind, ChannelName, ChannelRule, CloseCode, Config, Gate, Grants, HeartbeatSettings, LimitSettings, Pattern, Position,
    SessionSettings,
};

#[tokio::test]
async fn a_cut_connection_is_counted_with_its_age() {
    let rig = Rig::echo(Config::default()).await;
    let begun = Instant::now();
    let peer = rig.connect().await;
    eventually("it is open", || rig.metric("tidegate_connections_open") == 1.0).await;
    assert_eq!(rig.metric("tidegate_connection_open_total"), 1.0);
    peer.stream.set_zero_linger().unwrap();
    drop(peer);
    eventually("it is lost", || rig.metric("tidegate_connection_lost_age_seconds_count") == 1.0).await;
    // It is no older than this test, which may take its time on a machine that is busy.
    let age = begun.elapsed().as_secs_f64();
    let le = [1.0, 5.0, 28.0].into_iter().find(|le| age <= *le).unwrap();
    assert_eq!(rig.metric(&format!("tidegate_connection_lost_age_seconds_bucket{{le=\"{le:.1}\"}}")), 1.0, "{age}");
    assert_eq!(rig.metric("tidegate_connections_open"), 0.0);
    let mut peer = rig.connect().await;
    peer.send(&frame(0x88, &1000u16.to_be_bytes())).await;
    assert_eq!(peer.see().await, Seen::close(1000, ""));
    eventually("the peer ended it", || rig.metric("tidegate_connection_closed_by_peer_total") == 1.0).await;
}

/// More than are taken apart on the spot: the others wait for their turn, and none is forgotten.
#[tokio::test]
async fn who_is_cut_with_very_many_others_is_taken_out_like_anybody() {
    let rig = Rig::echo(Config::default()).await;
    let mut peers = Vec::new();
    for _ in 0..150 {
        peers.push(rig.connect().await);
    }
    let mut one_that_stays = rig.connect().await;
    eventually("they are open", || rig.metric("tidegate_connections_open") == 151.0).await;
    for _half in 0..2 {
        for peer in peers.drain(..75) {
            peer.stream.set_zero_linger().unwrap();
        }
        eventually("they are gone", || rig.metric("tidegate_connections_open") == (peers.len() + 1) as f64).await;
    }
    eventually("each is counted", || rig.metric("tidegate_connection_lost_age_seconds_count") == 150.0).await;
    assert_eq!(rig.metric("tidegate_panic_total"), 0.0);
    one_that_stays.send(&frame(0x81, b"still here")).await;
    assert_eq!(one_that_stays.see().await, Seen::Frame(0x81, b"still here".to_vec()));
}

#[tokio::test]
async fn half_an_upgrade_is_counted_while_it_lasts() {
    let rig = Rig::echo(Config::default()).await;
    let mut peer = Peer::open(rig.address).await;
    peer.send(b"GET / HTTP/1.1\r\n").await;
    eventually("it is under way", || rig.metric("tidegate_handshakes_open") == 1.0).await;
    drop(peer);
    eventually("it is over", || rig.metric("tidegate_handshakes_open") == 0.0).await;
}

fn config(change: impl FnOnce(&mut SessionSettings)) -> Config {
    let rule = Arc::new(ChannelRule::new(Pattern::new("**").unwrap(), ChannelKind::Log));
    let mut session = SessionSettings { channels: vec![rule], ..SessionSettings::default() };
    change(&mut session);
    Config { session: Arc::new(session), ..Config::default() }
}

async fn open(rig: &Rig) -> Peer {
    let mut peer = Peer::open(rig.address).await;
    peer.send(rig::handshake("/ws", "").as_bytes()).await;
    assert!(peer.head().await.starts_with("HTTP/1.1 101"));
    assert!(text(&mut peer).await.contains("welcome"));
    peer
}

async fn text(peer: &mut Peer) -> String {
    match peer.see().await {
        Seen::Frame(0x81, payload) => String::from_utf8(payload).unwrap(),
        seen => panic!("{seen:?}"),
    }
}

fn everything() -> Grants {
    let all = || vec![Pattern::new("**").unwrap()];
    Grants { subscribe: all(), publish: all(), history: all() }
}

/// The path answers application pings and eats protocol pings: alive, and told once.
#[tokio::test]
async fn a_path_that_eats_control_frames_is_noticed() {
    let (ping, app_ping) = (Duration::from_millis(200), Some(Duration::from_millis(400)));
    let heartbeat = HeartbeatSettings { ping, app_ping, ..HeartbeatSettings::default() };
    let gate = Gate::builder(config(|session| session.heartbeat = heartbeat)).authenticate(Anonymous::new(everything()));
    let rig = Rig::start(gate.build().await.unwrap()).await;
    let (mut answers, mut ignores) = (open(&rig).await, open(&rig).await);
    let ignoring = tokio::spawn(async move {
        while let Seen::Frame(first, payload) = ignores.see().await {
            if first == 0x89 {
                ignores.send(&frame(0x8a, &payload)).await;
            }
        }
    });
    while rig.metric("tidegate_control_frames_eaten_total") == 0.0 || rig.metric("tidegate_app_ping_unanswered_total") == 0.0 {
        match answers.see().await {
            Seen::Frame(0x81, _) => answers.send(&frame(0x81, br#"{"type":"pong"}"#)).await,
            Seen::Frame(0x89, _) => {}
            seen => panic!("{seen:?}"),
        }
    }
    ignoring.abort();
    assert_eq!(rig.metric("tidegate_control_frames_eaten_total"), 1.0);
}

/// The embedded broker, and a way to say that it lost something.
struct Leaky {
    inner: Embedded,
    sink: OnceLock<Arc<dyn Sink>>,
}

impl Broker for Leaky {
    fn guarantees(&self) -> Guarantees {
        self.inner.guarantees()
    }

    fn attach(&self, sink: Arc<dyn Sink>) {
        assert!(self.sink.set(Arc::clone(&sink)).is_ok(), "attached twice");
        self.inner.attach(sink);
    }

    fn publish<'a>(&'a self, rule: &'a ChannelRule, publish: Publish) -> BoxFuture<'a, Result<Published, BrokerError>> {
        self.inner.publish(rule, publish)
    }

    fn publish_all<'a>(
        &'a self,
        sequence: &'a Arc<Sequence>,
        rule: &'a ChannelRule,
        publishes: Vec<Publish>,
    ) -> BoxFuture<'a, Vec<Result<Published, BrokerError>>> {
        self.inner.publish_all(sequence, rule, publishes)
    }

    fn subscribe<'a>(&'a self, rule: &'a ChannelRule, channel: &'a ChannelName) -> BoxFuture<'a, Result<Option<Position>, BrokerError>> {
        self.inner.subscribe(rule, channel)
    }

    fn unsubscribe<'a>(&'a self, channel: &'a ChannelName) -> BoxFuture<'a, Result<(), BrokerError>> {
        self.inner.unsubscribe(channel)
    }

    fn history<'a>(
        &'a self,
        rule: &'a ChannelRule,
        channel: &'a ChannelName,
        since: Since,
        limit: PageLimit,
    ) -> BoxFuture<'a, Result<Page, HistoryError>> {
        self.inner.history(rule, channel, since, limit)
    }

    fn snapshot<'a>(&'a self, rule: &'a ChannelRule, channel: &'a ChannelName) -> BoxFuture<'a, Result<Arc<Snapshot>, BrokerError>> {
        self.inner.snapshot(rule, channel)
    }
}

#[tokio::test]
async fn what_the_broker_lost_on_the_way_is_read_from_history() {
    let broker = Arc::new(Leaky { inner: Embedded::open(EmbeddedSettings::default()).unwrap(), sink: OnceLock::new() });
    let gate = Gate::builder(config(|_| ())).broker(Arc::clone(&broker) as _).authenticate(Anonymous::new(everything()));
    let rig = Rig::start(gate.build().await.unwrap()).await;
    let mut peer = open(&rig).await;
    peer.send(&frame(0x81, br#"{"type":"subscribe","id":1,"channel":"a"}"#)).await;
    assert!(text(&mut peer).await.contains("subscribed"));
    assert!(text(&mut peer).await.contains("live"));
    let channel = ChannelName::new("a").unwrap();
    // The bus forgets that this node is subscribed: what is published now does not come by itself.
    broker.inner.unsubscribe(&channel).await.unwrap();
    for n in 0..10 {
        rig.gate.publisher().publish("a", &n).await.unwrap();
    }
    broker.sink.get().unwrap().lost(&channel, None);
    for n in 0..10 {
        assert!(text(&mut peer).await.contains(&format!("\"data\":{n}")));
    }
    assert_eq!(rig.metric("tidegate_bus_lost_total"), 1.0);
}

#[tokio::test]
async fn a_peer_that_never_answers_a_close_is_freed_at_the_deadline() {
    let limits = LimitSettings { close: Duration::from_millis(200), ..LimitSettings::default() };
    let rig = Rig::echo(config(|session| session.limits = limits)).await;
    let mut peer = rig.connect().await;
    eventually("it is listed", || rig.gate.connection_count() == 1).await;
    let page = rig.gate.connections(&tidegate::ConnectionFilter { limit: 1, ..Default::default() });
    rig.gate.close(page.connections[0].id.parse().unwrap(), CloseCode::Forbidden, None);
    assert_eq!(peer.see().await, Seen::close(4403, "forbidden"));
    eventually("it is freed", || rig.gate.connection_count() == 0).await;
    assert_eq!(rig.metric("tidegate_connection_close_unanswered_total"), 1.0);
}
