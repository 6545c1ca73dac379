//! A disk that is full, and then isn't: publishes are refused, reads go on, nothing unacknowledged is delivered, and it recovers.
//!
//! Needs the right to mount a tmpfs; where it has not, that is among what `./test` lists as not run.

mod broker_support;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use broker_support::{PLENTY, log_rule, message, name, open, publish, read_all, reopen};
use tidegate::broker::EmbeddedSettings;
use tidegate_core::broker::contract::Collector;
use tidegate_core::broker::{Broker, BrokerError};
use tidegate_core::message::Since;

/// A small file system of its own, unmounted at the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]).arg(directory.path()).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(directory));
        }
        skip("a full disk", "mounting a tmpfs is not permitted");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Puts it on the list of what did not run. Who runs the tests without such a list is not to believe that it did.
fn skip(what: &str, why: &str) {
    let list = std::env::var("TIDEGATE_SKIPPED_TESTS").unwrap_or_else(|_| panic!("{what} can't be tested: {why}"));
    let mut list = OpenOptions::new().create(true).append(true).open(list).expect("the list of skipped tests");
    writeln!(list, "{what}: {why}").expect("written");
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0.path()).status().ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_and_recovers() {
    let Some(disk) = SmallDisk::mount("4M") else { return };
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![1; 2 << 20]).expect("written");
    let settings = EmbeddedSettings { segment_bytes: 256 * 1024, ..EmbeddedSettings::fsync(disk.path().join("log")) };
    let broker = open(settings.clone()).await;
    let sink = Arc::new(Collector::default());
    broker.attach(sink.clone());
    let (rule, channel) = (log_rule(1_000_000), name("a"));
    broker.subscribe(&rule, &channel).await.expect("subscribed");

    let mut acknowledged = Vec::new();
    let publish_until = |refused_wanted: usize| {
        let (broker, rule, channel) = (&broker, &rule, &channel);
        async move {
            let (mut sent, mut refused) = (Vec::new(), 0);
            for number in 0..100_000u32 {
                // Sizes differ, so that the last byte of the disk falls anywhere in a batch.
                let text = format!("{number} {}", "y".repeat((number as usize * 101) % 3000));
                match publish(broker, rule, message(channel, Some(&format!("i{number}")), text)).await {
                    Ok(published) => sent.push(published.position.expect("a position").offset),
                    Err(BrokerError::Unavailable(why)) => {
                        assert!(why.contains("No space left"), "{why}");
                        refused += 1;
                        if refused == refused_wanted {
                            break;
                        }
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            (sent, refused)
        }
    };
    let (sent, refused) = publish_until(20).await;
    assert_eq!(refused, 20, "the disk never got full");
    acknowledged.extend(sent);
    assert_eq!(acknowledged, (1..=acknowledged.len() as u64).collect::<Vec<_>>());

    let (_, all) = read_all(&broker, &rule, &channel, Since::Earliest, PLENTY).await.expect("reads go on");
    assert_eq!(all.len(), acknowledged.len());
    assert_eq!(sink.on(&channel).len(), acknowledged.len(), "only what was acknowledged was delivered");

    std::fs::remove_file(&ballast).expect("removed");
    let start = Instant::now();
    let again = publish(&broker, &rule, message(&channel, Some("after"), "after")).await.expect("recovered");
    assert!(start.elapsed() < Duration::from_secs(5), "took {:?}", start.elapsed());
    assert_eq!(again.position.expect("a position").offset, acknowledged.len() as u64 + 1, "refused messages took no offset");
    assert!(!again.duplicate);

    let broker = reopen(broker, settings).await;
    let (_, all) = read_all(&broker, &rule, &channel, Since::Earliest, PLENTY).await.expect("history");
    assert_eq!(all.len(), acknowledged.len() + 1);
    let repeated = publish(&broker, &rule, message(&channel, Some("after"), "after")).await.expect("published");
    assert!(repeated.duplicate);
}

/// Messages of one sequence that are under way while the disk is full for a moment: what is kept of them is a beginning, without a
/// hole, so that sending again from the first that failed keeps the order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sequence_over_a_full_disk_has_no_hole() {
    let Some(disk) = SmallDisk::mount("4M") else { return };
    let ballast = disk.path().join("ballast");
    let settings = EmbeddedSettings { segment_bytes: 256 * 1024, ..EmbeddedSettings::fsync(disk.path().join("log")) };
    let broker = Arc::new(open(settings).await);
    let (rule, channel) = (log_rule(1_000_000), name("a"));
    let mut broken = 0;
    for round in 0..20 {
        // Room for some of them; then, while the rest is on its way, for all.
        let left = 150_000 + round * 1000;
        let used = broker.stats().disk_bytes.load(std::sync::atomic::Ordering::Relaxed) as usize;
        std::fs::write(&ballast, vec![1; (4usize << 20).saturating_sub(used + left)]).ok();
        let sequence = Arc::default();
        let pieces: Vec<_> = (0..400u32)
            .step_by(4)
            .map(|first| {
                let (broker, rule, sequence) = (broker.clone(), rule.clone(), Arc::clone(&sequence));
                let publish = |number| {
                    let text = format!("{round} {number} {}", "y".repeat(1000));
                    message(&channel, Some(&format!("{round}.{number}")), text)
                };
                let piece = (first..first + 4).map(publish).collect();
                let mut sent = Box::pin(async move { broker.publish_all(&sequence, &rule, piece).await });
                // Begun here, so that they stand in line in their order.
                let first = sent.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                async move { if let Poll::Ready(answers) = first { answers } else { sent.await } }
            })
            .map(tokio::spawn)
            .collect();
        tokio::time::sleep(Duration::from_millis(round as u64 % 5)).await;
        std::fs::remove_file(&ballast).ok();
        let mut answers = Vec::new();
        for piece in pieces {
            answers.extend(piece.await.expect("no panic"));
        }
        let mut failed = None;
        for (number, answer) in answers.into_iter().enumerate() {
            assert!(failed.is_none() || answer.is_err(), "{number} was kept after {failed:?} was not");
            if answer.is_err() {
                failed.get_or_insert(number);
            }
        }
        broken += usize::from(failed.is_some());
        // Sent again from there, with other ids where nothing was kept and the same where it was: all of them, in order.
        for number in failed.unwrap_or(400)..400 {
            let text = format!("{round} {number} {}", "y".repeat(10));
            let again = publish(&broker, &rule, message(&channel, Some(&format!("{round}.{number}")), text)).await.expect("published");
            assert!(!again.duplicate, "what was refused is not kept");
        }
        if broken >= 3 {
            break;
        }
    }
    assert!(broken > 0, "the disk was never full in the middle");
    let (_, all) = read_all(&broker, &rule, &channel, Since::Earliest, PLENTY).await.expect("history");
    let numbers: Vec<(u32, u32)> = all
        .iter()
        .map(|message| {
            let text = std::str::from_utf8(broker_support::data(message)).expect("text");
            let mut words = text.split(' ').map(|word| word.parse().unwrap_or(0));
            (words.next().unwrap_or(0), words.next().unwrap_or(0))
        })
        .collect();
    assert!(numbers.is_sorted(), "in order across the failures");
}

/// What retention has let go of is given back even while the disk is full.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_cleaned_of_what_is_not_needed() {
    let Some(disk) = SmallDisk::mount("3M") else { return };
    let settings = EmbeddedSettings { segment_bytes: 1024 * 1024, ..EmbeddedSettings::fsync(disk.path().join("log")) };
    let broker = open(settings).await;
    let (rule, channel) = (log_rule(20), name("a"));
    let mut longest = Duration::ZERO;
    let mut failing: Option<Instant> = None;
    for number in 0..6000u32 {
        // 6 MB in all, of which 20 KB are kept.
        match publish(&broker, &rule, message(&channel, None, format!("{number} {}", "z".repeat(1000)))).await {
            Ok(_) => longest = longest.max(failing.take().map_or(Duration::ZERO, |since| since.elapsed())),
            Err(BrokerError::Unavailable(_)) => {
                failing.get_or_insert_with(Instant::now);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(failing.is_none() && longest < Duration::from_secs(5), "longest outage {longest:?}");
}
