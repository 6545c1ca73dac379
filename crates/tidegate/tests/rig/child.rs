//! A server in a process of its own: the test's executable again, told to run nothing but `process_that_serves`.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

/// Prefix of the line in which the child says where it listens.
const LISTENING: &str = "listening ";

/// The child. Killed when it is dropped.
pub struct Server {
    process: Child,
    pub address: SocketAddr,
}

impl Server {
    /// Starts it with at most so many file descriptors.
    pub fn start(descriptors: u32) -> Self {
        let mut process = Command::new("prlimit")
            .arg(format!("--nofile={descriptors}:{descriptors}"))
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "process_that_serves", "--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = lines.map_while(Result::ok).find_map(|line| line.strip_prefix(LISTENING)?.parse().ok()).unwrap();
        Self { process, address }
    }

    /// User and system time so far, in hundredths of a second.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// Resident memory, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the child does besides serving: tells its address, and ends when its standard input does.
pub async fn serve_until_orphaned(address: SocketAddr) {
    eprintln!("{LISTENING}{address}");
    let _ = tokio::task::spawn_blocking(|| std::io::stdin().lines().count()).await;
}
