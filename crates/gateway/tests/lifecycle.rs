//! Starting, reloading and leaving, as the operating system sees it.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod rig;

use std::process::{Command, Stdio};
use std::time::Duration;

use rig::{BINARY, Gateway, free_address, free_addresses, wait_until};

#[test]
fn sigterm_drains_and_ends_with_0() {
    let mut gateway = Gateway::start("");
    gateway.signal("-TERM");
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn the_api_drains_too() {
    let mut gateway = Gateway::start("");
    assert!(gateway.tool(&["drain"]).output().unwrap().status.success());
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn readiness_fails_first() {
    let gateway = Gateway::start_with("", &[("TIDEGATE__DRAIN__ANNOUNCE", "60s"), ("TIDEGATE__DRAIN__DEADLINE", "90s")]);
    assert_eq!(gateway.call("GET", "/readyz", &[], "").0, 200);
    gateway.signal("-TERM");
    wait_until("it is not ready", || gateway.call("GET", "/readyz", &[], "").0 == 503);
    assert_eq!(gateway.call("GET", "/livez", &[], "").0, 200);
}

#[test]
fn a_client_that_stays_is_cut_by_a_second_signal() {
    let mut gateway = Gateway::start_with("", &[("TIDEGATE__DRAIN__GRACE", "4s")]);
    let mut subscriber = gateway.tool(&["subscribe", "log:a"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("it is connected", || gateway.call("GET", "/v1/connections", &[], "").1.contains("\"id\""));
    // A frozen client neither moves nor answers.
    let freeze = |signal: &str| assert!(Command::new("kill").args([signal, &subscriber.id().to_string()]).status().unwrap().success());
    freeze("-STOP");
    gateway.signal("-TERM");
    std::thread::sleep(Duration::from_millis(600));
    gateway.signal("-TERM");
    let status = gateway.wait();
    freeze("-CONT");
    subscriber.kill().unwrap();
    subscriber.wait().unwrap();
    assert_eq!(status.code(), Some(3));
}

#[test]
fn a_configuration_that_is_refused_ends_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.toml");
    std::fs::write(&file, "[internal]\nlisten = \"0.0.0.0:8001\"\n[limts]\n").unwrap();
    for command in ["serve", "check"] {
        let output = Command::new(BINARY).arg(command).arg("--config").arg(&file).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("line 2: internal.listen") && said.contains("line 3: limts") && said.contains("did you mean limits?"),
            "{said}"
        );
    }
    let missing = Command::new(BINARY).args(["check", "--config", "/no/such/file"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
}

#[test]
fn check_says_what_it_means_and_what_is_risky() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("risky.toml");
    std::fs::write(&file, "[heartbeat]\nping = \"2m\"\n[[channel]]\nmatch = \"build:*\"\nkind = \"log\"\n").unwrap();
    let output = Command::new(BINARY).args(["check", "--config"]).arg(&file).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    for part in ["ws://127.0.0.1:8000/ws", "build:*", "Memory: at worst", "too slow for", "line 2: heartbeat.ping", "synced to disk"] {
        assert!(said.contains(part), "{part}:\n{said}");
    }
}

#[test]
fn a_port_that_is_taken_ends_with_1() {
    let gateway = Gateway::start("");
    let output = Command::new(BINARY)
        .arg("dev")
        .current_dir(gateway.folder.path())
        .env("TIDEGATE__PUBLIC__LISTEN", gateway.public.to_string())
        .env("TIDEGATE__INTERNAL__LISTEN", free_address().to_string())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("public.listen"), "{said}");
}

/// Whether the gateway lets a page of this origin in.
fn admits(gateway: &Gateway, origin: &str) -> bool {
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    let mut request = format!("ws://{}/ws", gateway.public).into_client_request().unwrap();
    request.headers_mut().insert("origin", origin.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio_tungstenite::connect_async(request).await.is_ok() })
}

fn origins(list: &str) -> String {
    // Written as a key of its table, since the file has a [public] already.
    format!("public.origins = {list}")
}

#[test]
fn a_changed_file_is_read_again_and_a_bad_one_changes_nothing() {
    let mut gateway = Gateway::start_with("", &[]);
    let page = "https://app.example.com";
    assert!(!admits(&gateway, page));
    write_with_origins(&gateway, &origins(&format!("[\"{page}\"]")));
    wait_until("the page is let in", || admits(&gateway, page));

    replace_config(&gateway, "[public]\norigins = 5\n");
    wait_until("the bad file is told", || gateway.log().contains("not reloaded, nothing changed"));
    assert!(admits(&gateway, page));

    gateway.rewrite_config("[limits]\nupgrade = \"9s\"\nper_user = 3");
    gateway.signal("-HUP");
    wait_until("it is told what stays", || gateway.log().contains("limits.upgrade can't be changed while it runs"));
    wait_until("the page is out again", || !admits(&gateway, page));
}

/// Writes the configuration as it is, with origins.
fn write_with_origins(gateway: &Gateway, origins: &str) {
    let text = std::fs::read_to_string(gateway.config_path()).unwrap();
    replace_config(gateway, &format!("{origins}\n{}", text.replace("[public]\nlisten", "public.listen")));
}

/// A whole file appears at once: half of one would be read as what it says.
fn replace_config(gateway: &Gateway, text: &str) {
    let fresh = gateway.folder.path().join("fresh");
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(fresh, gateway.config_path()).unwrap();
}

#[test]
fn dev_needs_nothing_and_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let (public, internal) = free_addresses();
    let mut child = Command::new(BINARY)
        .arg("dev")
        .current_dir(folder.path())
        .env("TIDEGATE__PUBLIC__LISTEN", public.to_string())
        .env("TIDEGATE__INTERNAL__LISTEN", internal.to_string())
        .env("TIDEGATE__DRAIN__ANNOUNCE", "100ms")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("it listens", || std::net::TcpStream::connect(internal).is_ok());
    let publish = |channel: &str, more: &[&str]| {
        let mut words = vec!["publish", channel, "--data", "1"];
        words.extend(more);
        Command::new(BINARY).args(words).env("TIDEGATE_API", format!("http://{internal}")).output().unwrap().status.code()
    };
    assert_eq!(publish("build:1", &[]), Some(0));
    assert_eq!(publish("demo:log:a:b", &[]), Some(0));
    assert_eq!(publish("orders:1", &["--key", "k"]), Some(0));
    assert_eq!(publish("demo:event:x", &[]), Some(0));
    assert_eq!(publish("elsewhere", &[]), Some(1));
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    wait_until("it ended", || child.try_wait().unwrap().is_some());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains(&format!("http://{public}/")) && said.contains("tidegate publish build:demo --api"), "{said}");
}
