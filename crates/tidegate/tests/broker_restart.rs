//! The log of the embedded broker over restarts: clean ones, torn ones, damaged ones, lost ones, and two at once.

mod broker_support;

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use broker_support::{PLENTY, data, delete, log_rule, message, name, open, publish, read_all, reopen, set, state_rule};
use tidegate::broker::embedded::{Clock, OpenError};
use tidegate::broker::{Embedded, EmbeddedSettings};
use tidegate_core::broker::{Broker, HistoryError, PageLimit};
use tidegate_core::message::{Publish, Since};
use tidegate_core::{Body, ChannelRule, MessageId, Position, Retention};

fn settings(path: &Path) -> EmbeddedSettings {
    EmbeddedSettings { segment_bytes: 16 * 1024, ..EmbeddedSettings::fsync(path) }
}

fn clock() -> (Arc<AtomicU64>, Clock) {
    let now = Arc::new(AtomicU64::new(1_700_000_000_000));
    let read = now.clone();
    (now, Clock::new(move || read.load(Ordering::Relaxed)))
}

fn segments(path: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(path).expect("a directory").map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    paths.sort();
    paths
}

async fn fill(broker: &Embedded, rule: &ChannelRule, channel: &str, count: u64) -> Vec<Position> {
    let mut positions = Vec::new();
    for number in 0..count {
        let sent = publish(broker, rule, message(&name(channel), None, format!("{channel} {number}"))).await.expect("published");
        positions.push(sent.position.expect("a position"));
    }
    positions
}

#[tokio::test]
async fn a_restart_goes_on_where_it_was() {
    let directory = tempfile::tempdir().expect("a directory");
    let (rule, state) = (log_rule(1000), state_rule(1000));
    let mut broker = open(settings(directory.path())).await;
    let mut before = None;
    for round in 0..4u64 {
        let positions = fill(&broker, &rule, "log", 50).await;
        assert_eq!(positions[0].offset, round * 50 + 1, "dense over restarts");
        assert!(before.is_none_or(|epoch| epoch == positions[0].epoch), "the same epoch");
        before = Some(positions[0].epoch);
        for key in 0..20 {
            publish(&broker, &state, set(&name("state"), &format!("k{key}"), format!("{round}"))).await.expect("set");
        }
        publish(&broker, &state, delete(&name("state"), &format!("k{round}"))).await.expect("deleted");
        let snapshot = broker.snapshot(&state, &name("state")).await.expect("snapshot");
        broker = reopen(broker, settings(directory.path())).await;
        let (page, all) = read_all(&broker, &rule, &name("log"), Since::Earliest, PLENTY).await.expect("history");
        assert_eq!(page.top, positions[49]);
        assert_eq!(all.len() as u64, (round + 1) * 50);
        let again = broker.snapshot(&state, &name("state")).await.expect("snapshot");
        assert_eq!(again.position, snapshot.position);
        let entries = |snapshot: &tidegate_core::broker::Snapshot| -> Vec<_> {
            snapshot.entries.iter().map(|entry| (entry.offset(), entry.key.clone(), entry.body.clone())).collect()
        };
        assert_eq!(entries(&again), entries(&snapshot));
        assert!(again.entries.iter().all(|entry| entry.key.as_deref() != Some(&format!("k{round}"))));
    }
}

#[tokio::test]
async fn ids_and_deletions_are_remembered_over_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let (now, clock) = clock();
    let settings = EmbeddedSettings { clock, ..settings(directory.path()) };
    let (rule, state) = (log_rule(1000), state_rule(1000));
    let broker = open(settings.clone()).await;
    let first = publish(&broker, &rule, message(&name("a"), Some("m"), "1")).await.expect("published");
    publish(&broker, &state, set(&name("s"), "k", "1")).await.expect("set");
    let cursor = publish(&broker, &state, set(&name("s"), "l", "2")).await.expect("set").position.expect("a position");
    publish(&broker, &state, delete(&name("s"), "k")).await.expect("deleted");
    let broker = reopen(broker, settings.clone()).await;
    let again = publish(&broker, &rule, message(&name("a"), Some("m"), "1")).await.expect("published");
    assert!(again.duplicate);
    assert_eq!(again.position, first.position);
    let delta = broker.history(&state, &name("s"), Since::Position(cursor), PLENTY).await.expect("delta");
    assert_eq!(
        delta.messages.iter().map(|entry| (entry.key.as_deref(), entry.body.clone())).collect::<Vec<_>>(),
        [(Some("k"), Body::Deleted)]
    );

    // When both have become too old, the id is new again, and the delta says that it can't be had: also after another restart.
    now.fetch_add(3_600_001, Ordering::Relaxed);
    assert!(!publish(&broker, &rule, message(&name("a"), Some("m"), "1")).await.expect("published").duplicate);
    publish(&broker, &state, set(&name("s"), "n", "3")).await.expect("set");
    for _ in 0..2 {
        let delta = broker.history(&state, &name("s"), Since::Position(cursor), PLENTY).await;
        assert!(matches!(delta, Err(HistoryError::Retention { .. })), "{delta:?}");
        publish(&broker, &state, set(&name("s"), "n", "3")).await.expect("set");
    }
    let broker = reopen(broker, settings).await;
    let delta = broker.history(&state, &name("s"), Since::Position(cursor), PLENTY).await;
    assert!(matches!(delta, Err(HistoryError::Retention { .. })), "{delta:?}");
}

/// Messages whose publishers gave no id push no id out that a publisher gave, before a restart and after it.
#[tokio::test]
async fn drawn_ids_take_no_room_from_given_ones() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = EmbeddedSettings { dedup_messages: 10, ..settings(directory.path()) };
    let rule = log_rule(1000);
    let mut broker = open(settings.clone()).await;
    let first = publish(&broker, &rule, message(&name("a"), Some("mine"), "1")).await.expect("published");
    let drawn = |number: u32| MessageId::drawn(format!("{number:026}").as_bytes().try_into().expect("26 bytes"));
    for round in 0..2 {
        for number in 0..50 {
            let publish_id = Publish { message_id: Some(drawn(round * 50 + number)), ..message(&name("a"), None, "2") };
            assert!(!publish(&broker, &rule, publish_id).await.expect("published").duplicate);
        }
        let again = publish(&broker, &rule, message(&name("a"), Some("mine"), "1")).await.expect("published");
        assert_eq!((again.duplicate, again.position), (true, first.position));
        broker = reopen(broker, settings.clone()).await;
    }
    let again = publish(&broker, &rule, message(&name("a"), Some("mine"), "1")).await.expect("published");
    assert!(again.duplicate);
    // It was no publisher's id until now.
    let passed_on = message(&name("a"), Some(&drawn(7)), "3");
    assert!(!publish(&broker, &rule, passed_on.clone()).await.expect("published").duplicate);
    assert!(publish(&broker, &rule, passed_on).await.expect("published").duplicate);
    let (_, all) = read_all(&broker, &rule, &name("a"), Since::Earliest, PLENTY).await.expect("history");
    assert_eq!(all.iter().filter(|message| message.id.as_deref() == Some(&*drawn(7))).count(), 2);
}

#[tokio::test]
async fn whatever_is_torn_off_the_end_leaves_a_whole_beginning() {
    let directory = tempfile::tempdir().expect("a directory");
    let rule = log_rule(10_000);
    let path = directory.path().join("log");
    let broker = open(EmbeddedSettings::fsync(&path)).await;
    let positions = fill(&broker, &rule, "a", 20).await;
    drop(broker);
    let file = segments(&path)[0].clone();
    let whole = fs::read(&file).expect("read");
    let step = whole.len() / 97 + 1;
    for cut in (0..whole.len()).step_by(step) {
        // A torn write is a short file, or one whose end never reached the disk and reads as zeros.
        for zeros in [false, true] {
            let mut torn = whole[..cut].to_vec();
            if zeros {
                torn.resize(whole.len(), 0);
                // The length of the file is not known to have been synced either: only a torn last batch is a torn write.
                if cut < 37 {
                    continue;
                }
            }
            fs::write(&file, &torn).expect("written");
            let broker = open(EmbeddedSettings::fsync(&path)).await;
            let (page, all) = read_all(&broker, &rule, &name("a"), Since::Earliest, PLENTY).await.expect("history");
            assert_eq!(all.iter().map(|message| message.offset()).collect::<Vec<_>>(), (1..=all.len() as u64).collect::<Vec<_>>());
            let next = fill(&broker, &rule, "a", 1).await[0];
            assert_eq!(next.offset, page.top.offset + 1);
            assert_eq!(next.epoch == positions[0].epoch, cut >= 36, "a log whose first bytes are gone is another");
        }
    }
}

#[tokio::test]
async fn damage_before_the_end_is_said_and_not_opened_over() {
    let directory = tempfile::tempdir().expect("a directory");
    let rule = log_rule(10_000);
    let broker = open(settings(directory.path())).await;
    fill(&broker, &rule, "a", 500).await;
    drop(broker);
    let files = segments(directory.path());
    assert!(files.len() > 2, "several segments");
    for (file, at) in [(&files[0], 10), (&files[0], 300), (&files[1], 5000), (&files[files.len() - 1], 100)] {
        let before = fs::read(file).expect("read");
        let mut damaged = OpenOptions::new().write(true).open(file).expect("opened");
        damaged.seek(SeekFrom::Start(at)).expect("sought");
        damaged.write_all(&[before[at as usize] ^ 0x10]).expect("written");
        drop(damaged);
        let error = Embedded::open(settings(directory.path())).expect_err("refused");
        assert!(matches!(&error, OpenError::Damaged { file: named, .. } if named == file), "{error}");
        fs::write(file, before).expect("restored");
    }
    fs::rename(&files[1], directory.path().join("away")).expect("renamed");
    assert!(matches!(Embedded::open(settings(directory.path())), Err(OpenError::Damaged { .. })));
    fs::rename(directory.path().join("away"), &files[1]).expect("renamed");
    let broker = open(settings(directory.path())).await;
    assert_eq!(read_all(&broker, &rule, &name("a"), Since::Earliest, PLENTY).await.expect("history").1.len(), 500);
}

#[tokio::test]
async fn a_lost_directory_is_another_epoch() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("deep/log");
    let rule = log_rule(100);
    let broker = open(settings(&path)).await;
    let before = fill(&broker, &rule, "a", 3).await;
    drop(broker);
    fs::remove_dir_all(&path).expect("removed");
    let broker = open(settings(&path)).await;
    let lost = broker.history(&rule, &name("a"), Since::Position(before[2]), PLENTY).await;
    assert!(matches!(lost, Err(HistoryError::Epoch { .. })), "{lost:?}");
    assert_ne!(fill(&broker, &rule, "a", 1).await[0].epoch, before[0].epoch);
}

#[tokio::test]
async fn a_second_opener_is_refused_by_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = open(settings(directory.path())).await;
    let error = Embedded::open(settings(directory.path())).expect_err("refused");
    assert!(matches!(error, OpenError::Locked { .. }));
    assert!(error.to_string().contains(&directory.path().display().to_string()), "{error}");
    drop(broker);
    open(settings(directory.path())).await;
}

/// Messages that are moved out of old segments, again and again, keep their offsets, and a restart finds them all.
#[tokio::test]
async fn what_is_kept_survives_the_cleaning_of_old_segments() {
    let directory = tempfile::tempdir().expect("a directory");
    let (keep, busy, state) = (log_rule(1000), log_rule(10), state_rule(1000));
    let mut broker = open(settings(directory.path())).await;
    let kept = fill(&broker, &keep, "kept", 70).await;
    for key in 0..30 {
        publish(&broker, &state, set(&name("state"), &format!("k{key}"), format!("v{key}"))).await.expect("set");
    }
    publish(&broker, &state, delete(&name("state"), "k7")).await.expect("deleted");
    for round in 0..6 {
        for _ in 0..40 {
            fill(&broker, &busy, "busy", 20).await;
        }
        fill(&broker, &keep, "kept", 1).await;
        let (_, all) = read_all(&broker, &keep, &name("kept"), Since::Earliest, PLENTY).await.expect("history");
        assert_eq!(all.len(), 71 + round);
        let (_, busy) = read_all(&broker, &busy, &name("busy"), Since::Earliest, PLENTY).await.expect("history");
        assert_eq!(busy.len(), 10);
        broker = reopen(broker, settings(directory.path())).await;
        let (_, all) = read_all(&broker, &keep, &name("kept"), Since::Earliest, PLENTY).await.expect("history");
        assert_eq!(all.iter().map(|message| message.offset()).collect::<Vec<_>>(), (1..=71 + round as u64).collect::<Vec<_>>());
        assert_eq!(data(&all[69]), b"kept 69");
        assert_eq!(all[0].position, Some(kept[0]));
        let snapshot = broker.snapshot(&state, &name("state")).await.expect("snapshot");
        assert_eq!(snapshot.entries.len(), 29);
        assert!(snapshot.entries.iter().all(|entry| entry.key.as_deref() != Some("k7")));
    }
    assert!(segments(directory.path())[0] > directory.path().join("0000000003.log"), "old segments went");
    let size: u64 = segments(directory.path()).iter().map(|path| path.metadata().expect("there").len()).sum();
    assert!(size < 200_000, "{size} bytes for what takes 15,000");
}

#[tokio::test]
async fn age_is_exact_from_disk_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let (now, clock) = clock();
    let settings = EmbeddedSettings { clock, ..settings(directory.path()) };
    let age = Duration::from_secs(60);
    let rule = ChannelRule { retention: Retention { age, ..log_rule(1000).retention }, ..log_rule(1000) };
    let broker = open(settings.clone()).await;
    let mut positions = Vec::new();
    for _ in 0..100 {
        now.fetch_add(1000, Ordering::Relaxed);
        positions.extend(fill(&broker, &rule, "a", 1).await);
    }
    // A message is kept while it is at most a minute old: those of the last 61 seconds, both ends counted.
    let broker = reopen(broker, settings).await;
    let small = PageLimit { messages: 7, bytes: 1 << 20 };
    for (later_s, first) in [(0, 40), (5, 45), (30, 70), (60, 100)] {
        now.store(1_700_000_000_000 + 100_000 + later_s * 1000, Ordering::Relaxed);
        let (page, all) = read_all(&broker, &rule, &name("a"), Since::Earliest, small).await.expect("history");
        assert_eq!(page.start.offset, first - 1);
        assert_eq!(all.len() as u64, 100 - first + 1);
        let edge = broker.history(&rule, &name("a"), Since::Position(positions[first as usize - 2]), small).await;
        assert!(edge.is_ok(), "exactly at the edge: {edge:?}");
        let past = broker.history(&rule, &name("a"), Since::Position(positions[first as usize - 5]), small).await;
        assert!(matches!(past, Err(HistoryError::Retention { missed: Some(3), .. })), "{past:?}");
    }
    now.fetch_add(1001, Ordering::Relaxed);
    let (page, all) = read_all(&broker, &rule, &name("a"), Since::Earliest, small).await.expect("history");
    assert!(all.is_empty() && page.start == positions[99], "all too old, and the position stays");
}
