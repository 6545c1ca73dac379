//! A test in a network namespace of its own, where packets can be dropped without harm to anybody.

use std::process::{Command, Stdio};

use crate::skip;

/// Set in the process that runs inside.
const INSIDE: &str = "CHECKS_NAMESPACE";

/// Runs the test `name` of this test binary again inside a new namespace, with loopback up, and removes the namespace after.
/// Returns true in the process that is inside: it goes on. The outer one returns false when the inner one has passed.
///
/// # Panics
/// When the inner test fails.
pub fn entered(name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let namespace = Namespace(format!("tg_{}", std::process::id()));
    if !quiet(&["ip", "netns", "add", &namespace.0]) {
        skip(name, "no network namespace may be made here");
        return false;
    }
    run(&["ip", "-n", &namespace.0, "link", "set", "lo", "up"]);
    if !quiet(&["ip", "netns", "exec", &namespace.0, "iptables", "-w", "-L", "-n"]) {
        skip(name, "iptables does not work here");
        return false;
    }
    let own = std::env::current_exe().expect("this test binary");
    let status = Command::new("ip")
        .args(["netns", "exec", &namespace.0])
        .arg(own)
        .args(["--exact", name, "--include-ignored", "--nocapture", "--test-threads", "1"])
        .env(INSIDE, "1")
        .status()
        .expect("ip netns exec");
    assert!(status.success(), "{name} failed in its namespace");
    false
}

/// Drops every packet from and to the addresses of `net` (`127.0.1.0/24`) from now on. Only inside a namespace.
///
/// # Panics
/// Outside one, or when `iptables` fails.
pub fn cut_off(net: &str) {
    assert!(std::env::var_os(INSIDE).is_some(), "packets are dropped in namespaces only");
    packets("-A", net);
}

/// The opposite of [`cut_off`].
///
/// # Panics
/// When the packets of `net` were not dropped.
pub fn let_through(net: &str) {
    packets("-D", net);
}

fn packets(rule: &str, net: &str) {
    for direction in ["-s", "-d"] {
        run(&["iptables", "-w", rule, "INPUT", direction, net, "-j", "DROP"]);
    }
}

struct Namespace(String);

impl Drop for Namespace {
    fn drop(&mut self) {
        quiet(&["ip", "netns", "delete", &self.0]);
    }
}

fn run(words: &[&str]) {
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap_or_else(|e| panic!("{words:?}: {e}"));
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn quiet(words: &[&str]) -> bool {
    Command::new(words[0]).args(&words[1..]).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
