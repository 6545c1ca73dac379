//! TLS in front of the upgrade: what is spoken, what is refused, and a certificate that changes under open sockets.

#![allow(clippy::unwrap_used, reason = "a test")]

mod rig;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tidegate::{Config, Gate, Listener, Tls, UpgradeSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

async fn serve(config: Config) -> (Gate, Tls, SocketAddr) {
    let tls = Tls::from_files(&fixture("first.pem"), &fixture("first.key")).unwrap();
    let gate = Gate::builder(config).build().await.unwrap();
    let listener = Listener::bind("127.0.0.1:0", gate.config().upgrade).await.unwrap().with_tls(tls.clone());
    let address = listener.local_addr().unwrap();
    let app = axum::Router::new().route("/", gate.raw(rig::echo));
    tokio::spawn({
        let gate = gate.clone();
        async move { gate.serve(listener, app).await }
    });
    (gate, tls, address)
}

/// Connects, trusting only this certificate.
async fn connect(address: SocketAddr, trusted: &str, alpn: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(fixture(trusted)).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

async fn upgrade(stream: &mut TlsStream<TcpStream>) {
    stream.write_all(rig::handshake("/", "").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
}

async fn echo(stream: &mut TlsStream<TcpStream>, message: &[u8]) {
    stream.write_all(&rig::frame(0x82, message)).await.unwrap();
    let header = match message.len() {
        0..126 => 2,
        126..65536 => 4,
        _ => 10,
    };
    let mut frame = vec![0; header + message.len()];
    stream.read_exact(&mut frame).await.unwrap();
    assert_eq!(&frame[header..], message);
}

#[tokio::test]
async fn a_changed_certificate_counts_for_new_handshakes_and_open_sockets_live_on() {
    let (gate, tls, address) = serve(Config::default()).await;
    let mut old = connect(address, "first.pem", &[b"http/1.1"]).await.unwrap();
    assert_eq!(old.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    upgrade(&mut old).await;
    echo(&mut old, b"before").await;

    assert!(tls.reload(&fixture("second.pem"), &fixture("first.key")).is_err(), "a key that does not fit");
    assert!(tls.reload(&fixture("missing.pem"), &fixture("second.key")).unwrap_err().to_string().contains("missing.pem"));
    assert!(connect(address, "first.pem", &[]).await.is_ok(), "the old one stays");

    tls.reload(&fixture("second.pem"), &fixture("second.key")).unwrap();
    assert!(connect(address, "first.pem", &[]).await.is_err());
    let mut new = connect(address, "second.pem", &[]).await.unwrap();
    upgrade(&mut new).await;
    echo(&mut new, &[7; 65536]).await;
    echo(&mut old, &[8; 65536]).await;
    assert_eq!(gate.connection_count(), 2);
}

/// Without TLS' own goodbye before the end of TCP, reading to the end fails.
#[tokio::test]
async fn a_close_frame_is_answered_and_tls_ends_properly_behind_it() {
    let (_gate, _tls, address) = serve(Config::default()).await;
    let mut stream = connect(address, "first.pem", &[]).await.unwrap();
    upgrade(&mut stream).await;
    stream.write_all(&rig::frame(0x88, &1000u16.to_be_bytes())).await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, [0x88, 2, 0x03, 0xe8]);
}

#[tokio::test]
async fn only_http_1_is_offered() {
    let (_gate, _tls, address) = serve(Config::default()).await;
    assert!(connect(address, "first.pem", &[b"h2"]).await.is_err());
}

#[tokio::test]
async fn half_a_tls_handshake_ends_at_the_deadline() {
    let upgrade = UpgradeSettings { deadline: Duration::from_millis(500), ..UpgradeSettings::default() };
    let (_gate, _tls, address) = serve(Config { upgrade, ..Config::default() }).await;
    let begun = Instant::now();
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The first bytes of a ClientHello, and then silence.
    stream.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await.unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!((400..5000).contains(&begun.elapsed().as_millis()));
}

#[tokio::test]
async fn plain_http_on_a_tls_port_is_refused_at_once() {
    let (_gate, _tls, address) = serve(Config::default()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let begun = Instant::now();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(begun.elapsed() < Duration::from_secs(5));
}
