//! SIGKILL in the middle of publishing: what was acknowledged is there afterwards, in order, in the same epoch, once.
//!
//! The test starts its own binary again as the publisher that is killed.

mod broker_support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use broker_support::{PLENTY, data, log_rule, message, name, open, publish, read_all, set, state_rule};
use tidegate::broker::EmbeddedSettings;
use tidegate_core::broker::Broker;
use tidegate_core::message::Since;

const PATH: &str = "TIDEGATE_TEST_KILL_PATH";
const ROUND: &str = "TIDEGATE_TEST_KILL_ROUND";
const PUBLISHERS: usize = 32;

fn settings(path: &Path) -> EmbeddedSettings {
    EmbeddedSettings { segment_bytes: 64 * 1024, ..EmbeddedSettings::fsync(path) }
}

/// Publishes until it is killed, and prints every acknowledgement.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "no test: the publisher that the other test kills"]
async fn process_that_publishes() {
    let (path, round) = (std::env::var(PATH).expect("a folder"), std::env::var(ROUND).expect("a number"));
    let broker = std::sync::Arc::new(open(settings(Path::new(&path))).await);
    let mut tasks = Vec::new();
    for publisher in 0..PUBLISHERS {
        let (broker, round) = (broker.clone(), round.clone());
        tasks.push(tokio::spawn(async move {
            let (rule, state) = (log_rule(1_000_000), state_rule(1000));
            let channel = name(&format!("log:{}", publisher % 4));
            for number in 0u64.. {
                let id = format!("{round}-{publisher}-{number}");
                let padding = "x".repeat((number as usize * 37) % 500);
                let sent = publish(&broker, &rule, message(&channel, Some(&id), format!("{id} {padding}"))).await.expect("published");
                let position = sent.position.expect("a position");
                say(&format!("ack {channel} {} {} {id}\n", position.epoch, position.offset));
                if publisher == 0 {
                    let sent = publish(&broker, &state, set(&name("state"), &format!("{}", number % 10), id)).await.expect("set");
                    let position = sent.position.expect("a position");
                    say(&format!("set {} {} {round}-{number}\n", number % 10, position.offset));
                }
            }
        }));
    }
    for task in tasks {
        task.await.expect("no panic");
    }
}

fn say(line: &str) {
    std::io::stdout().lock().write_all(line.as_bytes()).expect("written");
}

#[derive(Default)]
struct Acknowledged {
    /// channel → offset → id
    logs: BTreeMap<String, BTreeMap<u64, String>>,
    epochs: BTreeMap<String, String>,
    /// key → offset
    state: BTreeMap<String, u64>,
}

impl Acknowledged {
    fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        // The test harness may have begun the line.
        let Some(at) = words.iter().position(|word| word.ends_with("ack") || word.ends_with("set")) else { return };
        match (&words[at], &words[at + 1..]) {
            (kind, [channel, epoch, offset, id]) if kind.ends_with("ack") => {
                let epoch_before = self.epochs.entry((*channel).into()).or_insert_with(|| (*epoch).into());
                assert_eq!(epoch_before, epoch, "the epoch of {channel} changed");
                let before = self.logs.entry((*channel).into()).or_default().insert(offset.parse().expect("a number"), (*id).into());
                assert!(before.is_none(), "offset {offset} of {channel} was given to {before:?} and to {id}");
            }
            (kind, [key, offset, _]) if kind.ends_with("set") => {
                let before = self.state.insert((*key).into(), offset.parse().expect("a number"));
                assert!(before < self.state.get(*key).copied());
            }
            // A line that the kill cut short.
            _ => {}
        }
    }
}

async fn check(path: &Path, acknowledged: &Acknowledged) {
    let broker = open(settings(path)).await;
    let rule = log_rule(1_000_000);
    for (channel, acks) in &acknowledged.logs {
        let channel = name(channel);
        let (page, all) = read_all(&broker, &rule, &channel, Since::Earliest, PLENTY).await.expect("history");
        assert_eq!(page.top.epoch.to_string(), acknowledged.epochs[channel.as_str()]);
        let offsets: Vec<u64> = all.iter().map(|message| message.offset()).collect();
        assert_eq!(offsets, (1..=all.len() as u64).collect::<Vec<_>>(), "{channel} is dense");
        let ids: std::collections::HashSet<_> = all.iter().map(|message| message.id.as_deref().expect("an id")).collect();
        assert_eq!(ids.len(), all.len(), "no message of {channel} is there twice");
        for (offset, id) in acks {
            let found = all.get(*offset as usize - 1).unwrap_or_else(|| panic!("{channel} {offset} was acknowledged and is gone"));
            assert_eq!(found.id.as_deref(), Some(&**id), "{channel} {offset}");
            assert!(data(found).starts_with(id.as_bytes()));
        }
        // What was acknowledged last is recognised when it is repeated.
        if let Some((&offset, id)) = acks.last_key_value() {
            let again = publish(&broker, &rule, message(&channel, Some(id), "again")).await.expect("published");
            assert!(again.duplicate && again.position.is_some_and(|position| position.offset == offset), "{again:?}");
        }
    }
    let snapshot = broker.snapshot(&state_rule(1000), &name("state")).await.expect("a snapshot");
    for (key, &offset) in &acknowledged.state {
        let entry = snapshot.entries.iter().find(|entry| entry.key.as_deref() == Some(key)).expect("the key is there");
        assert!(entry.offset() >= offset, "key {key} went back from {offset} to {}", entry.offset());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_sigkill_twenty_times() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log");
    let mut acknowledged = Acknowledged::default();
    for round in 0..20u64 {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["process_that_publishes", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env(PATH, &path)
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let reader = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
        std::thread::sleep(Duration::from_millis(150 + round * 67 % 211));
        child.kill().expect("SIGKILL");
        child.wait().expect("ended");
        for line in reader.join().expect("no panic") {
            acknowledged.line(&line);
        }
        check(&path, &acknowledged).await;
    }
    let count: usize = acknowledged.logs.values().map(BTreeMap::len).sum();
    assert!(count > 500, "only {count} messages were acknowledged in all");
    println!("{count} messages acknowledged over 20 kills");
}
