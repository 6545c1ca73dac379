//! `wss://` against a real gateway with a certificate of its own: who trusts it gets through, who does not never does.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidegate::auth::Anonymous;
use tidegate::{ChannelKind, ChannelRule, Config, Gate, Grants, Listener, Pattern, SessionSettings, Tls};
use tidegate_client::{Client, Event, Since};

/// Longer than any handshake on one machine, shorter than anybody's patience.
const WITHIN: Duration = Duration::from_secs(10);

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tidegate/tests/fixtures").join(name)
}

/// A gateway with the first certificate, and its address.
async fn gateway() -> String {
    let all = || vec![Pattern::new("**").unwrap()];
    let rule = ChannelRule::new(Pattern::new("log:*").unwrap(), ChannelKind::Log);
    let session = SessionSettings { channels: vec![Arc::new(rule)], ..SessionSettings::default() };
    let grants = Grants { subscribe: all(), publish: all(), history: vec![] };
    let config = Config { session: Arc::new(session), ..Config::default() };
    let gate = Gate::builder(config).authenticate(Anonymous::new(grants)).build().await.unwrap();
    let tls = Tls::from_files(&fixture("first.pem"), &fixture("first.key")).unwrap();
    let listener = Listener::bind("127.0.0.1:0", gate.config().upgrade).await.unwrap().with_tls(tls);
    let port = listener.local_addr().unwrap().port();
    let app = axum::Router::new().route("/ws", gate.route());
    tokio::spawn(async move { gate.serve(listener, app).await });
    format!("wss://localhost:{port}/ws")
}

#[tokio::test]
async fn a_certificate_that_is_trusted_lets_messages_through() {
    let trusted = std::fs::read(fixture("first.pem")).unwrap();
    let client = Client::builder(gateway().await).trust(trusted).build();
    let mut log = client.log("log:a").since(Since::Earliest).subscribe();
    tokio::time::timeout(WITHIN, client.publish("log:a", &"over TLS")).await.unwrap().unwrap();
    loop {
        match tokio::time::timeout(WITHIN, log.next()).await.unwrap() {
            Some(Event::Message(message)) => return assert_eq!(message.data.get(), r#""over TLS""#),
            Some(Event::Status(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn another_certificate_never_gets_to_hear_anything() {
    let other = std::fs::read(fixture("second.pem")).unwrap();
    let client = Client::builder(gateway().await).trust(other).build();
    let published = tokio::time::timeout(Duration::from_secs(3), client.publish("log:a", &1));
    assert!(published.await.is_err(), "a gateway that is not trusted acknowledged a message");
}

#[tokio::test]
async fn what_is_to_be_trusted_and_is_no_certificate_stops_the_client() {
    let client = Client::builder("wss://localhost:1/ws").trust("nothing").build();
    let event = tokio::time::timeout(WITHIN, client.log("log:a").subscribe().next()).await.unwrap();
    assert!(matches!(&event, Some(Event::Stopped(stop)) if stop.reason.contains("no certificate")), "{event:?}");
}

#[tokio::test]
async fn a_name_that_no_channel_can_have_ends_at_once() {
    let client = Client::builder("ws://127.0.0.1:1/ws").build();
    let event = client.log("a b").subscribe().next().await;
    assert!(matches!(&event, Some(Event::Stopped(stop)) if stop.reason.starts_with("bad_request")), "{event:?}");
    assert!(client.publish("a b", &1).await.unwrap_err().to_string().contains("channel"));
}
