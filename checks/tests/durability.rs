//! What was acknowledged stays: after SIGKILL in the middle of publishing, and on a full disk.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bench::measure::{make_ready, rest};
use bench::peer::Options;
use bench::{Swarm, Target};
use checks::subscriber::Witness;
use checks::verdict::{Op, judge, summary};
use checks::{Gateway, measured, skip, wait_until};
use serde_json::Value;

const CHANNEL: &str = "log:kept";
const PUBLISHERS: usize = 4;

#[test]
fn acknowledged_messages_survive_sigkill_twenty_times() {
    const KILLS: u64 = 20;
    let mut gateway = Gateway::setup().start();
    let mut history = Vec::new();
    let mut cursor: Option<(String, u64)> = None;
    for time in 0..KILLS {
        // The moment of the kill differs each time, by a fixed sequence.
        let until_kill = Duration::from_millis(300 + time * 7919 % 700);
        let (seen, reached) = publish_until_killed(&mut gateway, time, cursor.as_ref(), until_kill);
        history.extend(seen);
        cursor = reached.or(cursor);
        gateway.start_again();
    }
    let (rest_seen, _) = subscribe(&gateway, "steady", cursor.as_ref(), Duration::from_secs(2));
    history.extend(rest_seen);
    let (all_seen, _) = subscribe(&gateway, "late", None, Duration::from_secs(2));
    history.extend(all_seen);

    let acknowledged = history.iter().filter(|op| matches!(op, Op::Acknowledge { .. })).count();
    let faults = judge(&history, &[]);
    measured("SIGKILL while publishing", &format!("{KILLS} times, {acknowledged} acknowledged, {}", summary(&faults)));
    assert!(faults.is_empty(), "nothing acknowledged is lost, nothing is doubled or made up");
    assert!(acknowledged as u64 > KILLS * 20, "there was something to lose");
}

type Cursor = Option<(String, u64)>;

/// Publishes on four connections, with one subscriber that resumes, and kills the gateway after a while.
fn publish_until_killed(gateway: &mut Gateway, time: u64, cursor: Option<&(String, u64)>, until_kill: Duration) -> (Vec<Op>, Cursor) {
    let (mut swarm, mut witness) = connect(gateway, "steady", cursor);
    (0..PUBLISHERS).for_each(|_| swarm.add_publisher().expect("a publisher"));
    let started = Instant::now();
    while started.elapsed() < until_kill {
        for publisher in 0..PUBLISHERS {
            if swarm.unanswered(publisher) < 4 {
                witness.publish(&mut swarm, publisher, &format!("t{time}-"), 200);
            }
        }
        swarm.turn(Duration::from_millis(1), &mut witness).expect("a turn");
    }
    gateway.kill();
    // What was answered before the kill is still in the socket; then the publishers' connections break.
    while swarm.turn(Duration::from_millis(50), &mut witness).is_ok() {
        assert!(started.elapsed() < until_kill + Duration::from_secs(5), "the connections outlive the server");
    }
    assert_eq!(witness.refusals, [], "nothing was refused");
    let reached = witness.reached.get(&0).map(|offset| (witness.epochs[&0].clone(), *offset));
    (witness.history, reached)
}

fn subscribe(gateway: &Gateway, name: &str, cursor: Option<&(String, u64)>, time: Duration) -> (Vec<Op>, Cursor) {
    let (mut swarm, mut witness) = connect(gateway, name, cursor);
    rest(&mut swarm, time, &mut witness).expect("turns");
    (witness.history, None)
}

/// One subscriber called `name`, from its cursor, or from the earliest message.
fn connect(gateway: &Gateway, name: &str, cursor: Option<&(String, u64)>) -> (Swarm, Witness) {
    let since = cursor.map_or(r#""earliest""#.to_owned(), |(epoch, offset)| format!(r#"{{"epoch":"{epoch}","offset":{offset}}}"#));
    let subscribe = format!(r#"{{"type":"subscribe","id":1,"channel":"{{channel}}","since":{since}}}"#);
    let mut witness = Witness::default();
    witness.name(0, name);
    let mut swarm = Swarm::new(Target { subscribe, ..gateway.target(CHANNEL) }).expect("a swarm");
    swarm.add(1, Options::default());
    make_ready(&mut swarm, 1, &mut witness).expect("a subscriber");
    if cursor.is_none() {
        let epoch = witness.epochs[&0].clone();
        witness.history.insert(0, Op::Start { by: name.to_owned(), epoch, offset: 0 });
    }
    (swarm, witness)
}

#[test]
fn a_full_disk_is_an_error_and_never_an_acknowledgement() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(_mount) = Mounted::tmpfs(folder.path(), "size=256m") else {
        return skip("a full disk", "a tmpfs can't be mounted here");
    };
    let mut gateway = Gateway::setup().data(&folder.path().join("data")).start();
    let mut acknowledged = vec![publish(&gateway, 0).expect("the first message")];
    let filler = folder.path().join("filler");
    fill(&filler);

    let (mut refused, started) = (None, Instant::now());
    for number in 1..10_000 {
        match publish(&gateway, number) {
            Ok(offset) => acknowledged.push(offset),
            Err(answer) => {
                refused = Some(answer);
                break;
            }
        }
    }
    let refused = refused.expect("a refusal on a full disk");
    let took = started.elapsed().as_secs_f64();
    let read = gateway.call("GET", &format!("/v1/history?channel={CHANNEL}&limit=1"), "");
    let reads_go_on = read.as_ref().is_ok_and(|(status, _)| *status == 200);
    fs::remove_file(&filler).expect("the filler");
    let mut after = None;
    let healed = wait_until(Duration::from_secs(10), || {
        after = publish(&gateway, 10_001).ok();
        after.is_some()
    });
    acknowledged.extend(after);
    gateway.kill();
    gateway.start_again();
    let kept = offsets(&gateway);
    let lost: Vec<&u64> = acknowledged.iter().filter(|offset| !kept.contains(offset)).collect();
    measured(
        "full disk",
        &format!(
            "refused after {} acknowledged in {took:.1} s ({refused}), reads {reads_go_on}, healed {healed:?}, lost {lost:?}",
            acknowledged.len()
        ),
    );
    assert!(refused.starts_with("503 "), "{refused}");
    assert!(reads_go_on, "reads go on: {read:?}");
    assert!(healed.is_some_and(|time| time <= Duration::from_secs(5)), "it recovers once there is room");
    assert_eq!(lost, [&0; 0], "nothing acknowledged is lost");
}

/// Publishes 16 KiB; its offset, or the refusal as `STATUS BODY`.
fn publish(gateway: &Gateway, number: u32) -> Result<u64, String> {
    let body =
        format!(r#"{{"channel":"{CHANNEL}","message_id":"d{number}","data":{{"id":"d{number}","pad":"{}"}}}}"#, "x".repeat(16 * 1024));
    let (status, body) = gateway.call("POST", "/v1/publish", &body).map_err(|e| format!("no answer: {e}"))?;
    let answer: Value = serde_json::from_str(&body).unwrap_or_default();
    if status == 200 { answer["offset"].as_u64().ok_or(body) } else { Err(format!("{status} {body}")) }
}

/// Every offset that the log holds.
fn offsets(gateway: &Gateway) -> Vec<u64> {
    let mut found = Vec::new();
    let mut query = format!("channel={CHANNEL}&limit=100");
    for _ in 0..1000 {
        let (status, body) = gateway.call("GET", &format!("/v1/history?{query}"), "").expect("an answer");
        assert_eq!(status, 200, "{body}");
        let page: Value = serde_json::from_str(&body).expect("JSON");
        let messages = page["messages"].as_array().cloned().unwrap_or_default();
        found.extend(messages.iter().filter_map(|message| message["offset"].as_u64()));
        let Some(last) = messages.last().and_then(|message| message["offset"].as_u64()) else { return found };
        query = format!("channel={CHANNEL}&limit=100&epoch={}&offset={last}", page["epoch"].as_str().unwrap_or_default());
    }
    found
}

/// Leaves no more than a page of the file system that `path` is on.
fn fill(path: &Path) {
    let _full = Command::new("dd").args(["if=/dev/zero", &format!("of={}", path.display()), "bs=64k"]).output().expect("dd");
    let _rest =
        Command::new("dd").args(["if=/dev/zero", &format!("of={}", path.display()), "bs=1k", "oflag=append", "conv=notrunc"]).output();
}

struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn tmpfs(path: &'a Path, options: &str) -> Option<Self> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(path).output().ok()?;
        mounted.status.success().then_some(Self(path))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        // The gateway may still be ending: lazily, so that nothing stays mounted.
        drop(Command::new("umount").arg("--lazy").arg(self.0).output());
    }
}
