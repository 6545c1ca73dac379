//! `cargo xtask bench`: the release binary on one core, the load on another, the machine's floor in the same run.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const SERVER_CORE: &str = "0";
const LOAD_CORE: &str = "1";
const START_WITHIN: Duration = Duration::from_secs(10);

/// One call of the `bench` binary.
struct Measure {
    name: &'static str,
    arguments: &'static [&'static str],
    /// What is left out with `--quick`.
    slow: bool,
}

const fn measure(name: &'static str, arguments: &'static [&'static str]) -> Measure {
    Measure { name, arguments, slow: false }
}

const fn slow(name: &'static str, arguments: &'static [&'static str]) -> Measure {
    Measure { name, arguments, slow: true }
}

/// The set, in the order in which it runs; measures of one name are run together by that name.
const MEASURES: [Measure; 18] = [
    measure("floor", &["floor", "--sockets", "1000", "--per-write", "1", "--reader-core", LOAD_CORE]),
    measure("floor", &["floor", "--sockets", "1000", "--per-write", "16", "--reader-core", LOAD_CORE]),
    measure("floor", &["floor", "--sockets", "5000", "--per-write", "1", "--reader-core", LOAD_CORE]),
    slow("floor", &["floor", "--sockets", "9000", "--per-write", "1", "--reader-core", LOAD_CORE]),
    measure("fanout", &["fanout", "--subscribers", "1000", "--on-the-way", "1"]),
    measure("fanout", &["fanout", "--subscribers", "1000", "--on-the-way", "32"]),
    measure("fanout", &["fanout", "--subscribers", "1000", "--pipeline", "16", "--on-the-way", "64"]),
    measure("fanout", &["fanout", "--subscribers", "1000", "--publishers", "16", "--on-the-way", "64"]),
    measure("fanout", &["fanout", "--subscribers", "5000", "--on-the-way", "1"]),
    slow("fanout", &["fanout", "--subscribers", "9000", "--on-the-way", "1"]),
    measure("latency", &["fanout", "--subscribers", "1000", "--rate", "20"]),
    measure("replay", &["replay"]),
    measure("handshake", &["handshake"]),
    measure("kernel", &["kernel"]),
    measure("stall", &["stall", "--subscribers", "5000", "--stalled", "1000", "--seconds", "15"]),
    measure("drain", &["drain", "--connections", "1000", "--unresponsive", "10"]),
    slow("drain", &["drain", "--connections", "10000", "--unresponsive", "100"]),
    slow("idle", &["idle", "--connections", "10000"]),
];

/// Runs the measures that are named, or all; `--quick` leaves out the slow ones, `--json FILE` keeps the figures.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let mut wanted: Vec<&str> = Vec::new();
    let (mut quick, mut json) = (false, None);
    let mut words = arguments.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "--quick" => quick = true,
            "--json" => json = Some(words.next().ok_or("--json needs a file")?.to_owned()),
            name if MEASURES.iter().any(|measure| measure.name == name) => wanted.push(name),
            other => {
                return Err(format!("no measure \"{other}\"; there are: floor fanout latency replay handshake kernel stall drain idle"));
            }
        }
    }
    let root = super::tidy::root()?;
    build(&root)?;
    for measure in &MEASURES {
        if (wanted.is_empty() || wanted.contains(&measure.name)) && !(quick && measure.slow) {
            run_one(&root, measure, json.as_deref())?;
        }
    }
    Ok(())
}

fn build(root: &Path) -> Result<(), String> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(root).args(["build", "--release", "--locked", "--bin", "tidegate", "--bin", "bench"]);
    succeed(&mut cargo)
}

fn run_one(root: &Path, measure: &Measure, json: Option<&str>) -> Result<(), String> {
    let mut load = Command::new("taskset");
    if measure.name == "floor" {
        load.args(["-c", SERVER_CORE]).arg(root.join("target/release/bench"));
        return succeed(load.args(json.into_iter().flat_map(|file| ["--json", file])).args(measure.arguments));
    }
    let server = Server::start(root)?;
    load.args(["-c", LOAD_CORE]).arg(root.join("target/release/bench"));
    load.args(["--pid", &server.pid().to_string(), "--url", &server.url(), "--api", &server.api()]);
    succeed(load.args(json.into_iter().flat_map(|file| ["--json", file])).args(measure.arguments))
}

fn succeed(command: &mut Command) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?}: {status}")),
        Err(e) => Err(format!("{command:?}: {e}")),
    }
}

/// The gateway under measure, with the defaults of production but for the limits per address; ended when dropped.
struct Server {
    child: Child,
    public: u16,
    internal: u16,
    folder: PathBuf,
}

impl Server {
    fn start(root: &Path) -> Result<Self, String> {
        let (public, internal) = (free_port()?, free_port()?);
        let folder = root.join(format!("target/bench-{public}"));
        fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let config = folder.join("tidegate.toml");
        fs::write(&config, configuration(public, internal, &folder)).map_err(|e| format!("{}: {e}", config.display()))?;
        let mut command = Command::new("taskset");
        command.args(["-c", SERVER_CORE]).arg(root.join("target/release/tidegate")).arg("serve").arg("--config").arg(&config);
        let child = command.spawn().map_err(|e| format!("{command:?}: {e}"))?;
        let mut server = Self { child, public, internal, folder };
        server.wait()?;
        Ok(server)
    }

    fn wait(&mut self) -> Result<(), String> {
        let started = Instant::now();
        while started.elapsed() < START_WITHIN {
            if TcpStream::connect(("127.0.0.1", self.public)).is_ok() && TcpStream::connect(("127.0.0.1", self.internal)).is_ok() {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the gateway did not start: {status}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err("the gateway did not listen within 10 s".to_owned())
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn url(&self) -> String {
        format!("ws://127.0.0.1:{}/ws", self.public)
    }

    fn api(&self) -> String {
        format!("http://127.0.0.1:{}/v1/publish", self.internal)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(fs::remove_dir_all(&self.folder));
    }
}

fn configuration(public: u16, internal: u16, folder: &Path) -> String {
    format!(
        r#"
[public]
listen = "127.0.0.1:{public}"
[internal]
listen = "127.0.0.1:{internal}"
[auth]
anonymous = {{ subscribe = ["bench:**"], publish = [] }}
[limits]
per_address = 100000
per_user = 100000
[log]
level = "warn"
[broker]
kind = "embedded"
path = "{}/data"
[[channel]]
match = "bench:event:**"
kind = "event"
[[channel]]
match = "bench:log:**"
kind = "log"
retention = {{ messages = 200000, age = "24h", bytes = "1GiB" }}
"#,
        folder.display()
    )
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| format!("no free port: {e}"))?;
    listener.local_addr().map(|address| address.port()).map_err(|e| format!("no free port: {e}"))
}
