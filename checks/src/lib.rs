//! What the system tests are made of: the release binary with a configuration of its own, proxies that are kind and
//! proxies that are not, network namespaces, and a judge of what subscribers saw.

pub mod chaos;
pub mod gateway;
pub mod http;
pub mod namespace;
pub mod proxies;
pub mod subscriber;
pub mod tls;
pub mod verdict;

pub use gateway::Gateway;

use std::fmt::Debug;
use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// The core that measured servers run on; the test itself goes to [`LOAD_CORE`].
pub const SERVER_CORE: &str = "0";
/// See [`SERVER_CORE`].
pub const LOAD_CORE: &str = "1";

/// A loopback port that was free a moment ago.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    let [port] = free_ports();
    port
}

/// Several of them: all are held until all are known, or two might be the same.
///
/// # Panics
/// When there are none.
pub fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    let held = [(); COUNT].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    held.map(|listener| listener.local_addr().expect("its address").port())
}

/// Waits until `done`, looking every 20 ms; how long it took, or none after `limit`.
pub fn wait_until(limit: Duration, mut done: impl FnMut() -> bool) -> Option<Duration> {
    let started = Instant::now();
    while started.elapsed() < limit {
        if done() {
            return Some(started.elapsed());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

/// Runs a measurement up to three times, until it finds nothing wrong. What the product does to a time it does each time; what the machine
/// did beside it is gone at the next. Everything else has to hold in each try, and panics there.
///
/// # Panics
/// When something was wrong each time; it says what.
pub fn one_of_three<E: Debug>(what: &str, mut once: impl FnMut() -> Result<(), E>) {
    let mut wrong = Vec::new();
    while wrong.len() < 3 {
        match once() {
            Ok(()) => return,
            Err(found) => wrong.push(found),
        }
    }
    panic!("{what}: {wrong:?}, each of three times");
}

/// Moves this test to its own core, away from the measured server.
///
/// # Panics
/// When `taskset` fails.
pub fn pin_to_load_core() {
    let pinned = Command::new("taskset").args(["-apc", LOAD_CORE, &std::process::id().to_string()]).output();
    assert!(pinned.is_ok_and(|output| output.status.success()), "taskset could not move the test to core {LOAD_CORE}");
}

/// Prints one line with what was measured.
pub fn measured(what: &str, figures: &str) {
    println!("measured: {what}: {figures}");
}

/// Puts it on the list of what did not run, which `./test` shows at its end.
///
/// # Panics
/// Without such a list: who runs the tests is not to believe that they all did.
pub fn skip(what: &str, why: &str) {
    let list = std::env::var("TIDEGATE_SKIPPED_TESTS").unwrap_or_else(|_| panic!("{what} can't be tested: {why}"));
    let list = std::fs::OpenOptions::new().create(true).append(true).open(list);
    list.and_then(|mut list| writeln!(list, "{what}: {why}")).expect("the list of skipped tests");
}

/// Whether a program is there to run.
pub fn has(program: &str) -> bool {
    Command::new("sh").args(["-c", &format!("command -v {program}")]).output().is_ok_and(|output| output.status.success())
}

/// Where cargo puts what it builds.
pub fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}

/// The repository's root.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().map(PathBuf::from).unwrap_or_default()
}
