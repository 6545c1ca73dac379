//! `tidegate publish | tidegate subscribe` through the real gateway, which is killed in the middle.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod rig;

use std::fs::File;
use std::io::Write;
use std::process::{Child, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rig::{Gateway, lines, wait_until};

/// Pipes lines through a gateway that is killed and started again; what comes out has to be what went in.
fn pipe_through_a_crash(count: usize, kill_after: Duration) {
    let mut gateway = Gateway::start("");
    let out = gateway.folder.path().join("out");
    let mut subscriber = subscribe(&gateway, &out, &["log:pipe", "--since", "earliest"]);
    let mut publisher = gateway.tool(&["publish", "log:pipe"]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut input = publisher.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        for line in 0..count {
            writeln!(input, "line {line} of a build").unwrap();
            if line % 50 == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        input.write_all(b"the last has no end").unwrap();
    });
    std::thread::sleep(kill_after);
    gateway.kill();
    gateway.start_again();
    writer.join().unwrap();
    assert!(publisher.wait().unwrap().success());
    wait_until("everything arrived", || lines(&out).len() > count);
    let received = lines(&out);
    let sent: Vec<String> = (0..count).map(|line| format!("line {line} of a build")).chain(["the last has no end".to_owned()]).collect();
    assert_eq!(received.len(), sent.len());
    for (at, (received, sent)) in received.iter().zip(&sent).enumerate() {
        assert_eq!(received, sent, "line {at}");
    }
    end(&mut subscriber);
}

fn subscribe(gateway: &Gateway, out: &std::path::Path, words: &[&str]) -> Child {
    let mut command = gateway.tool(&[&["subscribe"], words].concat());
    command.stdout(File::create(out).unwrap()).stderr(Stdio::null()).spawn().unwrap()
}

fn end(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Different in every run, so that many runs see many moments.
fn random_ms(most: u128) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    Duration::from_millis(u64::try_from((now / 1000) % most).unwrap())
}

#[test]
fn a_killed_gateway_loses_and_repeats_nothing() {
    for _ in 0..3 {
        pipe_through_a_crash(5000, random_ms(300));
    }
}

#[test]
#[ignore = "long: 85 s, twenty crashes"]
fn twenty_killed_gateways_lose_and_repeat_nothing() {
    for _ in 0..20 {
        pipe_through_a_crash(10_000, random_ms(600));
    }
}

/// A disk that is full again and again while lines come: those that are refused are sent again, and none overtakes another.
#[test]
fn a_disk_that_is_full_at_times_does_not_change_the_order() {
    const LINES: usize = 3000;
    let mut gateway = Gateway::start("");
    gateway.kill();
    let data = gateway.folder.path().join("data");
    let Some(_disk) = SmallDisk::mount(&data, "10m") else { return };
    gateway.start_again();
    let out = gateway.folder.path().join("out");
    let mut subscriber = subscribe(&gateway, &out, &["log:full", "--since", "earliest"]);
    let mut publisher = gateway.tool(&["publish", "log:full"]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut input = publisher.stdin.take().unwrap();
    let ballast = data.join("ballast");
    assert!(fill(&ballast), "11 MiB are more than the disk has");
    let writer = std::thread::spawn(move || {
        for line in 0..LINES {
            writeln!(input, "{line} {}", "x".repeat(1500)).unwrap();
            if line % 50 == 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    });
    // Full before the first line: without this a quick machine may write them all between two moments without room.
    wait_until("a line was refused", || gateway.log().contains("can't be written"));
    std::fs::remove_file(&ballast).unwrap();
    while publisher.try_wait().unwrap().is_none() {
        std::thread::sleep(random_ms(60));
        fill(&ballast);
        std::thread::sleep(random_ms(20));
        std::fs::remove_file(&ballast).unwrap();
    }
    writer.join().unwrap();
    assert!(publisher.wait().unwrap().success());
    wait_until("everything arrived", || lines(&out).len() >= LINES);
    end(&mut subscriber);
    let numbers: Vec<usize> = lines(&out).iter().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(numbers, (0..LINES).collect::<Vec<_>>());
}

/// Writes as much as there is room for; tells whether the disk is full now.
fn fill(ballast: &std::path::Path) -> bool {
    File::create(ballast).and_then(|mut file| file.write_all(&vec![1; 11 << 20])).is_err()
}

/// A small file system over a directory, unmounted at the end.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(path: &std::path::Path, size: &str) -> Option<Self> {
        let mut command = std::process::Command::new("mount");
        let mounted = command.args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]).arg(path).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(path.to_owned()));
        }
        eprintln!("SKIPPED: mounting a tmpfs is not permitted here, so nothing about a full disk was tested");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        std::process::Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

#[test]
fn lines_of_a_slow_build_appear_at_once() {
    let gateway = Gateway::start("");
    let out = gateway.folder.path().join("out");
    let mut subscriber = subscribe(&gateway, &out, &["log:slow", "--since", "earliest"]);
    let mut publisher = gateway.tool(&["publish", "log:slow"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = publisher.stdin.take().unwrap();
    for count in 1..=3 {
        writeln!(input, "step {count}").unwrap();
        wait_until("the line arrived while the pipe is open", || lines(&out).len() == count);
    }
    drop(input);
    assert!(publisher.wait().unwrap().success());
    end(&mut subscriber);
}

#[test]
fn an_endless_source_takes_bounded_memory() {
    let gateway = Gateway::start("");
    let mut publisher = gateway.tool(&["publish", "log:endless"]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut input = publisher.stdin.take().unwrap();
    let writer = std::thread::spawn(move || while input.write_all(&b"y\n".repeat(4096)).is_ok() {});
    std::thread::sleep(Duration::from_secs(2));
    let status = std::fs::read_to_string(format!("/proc/{}/status", publisher.id())).unwrap();
    let rss = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap().split_whitespace().nth(1).unwrap();
    let rss: usize = rss.parse().unwrap();
    end(&mut publisher);
    writer.join().unwrap();
    assert!(rss < 64 * 1024, "{rss} KiB");
}

#[test]
fn a_closed_pipe_ends_a_subscriber_quietly() {
    let gateway = Gateway::start("");
    for line in 0..3 {
        assert_eq!(gateway.publish(&format!(r#"{{"channel":"log:head","data":{line}}}"#)).0, 200);
    }
    let mut subscriber = gateway.tool(&["subscribe", "log:head", "--since", "earliest"]);
    let mut subscriber = subscriber.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(subscriber.stdout.take());
    wait_until("it ended", || subscriber.try_wait().unwrap().is_some());
    let output = subscriber.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""));
}

#[test]
fn json_and_positions() {
    let gateway = Gateway::start("");
    for line in 1..=5 {
        assert_eq!(gateway.publish(&format!(r#"{{"channel":"log:json","data":{{"n" : {line}.0}},"message_id":"m{line}"}}"#)).0, 200);
    }
    let out = gateway.folder.path().join("out");
    let mut subscriber = subscribe(&gateway, &out, &["log:json", "--since", "last:2", "--json"]);
    wait_until("two frames", || lines(&out).len() == 2);
    end(&mut subscriber);
    assert_eq!(lines(&out)[0], r#"{"type":"message","channel":"log:json","offset":4,"id":"m4","data":{"n" : 4.0}}"#);
}

#[test]
fn what_can_not_work_ends_with_1() {
    let gateway = Gateway::start("");
    let code = |words: &[&str]| gateway.tool(words).stdin(Stdio::null()).output().unwrap().status.code();
    assert_eq!(code(&["publish", "nowhere:1", "--data", "1"]), Some(1));
    assert_eq!(code(&["subscribe", "nowhere:1"]), Some(1));
    assert_eq!(code(&["subscribe", "event:1", "--since", "earliest"]), Some(1));
    assert_eq!(code(&["publish", "log:1", "--data", "1"]), Some(0));
    assert_eq!(code(&["publish", "log:1", "--data", "1", "--api", "http://127.0.0.1:1", "--retry", "100ms"]), Some(1));
}

#[test]
fn bad_usage_ends_with_2() {
    let gateway = Gateway::start("");
    for words in [
        &["publish"][..],
        &["publish", "not a channel"],
        &["publish", "a", "--data", "{"],
        &["publish", "a", "--retry", "soon"],
        &["subscribe"],
        &["subscribe", "a", "--since", "yesterday"],
        &["subscribe", "a", "--url", "http://127.0.0.1"],
        &["drain", "--api", "ftp://127.0.0.1"],
        &["nothing"],
        &[],
    ] {
        assert_eq!(gateway.tool(words).output().unwrap().status.code(), Some(2), "{words:?}");
    }
}
