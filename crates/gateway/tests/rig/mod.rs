//! The real binary on ports and in a folder of its own, ended with the test.
#![allow(dead_code, reason = "every test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_tidegate");

/// Channels and grants that tests use.
const CHANNELS: &str = r#"
[auth]
anonymous = { subscribe = ["**"], publish = ["**"] }
[[channel]]
match = "log:**"
kind = "log"
retention = { messages = 1000000, age = "24h", bytes = "1GiB" }
[[channel]]
match = "state:**"
kind = "state"
[[channel]]
match = "event:**"
kind = "event"
"#;

pub(crate) struct Gateway {
    pub(crate) public: SocketAddr,
    pub(crate) internal: SocketAddr,
    pub(crate) folder: TempDir,
    extra: String,
    variables: Vec<(String, String)>,
    child: Option<Child>,
}

/// A port that is free now.
pub(crate) fn free_address() -> SocketAddr {
    free_addresses().0
}

/// Two ports that are free now: both are held until both are known, or they might be the same.
pub(crate) fn free_addresses() -> (SocketAddr, SocketAddr) {
    let [one, other] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    (one.local_addr().unwrap(), other.local_addr().unwrap())
}

impl Gateway {
    /// Starts one with more TOML before the channels, and waits until it answers.
    pub(crate) fn start(extra: &str) -> Self {
        Self::start_with(extra, &[])
    }

    pub(crate) fn start_with(extra: &str, variables: &[(&str, &str)]) -> Self {
        let variables: Vec<_> = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        // Ports are only known to be free a moment before; three tries are plenty.
        for last in [false, false, true] {
            let (public, internal) = free_addresses();
            let folder = tempfile::tempdir().unwrap();
            let mut gateway = Self { public, internal, folder, extra: extra.to_owned(), variables: variables.clone(), child: None };
            gateway.write_config();
            match gateway.try_start() {
                Ok(()) => return gateway,
                Err(log) => assert!(!last && log.contains("can't listen"), "it ended:\n{log}"),
            }
        }
        unreachable!("the last try returns or fails")
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.folder.path().join("tidegate.toml")
    }

    /// Writes the configuration with other extras than it was started with.
    pub(crate) fn rewrite_config(&mut self, extra: &str) {
        self.extra = extra.to_owned();
        self.write_config();
    }

    fn write_config(&self) {
        let text = format!(
            "[public]\nlisten = \"{}\"\n[internal]\nlisten = \"{}\"\n[broker]\npath = \"{}\"\n[drain]\nannounce = \"100ms\"\nwindow = \"200ms\"\n\
             grace = \"500ms\"\ndeadline = \"5s\"\n{}\n{CHANNELS}",
            self.public,
            self.internal,
            self.folder.path().join("data").display(),
            self.extra
        );
        // As editors do: a whole file appears at once.
        let fresh = self.folder.path().join("fresh");
        fs::write(&fresh, text).unwrap();
        fs::rename(fresh, self.config_path()).unwrap();
    }

    pub(crate) fn start_again(&mut self) {
        self.try_start().unwrap_or_else(|log| panic!("it ended:\n{log}"));
    }

    /// Waits until it listens; its log if it ends instead.
    fn try_start(&mut self) -> Result<(), String> {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = Command::new(BINARY);
        command.arg("serve").arg("--config").arg(self.config_path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.envs(self.variables.iter().cloned());
        let child = self.child.insert(command.spawn().unwrap());
        let mut ended = false;
        wait_until("it listens", || {
            ended = child.try_wait().unwrap().is_some();
            ended || TcpStream::connect(self.internal).is_ok()
        });
        if ended {
            self.child = None;
            return Err(self.log());
        }
        Ok(())
    }

    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let child = self.child.as_mut().unwrap();
        let began = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                self.child = None;
                return status;
            }
            assert!(began.elapsed() < Duration::from_secs(15), "it does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// A command-line tool that talks to it.
    pub(crate) fn tool(&self, words: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(words).current_dir(self.folder.path());
        command.env("TIDEGATE_API", format!("http://{}", self.internal)).env("TIDEGATE_URL", format!("ws://{}/ws", self.public));
        command
    }

    /// One HTTP request on the internal listener; the status and the body.
    pub(crate) fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.internal).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str(&format!("Host: {}\r\n", self.internal));
        }
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let body = if head.to_ascii_lowercase().contains("chunked") { unchunk(body) } else { body.to_owned() };
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
    }

    pub(crate) fn publish(&self, body: &str) -> (u16, String) {
        self.call("POST", "/v1/publish", &[("Content-Type", "application/json")], body)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        whole.push_str(&rest[..length]);
        body = rest[length..].trim_start_matches("\r\n");
        if length == 0 {
            break;
        }
    }
    whole
}

/// Waits up to 15 s.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(15), "not within 15 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The lines of a file so far.
pub(crate) fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}
