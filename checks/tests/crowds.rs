//! Very many at once, who leave or catch up: what those notice of it who stay and are up to date.

use std::process::Command;

use checks::gateway::binary;
use checks::{Gateway, measured, one_of_three, pin_to_load_core};
use serde_json::Value;

#[test]
fn ten_thousand_are_cut_and_nobody_else_notices() {
    one_of_three("what the others' p99 was before and after ten thousand were cut, in ms", || {
        let found = measure(&["leave"]);
        assert_eq!(number(&found, "others_lost"), 0.0, "{found}");
        compare(number(&found, "p99_before_ms"), number(&found, "p99_after_ms"), 10.0)
    });
}

#[test]
fn a_hundred_catch_up_with_a_hundred_thousand_messages_and_nobody_else_notices() {
    one_of_three("the p50 or p99 of live messages without and with others who catch up, in ms", || {
        let found = measure(&["replay", "--history", "log:history", "--seconds", "8"]);
        compare(number(&found, "p50_alone_ms"), number(&found, "p50_beside_ms"), 0.0)?;
        compare(number(&found, "p99_alone_ms"), number(&found, "p99_beside_ms"), 10.0)
    });
}

/// One and a half times as much is allowed, and `more`: high quantiles are of few messages and of one client, and below 10 ms their ratio says
/// nothing.
fn compare(before: f64, meanwhile: f64, more: f64) -> Result<(), (f64, f64)> {
    if meanwhile <= before * 1.5 + more { Ok(()) } else { Err((before, meanwhile)) }
}

/// What the load client finds, which runs on this test's core and starts the others as processes of their own.
fn measure(arguments: &[&str]) -> Value {
    pin_to_load_core();
    let gateway = Gateway::setup().set("limits.per_address", "100000").pinned().start();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("figures");
    let mut command = Command::new(binary("bench"));
    command.arg("--json").arg(&file);
    command.args(["--url", &format!("ws://{}/ws", gateway.public), "--api", &format!("http://{}/v1/publish", gateway.internal)]);
    command.args(["--channel", "event:live", "--pid", &gateway.process().pid().to_string()]).args(arguments);
    let output = command.output().expect("the load client");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    measured(arguments[0], String::from_utf8_lossy(&output.stdout).trim());
    let figures = std::fs::read(&file).expect("figures");
    serde_json::from_slice(&figures).expect("one line of JSON")
}

fn number(found: &Value, name: &str) -> f64 {
    found[name].as_f64().unwrap_or_else(|| panic!("{name} in {found}"))
}
