//! The release binary, started with a configuration of its own on ports of its own, and ended with the test.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use bench::{Process, Target};
use tempfile::TempDir;

use crate::{SERVER_CORE, free_port, free_ports, http, target_folder};

const START_WITHIN: Duration = Duration::from_secs(15);

/// What a gateway under test is started with.
#[derive(Clone)]
pub struct Setup {
    settings: Vec<(String, String)>,
    wrapper: Vec<String>,
    data: Option<PathBuf>,
    channels: String,
}

impl Setup {
    /// Overrides one key of the configuration: `("heartbeat.ping", "1s")`.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.push((format!("TIDEGATE__{}", key.replace('.', "__").to_uppercase()), value.to_owned()));
        self
    }

    /// Starts it by another program: `&["prlimit", "--nofile=64"]`.
    #[must_use]
    pub fn under(mut self, wrapper: &[&str]) -> Self {
        self.wrapper.extend(wrapper.iter().map(|word| (*word).to_owned()));
        self
    }

    /// On its own core, for what is measured.
    #[must_use]
    pub fn pinned(self) -> Self {
        self.under(&["taskset", "-c", SERVER_CORE])
    }

    /// Keeps its log there instead of in a folder of its own.
    #[must_use]
    pub fn data(mut self, folder: &Path) -> Self {
        self.data = Some(folder.to_owned());
        self
    }

    /// Channel rules that come before the usual ones, as TOML.
    #[must_use]
    pub fn channels(mut self, toml: &str) -> Self {
        self.channels.push_str(toml);
        self
    }

    /// Starts it and waits until it listens.
    ///
    /// # Panics
    /// When there is no release binary, or it does not come up.
    pub fn start(self) -> Gateway {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = self.data.clone().unwrap_or_else(|| folder.path().join("data"));
        let config = folder.path().join("tidegate.toml");
        let nowhere = loopback(0);
        let mut gateway = Gateway { child: None, public: nowhere, internal: nowhere, setup: self, config, folder };
        // Ports are only known to be free a moment before; three tries are plenty.
        for last in [false, false, true] {
            [gateway.public, gateway.internal] = free_ports().map(loopback);
            let text = configuration(gateway.public, gateway.internal, &data, &gateway.setup.channels);
            fs::write(&gateway.config, text).expect("a configuration file");
            match gateway.try_start() {
                Ok(()) => break,
                Err(why) => assert!(!last && why.contains("can't listen"), "{why}"),
            }
        }
        gateway
    }
}

/// A running gateway.
pub struct Gateway {
    child: Option<Child>,
    /// The public listener.
    pub public: SocketAddr,
    /// The internal listener.
    pub internal: SocketAddr,
    setup: Setup,
    config: PathBuf,
    folder: TempDir,
}

impl Gateway {
    /// Production defaults, anonymous sessions, and channels `event:**`, `log:**` and `state:**`.
    pub fn setup() -> Setup {
        Setup { settings: Vec::new(), wrapper: Vec::new(), data: None, channels: String::new() }
    }

    /// Starts the same configuration and data after it ended.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_again(&mut self) {
        self.try_start().unwrap_or_else(|why| panic!("{why}"));
    }

    /// Waits until it listens; why not, if it ends instead.
    fn try_start(&mut self) -> Result<(), String> {
        let mut words = self.setup.wrapper.clone();
        words.push(binary("tidegate").display().to_string());
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_path()).expect("a log file");
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg("serve").arg("--config").arg(&self.config);
        command.envs(self.setup.settings.iter().cloned()).stdin(Stdio::null()).stdout(log.try_clone().expect("a log file")).stderr(log);
        self.child = Some(command.spawn().unwrap_or_else(|e| panic!("{words:?}: {e}")));
        let started = Instant::now();
        while TcpStream::connect(self.public).is_err() || TcpStream::connect(self.internal).is_err() {
            if let Some(status) = self.try_wait() {
                return Err(format!("the gateway ended with {status}:\n{}", self.log()));
            }
            assert!(started.elapsed() < START_WITHIN, "the gateway does not listen after 15 s:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// How a load client talks to it on `channel`.
    pub fn target(&self, channel: &str) -> Target {
        Target::tidegate(self.public, self.internal, channel)
    }

    /// Its process.
    ///
    /// # Panics
    /// When it ended.
    pub fn process(&self) -> Process {
        Process::new(self.child.as_ref().expect("a running gateway").id())
    }

    /// A call of its HTTP API.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn call(&self, method: &str, path: &str, body: &str) -> io::Result<(u16, String)> {
        http::call(self.internal, method, path, body)
    }

    /// The sum of a metric over its labels; 0 where it is not there.
    ///
    /// # Panics
    /// When `/metrics` does not answer 200.
    pub fn metric(&self, name: &str) -> f64 {
        let (status, text) = self.call("GET", "/metrics", "").expect("an answer of /metrics");
        assert_eq!(status, 200, "{text}");
        sum(&text, name)
    }

    /// Sends it a signal by name.
    ///
    /// # Panics
    /// When `kill` fails.
    pub fn signal(&self, name: &str) {
        let pid = self.process().pid().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().is_ok_and(|status| status.success()), "kill -{name} {pid}");
    }

    /// SIGKILL, and waits.
    ///
    /// # Panics
    /// When it can't be waited for.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("SIGKILL");
            child.wait().expect("the end");
        }
    }

    /// Its exit status if it ended.
    ///
    /// # Panics
    /// When it can't be waited for.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().expect("a child");
        if status.is_some() {
            self.child = None;
        }
        status
    }

    /// What it wrote to standard output and error so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log.txt")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(30).collect();
            println!("the gateway's last lines:\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Another program of the release build, on a port of its own; ended when dropped.
pub struct Program {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Program {
    /// Starts `name HOST:PORT` with environment variables and waits until it listens.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(name: &str, settings: &[(&str, &str)]) -> Self {
        let address = loopback(free_port());
        let mut command = Command::new(binary(name));
        command.arg(address.to_string()).envs(settings.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|e| panic!("{name}: {e}"));
        let program = Self { child, address };
        assert!(crate::wait_until(START_WITHIN, || TcpStream::connect(address).is_ok()).is_some(), "{name} does not listen");
        program
    }

    /// Its process.
    pub fn process(&self) -> Process {
        Process::new(self.child.id())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A program of the release build.
///
/// # Panics
/// When it was not built.
pub fn binary(name: &str) -> PathBuf {
    let path = target_folder().join("release").join(name);
    assert!(path.exists(), "{} is not there: ./test release", path.display());
    path
}

/// This port on loopback.
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn configuration(public: SocketAddr, internal: SocketAddr, data: &Path, channels: &str) -> String {
    let own = r#""event:**", "log:**", "state:**""#;
    format!(
        r#"
[public]
listen = "{public}"
[internal]
listen = "{internal}"
[auth]
anonymous = {{ subscribe = [{own}], publish = [{own}] }}
[limits]
per_user = 100000
[broker]
kind = "embedded"
path = "{}"
{channels}
[[channel]]
match = "event:**"
kind = "event"
[[channel]]
match = "log:**"
kind = "log"
retention = {{ messages = 1000000, age = "24h", bytes = "1GiB" }}
[[channel]]
match = "state:**"
kind = "state"
"#,
        data.display()
    )
}

/// Adds up all series of `name` in the text format of Prometheus.
fn sum(text: &str, name: &str) -> f64 {
    text.lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with([' ', '{']))
        .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    #[test]
    fn series_of_one_metric_are_added_up() {
        let text = "# TYPE a_total counter\na_total{code=\"1\"} 2\na_total{code=\"2\"} 3\na_total_more 9\nb 7\n";
        assert_eq!(super::sum(text, "a_total"), 5.0);
        assert_eq!(super::sum(text, "b"), 7.0);
        assert_eq!(super::sum(text, "none"), 0.0);
    }
}
