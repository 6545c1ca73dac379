//! The exact answer to every kind of request on the endpoint, over real sockets.

#![allow(clippy::unwrap_used, reason = "a test")]

mod rig;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use rig::{KEY, Peer, Rig, Seen, eventually, handshake};
use tidegate::auth::{Admitted, Anonymous, Authenticate, Denied, Refused, UpgradeRequest};
use tidegate::message::Credential;
use tidegate::{
    AdmissionSettings, BoxFuture, Config, ConnectionId, Gate, Grants, HeartbeatSettings, Identity, LimitSettings, Origin, Origins, Pattern,
    SessionSettings, TrustedProxies, UpgradeSettings,
};
use tokio::io::AsyncWriteExt;

async fn answer(rig: &Rig, request: &str) -> String {
    let mut peer = Peer::open(rig.address).await;
    // A refusal need not wait for the end of what it refuses.
    let _ = peer.stream.write_all(request.as_bytes()).await;
    peer.head().await
}

fn request(method: &str, version: &str, fields: &str) -> String {
    format!("{method} / HTTP/{version}\r\nHost: localhost\r\n{fields}\r\n")
}

fn anonymous() -> Anonymous {
    Anonymous::new(Grants { subscribe: vec![Pattern::new("a").unwrap()], ..Grants::default() })
}

/// On a router's path and on the path that needs no HTTP server: nobody can tell them apart.
#[tokio::test]
async fn statuses_are_those_of_the_protocol() {
    for path in ["/", "/ws"] {
        statuses_on(path).await;
    }
}

async fn statuses_on(path: &str) {
    let origins = Origins::new(vec![Origin::parse("https://app.example.com").unwrap()]);
    let gate = Gate::builder(Config { origins, ..Config::default() }).authenticate(anonymous());
    let rig = Rig::start(gate.build().await.unwrap()).await;
    let good = format!("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n");
    let no_key = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n";
    for (what, status, text) in [
        ("good", 101, request("GET", "1.1", &good)),
        (
            "list and case",
            101,
            request("GET", "1.1", &good.replace("Upgrade\r", "keep-alive, upgrade\r").replace("websocket", "WebSocket")),
        ),
        ("post", 405, request("POST", "1.1", &good)),
        ("head", 405, request("HEAD", "1.1", &good)),
        ("http 1.0", 400, request("GET", "1.0", &good)),
        ("no key", 400, request("GET", "1.1", no_key)),
        ("short key", 400, request("GET", "1.1", &format!("{no_key}Sec-WebSocket-Key: YWJj\r\n"))),
        ("two keys", 400, request("GET", "1.1", &format!("{good}Sec-WebSocket-Key: {KEY}\r\n"))),
        ("version 8", 426, request("GET", "1.1", &good.replace(": 13", ": 8"))),
        ("two versions", 426, request("GET", "1.1", &format!("{good}Sec-WebSocket-Version: 13\r\n"))),
        ("h2c", 426, request("GET", "1.1", &good.replace("websocket", "h2c"))),
        ("no upgrade", 426, request("GET", "1.1", "")),
        ("no connection", 426, request("GET", "1.1", &good.replace("Connection: Upgrade", "Connection: close"))),
        ("origin", 101, request("GET", "1.1", &format!("{good}Origin: https://APP.example.com:443\r\n"))),
        ("foreign origin", 403, request("GET", "1.1", &format!("{good}Origin: https://app.example.com.evil.io\r\n"))),
        ("null origin", 403, request("GET", "1.1", &format!("{good}Origin: null\r\n"))),
        ("5,000 fields", 431, request("GET", "1.1", &(0..5000).map(|n| format!("X-{n}: 1\r\n")).collect::<String>())),
        ("1 MB field", 431, request("GET", "1.1", &format!("X: {}\r\n", "a".repeat(1 << 20)))),
        ("a body", 101, request("GET", "1.1", &format!("{good}Content-Length: 0\r\n"))),
        ("no HTTP", 400, request("GET", "1.1", &format!("{good}no field\r\n"))),
        ("another path", 404, request("GET", "1.1", &good).replace("GET /", "GET /nowhere")),
    ] {
        let text = text.replacen(" / ", &format!(" {path} "), 1);
        let what = format!("{what} on {path}");
        let head = answer(&rig, &text).await;
        assert_eq!(head.split(' ').nth(1), Some(&*status.to_string()), "{what}: {head}");
        let head = head.to_ascii_lowercase();
        match status {
            101 => assert!(head.contains("sec-websocket-accept: "), "{what}: {head}"),
            404 => {}
            _ => assert!(head.contains("connection: close") || head.starts_with("http/1.0"), "{what}: {head}"),
        }
        if status == 426 {
            assert!(head.contains("sec-websocket-version: 13"), "{what}: {head}");
        }
    }
    assert_eq!(rig.metric("tidegate_upgrade_refused_total{reason=\"origin\"}"), 2.0);
}

#[tokio::test]
async fn refusals_say_why_in_json_and_end_the_connection() {
    let rig = Rig::echo(Config::default()).await;
    for path in ["/", "/ws"] {
        let mut peer = Peer::open(rig.address).await;
        let evil = handshake(path, "Origin: https://evil.io\r\n");
        peer.send(format!("{evil}{}", handshake(path, "")).as_bytes()).await;
        let head = peer.head().await;
        assert!(head.starts_with("HTTP/1.1 403") && head.contains("content-type: application/json"), "{head}");
        let body = peer.rest().await;
        assert_eq!(
            body, r#"{"code":"origin","message":"this origin may not connect","retry_after_ms":null}"#,
            "and no answer to the second"
        );
    }
    assert_eq!(rig.metric("tidegate_upgrade_refused_total{reason=\"origin\"}"), 2.0, "each is counted once");
}

#[tokio::test]
async fn the_protocol_lets_nobody_in_unless_told_whom() {
    let rig = Rig::echo(Config::default()).await;
    assert!(answer(&rig, &handshake("/ws", "")).await.starts_with("HTTP/1.1 401"));
    let nothing = Gate::builder(Config::default()).authenticate(Anonymous::new(Grants::default()));
    let rig = Rig::start(nothing.build().await.unwrap()).await;
    assert!(answer(&rig, &handshake("/ws", "")).await.starts_with("HTTP/1.1 401"));
}

#[tokio::test]
async fn the_subprotocol_is_chosen_among_those_offered() {
    let grants = Grants { subscribe: vec![Pattern::new("a").unwrap()], ..Grants::default() };
    let rig = Rig::start(Gate::builder(Config::default()).authenticate(Anonymous::new(grants)).build().await.unwrap()).await;
    for (offered, status, chosen) in [
        ("", 101, None),
        ("Sec-WebSocket-Protocol: tidegate.v1.json\r\n", 101, Some("tidegate.v1.json")),
        ("Sec-WebSocket-Protocol: tidegate.ticket.abc, tidegate.v1.json\r\n", 101, Some("tidegate.v1.json")),
        ("Sec-WebSocket-Protocol: graphql-ws\r\nSec-WebSocket-Protocol: tidegate.v1.json\r\n", 101, Some("tidegate.v1.json")),
        ("Sec-WebSocket-Protocol: graphql-ws\r\n", 400, None),
    ] {
        let head = answer(&rig, &handshake("/ws", offered)).await;
        assert_eq!(head.split(' ').nth(1), Some(&*status.to_string()), "{offered}: {head}");
        let found = head.lines().find_map(|line| line.strip_prefix("sec-websocket-protocol: "));
        assert_eq!(found, chosen, "{offered}");
    }
}

#[tokio::test]
async fn limits_hold_per_address_and_in_all() {
    let admission = AdmissionSettings { connections: 3, per_address: 2, ..AdmissionSettings::default() };
    let trusted_proxies = TrustedProxies::new(vec!["127.0.0.0/8".parse().unwrap()]);
    let rig = Rig::echo(Config { admission, trusted_proxies, ..Config::default() }).await;
    let from = |address: &str| handshake("/", &format!("X-Forwarded-For: 6.6.6.6, {address}\r\n"));
    let mut open = Vec::new();
    for (address, status) in [("10.0.0.1", "101"), ("10.0.0.1", "101"), ("10.0.0.1", "429"), ("10.0.0.2", "101"), ("10.0.0.3", "503")] {
        let mut peer = Peer::open(rig.address).await;
        peer.send(from(address).as_bytes()).await;
        let head = peer.head().await;
        assert_eq!(head.split(' ').nth(1), Some(status), "{address}: {head}");
        assert_eq!(status != "101", head.contains("retry-after: "), "{head}");
        open.push(peer);
    }
    drop(open);
    rig::eventually("the places are given back", || rig.gate.connection_count() == 0).await;
    assert!(answer(&rig, &from("10.0.0.1")).await.starts_with("HTTP/1.1 101"));
}

#[tokio::test]
async fn one_deadline_for_the_whole_handshake_however_it_is_dripped() {
    let upgrade = UpgradeSettings { deadline: Duration::from_millis(600), ..UpgradeSettings::default() };
    let rig = Rig::echo(Config { upgrade, ..Config::default() }).await;
    let begun = Instant::now();
    let mut silent = Peer::open(rig.address).await;
    let dripping = tokio::spawn({
        let address = rig.address;
        async move {
            let mut peer = Peer::open(address).await;
            peer.send(b"GET / HTTP/1.1\r\n").await;
            while peer.stream.write_all(b"X: y\r\n").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Instant::now()
        }
    });
    assert_eq!(silent.see().await, Seen::End);
    let dripped = dripping.await.unwrap();
    for ended in [begun.elapsed(), dripped - begun] {
        assert!((500..5000).contains(&ended.as_millis()), "{ended:?}");
    }
    assert_eq!(rig.metric("tidegate_handshake_timeout_total"), 2.0);
}

#[tokio::test]
async fn an_honest_slow_client_gets_in() {
    let rig = Rig::start(Gate::builder(Config::default()).authenticate(anonymous()).build().await.unwrap()).await;
    for path in ["/", "/ws"] {
        let mut peer = Peer::open(rig.address).await;
        for byte in handshake(path, &format!("X: {}\r\n", "a".repeat(6000))).as_bytes() {
            peer.send(&[*byte]).await;
        }
        assert!(peer.head().await.starts_with("HTTP/1.1 101"), "{path}");
    }
}

#[tokio::test]
async fn frames_sent_with_the_request_are_not_lost() {
    let rig = Rig::start(Gate::builder(Config::default()).authenticate(anonymous()).build().await.unwrap()).await;
    // Small enough to be read at once, larger than what is read at first, and larger than what HTTP reads at once.
    for padding in [0, 5000, 12_000] {
        let field = format!("X: {}\r\n", "a".repeat(padding));
        let mut peer = Peer::open(rig.address).await;
        peer.send(&[handshake("/", &field).into_bytes(), rig::frame(0x81, b"early")].concat()).await;
        assert!(peer.head().await.starts_with("HTTP/1.1 101"));
        assert_eq!(peer.see().await, Seen::Frame(0x81, b"early".to_vec()), "{padding}");

        let mut peer = Peer::open(rig.address).await;
        peer.send(&[handshake("/ws", &field).into_bytes(), rig::frame(0x89, b"early")].concat()).await;
        assert!(peer.head().await.starts_with("HTTP/1.1 101"));
        let seen = [peer.see().await, peer.see().await];
        assert!(seen.contains(&Seen::Frame(0x8a, b"early".to_vec())), "{padding}: {seen:?}");
    }
}

#[tokio::test]
async fn axum_can_serve_the_gate_itself() {
    let gate = Gate::builder(Config::default()).build().await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = axum::Router::new().route("/", gate.raw(rig::echo));
    let service = app.into_make_service_with_connect_info::<std::net::SocketAddr>();
    let serving = tokio::spawn(async move { axum::serve(listener, service).await });
    let mut peer = Peer::open(address).await;
    peer.send(handshake("/", "").as_bytes()).await;
    assert!(peer.head().await.starts_with("HTTP/1.1 101"));
    peer.send(&rig::frame(0x82, b"hello")).await;
    assert_eq!(peer.see().await, Seen::Frame(0x82, b"hello".to_vec()));
    let page = gate.connections(&tidegate::ConnectionFilter { limit: 10, ..Default::default() });
    assert_eq!(page.connections.len(), 1);
    assert_eq!(page.connections[0].address, address.ip());
    serving.abort();
}

/// Lets everyone in like this, after that.
struct After<F>(F, Admitted);

impl<F: Fn() + Send + Sync + 'static> Authenticate for After<F> {
    fn admit<'a>(&'a self, _request: &'a UpgradeRequest<'a>) -> BoxFuture<'a, Result<Admitted, Denied>> {
        Box::pin(async {
            self.0();
            Ok(self.1.clone())
        })
    }

    fn verify<'a>(&'a self, _connection: ConnectionId, _credential: Credential) -> BoxFuture<'a, Result<Arc<Identity>, Refused>> {
        Box::pin(async { Err(Refused::Bad) })
    }
}

#[tokio::test]
async fn a_panic_before_the_101_is_counted_and_leaves_no_handshake_open() {
    for path in ["/", "/ws"] {
        let gate = Gate::builder(Config::default()).authenticate(After(|| panic!("as the test wants it"), Admitted::Unidentified));
        let rig = Rig::start(gate.build().await.unwrap()).await;
        let mut peer = Peer::open(rig.address).await;
        peer.send(handshake(path, "").as_bytes()).await;
        assert!(matches!(peer.see().await, Seen::End | Seen::Reset), "{path}");
        eventually("it is counted", || rig.metric("tidegate_panic_total") == 1.0).await;
        assert_eq!(rig.metric("tidegate_handshakes_open"), 0.0, "{path}");
    }
}

/// What lets it in leaves nothing of what the runtime lets a task do in a turn, and the connection begins in the same turn: its timers are
/// set all the same.
#[tokio::test]
async fn a_connection_that_begins_at_the_end_of_a_long_turn_meets_its_deadlines() {
    let use_up = || {
        while tokio::task::coop::has_budget_remaining() {
            let _ = tokio::task::coop::consume_budget().now_or_never();
        }
    };
    let heartbeat = HeartbeatSettings { ping: Duration::from_millis(300), app_ping: None, ..HeartbeatSettings::default() };
    let limits = LimitSettings { authenticate: Duration::from_millis(200), ..LimitSettings::default() };
    let session = SessionSettings { heartbeat, limits, ..SessionSettings::default() };
    let config = Config { session: Arc::new(session), ..Config::default() };
    let begin = async |admitted| {
        let gate = Gate::builder(config.clone()).authenticate(After(use_up, admitted));
        let rig = Rig::start(gate.build().await.unwrap()).await;
        let mut peer = Peer::open(rig.address).await;
        peer.send(handshake("/ws", "").as_bytes()).await;
        assert!(peer.head().await.starts_with("HTTP/1.1 101"));
        (rig, peer)
    };
    let (_rig, mut known) = begin(Admitted::Identified(Arc::default())).await;
    assert!(matches!(known.see().await, Seen::Frame(0x81, _)), "a welcome");
    assert!(matches!(known.see().await, Seen::Frame(0x89, _)), "a ping");
    let (_rig, mut stranger) = begin(Admitted::Unidentified).await;
    assert_eq!(stranger.see().await, Seen::close(4200, "auth_timeout"));
}
