//! A node that has no file descriptor left: who is connected does not notice, who comes is turned away, and it recovers by itself.

#![allow(clippy::unwrap_used, reason = "a test")]

mod rig;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rig::{Peer, Rig, Seen, frame};
use tidegate::Config;

const DESCRIPTORS: u32 = 64;

/// The server, run by the test below in a process of its own with few descriptors. It ends when its standard input does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a server that only the other test starts"]
async fn server() {
    let rig = Rig::echo(Config::default()).await;
    eprintln!("listening {}", rig.address);
    let _ = tokio::task::spawn_blocking(|| std::io::stdin().lines().count()).await;
}

struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    fn start() -> Self {
        let test = std::env::current_exe().unwrap();
        let mut process = Command::new("prlimit")
            .arg(format!("--nofile={DESCRIPTORS}:{DESCRIPTORS}"))
            .arg(test)
            .args(["--exact", "server", "--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("listening ")?.parse().ok()).unwrap();
        Self { process, address }
    }

    fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn upgrade(address: SocketAddr) -> Option<Peer> {
    let mut peer = Peer::open(address).await;
    tokio::io::AsyncWriteExt::write_all(&mut peer.stream, rig::handshake("/", "").as_bytes()).await.ok()?;
    let mut head = [0; 12];
    let read = tokio::io::AsyncReadExt::read_exact(&mut peer.stream, &mut head);
    tokio::time::timeout(Duration::from_millis(500), read).await.ok()?.ok()?;
    peer.head().await;
    Some(peer)
}

#[tokio::test]
async fn who_is_connected_does_not_notice_and_the_node_recovers() {
    let server = Server::start();
    let mut open = Vec::new();
    while let Some(peer) = upgrade(server.address).await {
        open.push(peer);
        assert!(open.len() < DESCRIPTORS as usize);
    }
    assert!(open.len() > DESCRIPTORS as usize / 2, "{}", open.len());

    let (ticks, begun) = (server.cpu_ticks(), Instant::now());
    let mut waiting = Vec::new();
    for _ in 0..100 {
        waiting.push(Peer::open(server.address).await);
    }
    while begun.elapsed() < Duration::from_secs(2) {
        open[0].send(&frame(0x81, b"still here")).await;
        assert_eq!(open[0].see_within(Duration::from_millis(500)).await, Seen::Frame(0x81, b"still here".to_vec()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let spent = server.cpu_ticks() - ticks;
    assert!(spent <= 40, "{spent} hundredths of a second of 200");

    waiting.clear();
    open.truncate(1);
    let begun = Instant::now();
    while upgrade(server.address).await.is_none() {
        assert!(begun.elapsed() < Duration::from_secs(4), "it does not recover");
    }
}
