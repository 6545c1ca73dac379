//! The embedded broker against a simple model of it: random publishes, deletions, repeats, clock steps, reads and restarts.

mod broker_support;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use broker_support::{data, delete, message, name, set};
use proptest::prelude::*;
use tidegate::broker::embedded::Clock;
use tidegate::broker::{Embedded, EmbeddedSettings};
use tidegate_core::broker::{Broker, BrokerError, HistoryError, PageLimit, contract};
use tidegate_core::message::Since;
use tidegate_core::{ChannelKind, ChannelRule, Epoch, Position, Retention};

const KEEP: u64 = 40;
const AGE_MS: u64 = 10_000;
const WINDOW_MS: u64 = 4_000;

#[derive(Clone, Debug)]
enum Step {
    Publish { channel: u8, count: u8, id: Option<u8> },
    Set { key: u8, size: u8 },
    Delete { key: u8 },
    Wait { ms: u16 },
    Read { channel: u8, back: u8, messages: u8 },
    Delta { back: u8, messages: u8 },
    Snapshot,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..3, 1u8..50, proptest::option::of(0u8..6)).prop_map(|(channel, count, id)| Step::Publish { channel, count, id }),
        6 => (0u8..12, 0u8..255).prop_map(|(key, size)| Step::Set { key, size }),
        3 => (0u8..12).prop_map(|key| Step::Delete { key }),
        2 => (1u16..6_000).prop_map(|ms| Step::Wait { ms }),
        5 => (0u8..3, 0u8..70, 1u8..60).prop_map(|(channel, back, messages)| Step::Read { channel, back, messages }),
        3 => (0u8..40, 1u8..20).prop_map(|(back, messages)| Step::Delta { back, messages }),
        2 => Just(Step::Snapshot),
        1 => Just(Step::Restart),
    ]
}

/// What a log is: its messages with their times; dropped ones leave `first` behind.
#[derive(Default)]
struct LogModel {
    messages: BTreeMap<u64, (u64, String)>,
    top: u64,
    ids: HashMap<u8, (u64, u64)>,
    top_at_restart: u64,
}

#[derive(Default)]
struct Model {
    logs: [LogModel; 3],
    table: BTreeMap<String, (u64, u64, Option<String>)>,
    state_top: u64,
    floor: u64,
    epochs: HashMap<String, Epoch>,
}

impl LogModel {
    fn first(&self) -> u64 {
        self.messages.first_key_value().map_or(self.top + 1, |(&offset, _)| offset)
    }

    fn expire(&mut self, now: u64) {
        let first = (self.top + 1).saturating_sub(KEEP);
        self.messages.retain(|&offset, (time, _)| offset >= first && *time >= now - AGE_MS);
    }
}

impl Model {
    fn expire_table(&mut self, now: u64) {
        let mut deletions: Vec<_> =
            self.table.iter().filter(|(_, entry)| entry.2.is_none()).map(|(key, entry)| (entry.0, entry.1, key.clone())).collect();
        deletions.sort();
        let excess = deletions.len().saturating_sub(KEEP as usize);
        for (index, (offset, time, key)) in deletions.into_iter().enumerate() {
            if index < excess || time < now - AGE_MS {
                self.table.remove(&key);
                self.floor = self.floor.max(offset);
            }
        }
    }

    fn epoch(&mut self, channel: &str, position: Position) {
        assert_eq!(*self.epochs.entry(channel.into()).or_insert(position.epoch), position.epoch, "the epoch of {channel}");
    }
}

fn rule(kind: ChannelKind) -> ChannelRule {
    let retention = Retention { messages: KEEP, age: Duration::from_millis(AGE_MS), bytes: 1 << 30 };
    ChannelRule { retention, ..contract::rule(kind) }
}

struct Run {
    broker: Option<Embedded>,
    settings: EmbeddedSettings,
    now: Arc<AtomicU64>,
    model: Model,
    counter: u64,
}

impl Run {
    fn broker(&self) -> &Embedded {
        self.broker.as_ref().expect("open")
    }

    async fn step(&mut self, step: &Step) {
        let now = self.now.load(Ordering::Relaxed);
        match *step {
            Step::Publish { channel, count, id } => {
                for nth in 0..count {
                    self.publish(channel, id.filter(|_| nth == 0), now).await;
                }
            }
            Step::Set { key, size } => self.set(key, Some("x".repeat(usize::from(size))), now).await,
            Step::Delete { key } => self.set(key, None, now).await,
            Step::Wait { ms } => drop(self.now.fetch_add(u64::from(ms), Ordering::Relaxed)),
            Step::Read { channel, back, messages } => self.read(channel, back, messages, now).await,
            Step::Delta { back, messages } => self.delta(back, messages, now).await,
            Step::Snapshot => self.snapshot(now).await,
            Step::Restart => {
                if self.settings.path.is_some() {
                    self.broker = None;
                    self.model.logs.iter_mut().for_each(|log| log.top_at_restart = log.top);
                    self.broker = Some(Embedded::open(self.settings.clone()).expect("opens again"));
                }
            }
        }
    }

    async fn publish(&mut self, channel: u8, id: Option<u8>, now: u64) {
        self.counter += 1;
        let text = format!("message {}", self.counter);
        let id_text = id.map(|id| format!("id{id}"));
        let channel_name = name(&format!("log:{channel}"));
        let request = message(&channel_name, id_text.as_deref(), text.clone());
        let sent = self.broker().publish(&rule(ChannelKind::Log), request).await.expect("published");
        let position = sent.position.expect("a position");
        self.model.epoch(channel_name.as_str(), position);
        let log = &mut self.model.logs[usize::from(channel)];
        let mut known = id.and_then(|id| log.ids.get(&id)).filter(|(_, time)| *time >= now - WINDOW_MS);
        if known.is_some_and(|&(offset, _)| offset < log.first() && offset <= log.top_at_restart) && !sent.duplicate {
            // A restart remembers the ids of what is kept, and of as much more as happens to be on disk.
            known = None;
        }
        assert_eq!(sent.duplicate, known.is_some(), "{channel_name} {id:?}");
        if let Some((offset, _)) = known {
            assert_eq!(position.offset, *offset);
            return;
        }
        log.top += 1;
        assert_eq!(position.offset, log.top, "dense");
        log.messages.insert(log.top, (now, text));
        if let Some(id) = id {
            log.ids.insert(id, (log.top, now));
        }
        log.expire(now);
    }

    async fn set(&mut self, key: u8, value: Option<String>, now: u64) {
        let (channel, key) = (name("state"), format!("key{key}"));
        let request = value.as_ref().map_or_else(|| delete(&channel, &key), |value| set(&channel, &key, value.clone()));
        let sent = self.broker().publish(&rule(ChannelKind::State), request).await.expect("published");
        let position = sent.position.expect("a position");
        self.model.epoch("state", position);
        self.model.expire_table(now);
        self.model.state_top += 1;
        assert_eq!(position.offset, self.model.state_top);
        self.model.table.insert(key, (position.offset, now, value));
        self.model.expire_table(now);
    }

    async fn read(&mut self, channel: u8, back: u8, messages: u8, now: u64) {
        let log = &mut self.model.logs[usize::from(channel)];
        log.expire(now);
        let channel_name = name(&format!("log:{channel}"));
        let Some(&epoch) = self.model.epochs.get(channel_name.as_str()) else { return };
        let since = log.top.saturating_sub(u64::from(back));
        let limit = PageLimit { messages: usize::from(messages), bytes: 1 << 20 };
        let (rule, since_position) = (rule(ChannelKind::Log), Since::Position(Position { epoch, offset: since }));
        let read = self.broker.as_ref().expect("open").history(&rule, &channel_name, since_position, limit);
        let oldest = log.first() - 1;
        match read.await {
            Ok(page) => {
                assert!(since >= oldest, "a page since {since}, and {oldest} is the oldest");
                let found: Vec<_> = page.messages.iter().map(|found| (found.offset(), data(found).to_vec())).collect();
                let expected: Vec<_> = log
                    .messages
                    .range(since + 1..)
                    .take(usize::from(messages))
                    .map(|(&offset, (_, text))| (offset, text.clone().into_bytes()))
                    .collect();
                assert_eq!(found, expected);
                assert_eq!(page.top.offset, log.top);
                assert_eq!(page.more, since + (page.messages.len() as u64) < log.top);
            }
            Err(HistoryError::Retention { oldest: told, top, missed }) => {
                assert_eq!((told.offset, top.offset, missed), (oldest, log.top, Some(oldest - since)));
            }
            Err(error) => panic!("{error}"),
        }
    }

    async fn delta(&mut self, back: u8, messages: u8, now: u64) {
        self.model.expire_table(now);
        let Some(&epoch) = self.model.epochs.get("state") else { return };
        let offset = self.model.state_top.saturating_sub(u64::from(back));
        let limit = PageLimit { messages: usize::from(messages), bytes: 1 << 20 };
        let since = Since::Position(Position { epoch, offset });
        match self.broker().history(&rule(ChannelKind::State), &name("state"), since, limit).await {
            Ok(page) => {
                assert!(offset >= self.model.floor, "a delta since {offset}, and {} is the floor", self.model.floor);
                let mut expected: Vec<_> = self.model.table.iter().filter(|(_, entry)| entry.0 > offset).collect();
                expected.sort_by_key(|(_, entry)| entry.0);
                assert_eq!(page.more, expected.len() > usize::from(messages));
                expected.truncate(usize::from(messages));
                let expected: Vec<_> = expected
                    .into_iter()
                    .map(|(key, entry)| (entry.0, key.as_str(), entry.2.clone().unwrap_or_else(|| "(deleted)".into()).into_bytes()))
                    .collect();
                let found: Vec<_> = page
                    .messages
                    .iter()
                    .map(|found| (found.offset(), found.key.as_deref().expect("a key"), data(found).to_vec()))
                    .collect();
                assert_eq!(found, expected);
            }
            Err(HistoryError::Retention { oldest, .. }) => {
                assert_eq!(oldest.offset, self.model.floor);
                assert!(offset < self.model.floor);
            }
            Err(error) => panic!("{error}"),
        }
    }

    async fn snapshot(&mut self, now: u64) {
        self.model.expire_table(now);
        let snapshot = self.broker().snapshot(&rule(ChannelKind::State), &name("state")).await.expect("a snapshot");
        assert_eq!(snapshot.position.offset, self.model.state_top);
        let mut expected: Vec<_> =
            self.model.table.iter().filter_map(|(key, entry)| Some((entry.0, key.clone(), entry.2.clone()?.into_bytes()))).collect();
        expected.sort();
        let found: Vec<_> = snapshot
            .entries
            .iter()
            .map(|found| (found.offset(), found.key.as_deref().expect("a key").to_owned(), data(found).to_vec()))
            .collect();
        assert_eq!(found, expected);
    }
}

fn run(steps: &[Step], mut settings: EmbeddedSettings) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let now = Arc::new(AtomicU64::new(1_000_000));
    let read = now.clone();
    settings.clock = Clock::new(move || read.load(Ordering::Relaxed));
    settings.dedup_window = Duration::from_millis(WINDOW_MS);
    let broker = Some(Embedded::open(settings.clone()).expect("opens"));
    let mut run = Run { broker, settings, now, model: Model::default(), counter: 0 };
    runtime.block_on(async {
        for step in steps {
            run.step(step).await;
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn in_memory(steps in proptest::collection::vec(step(), 1..60)) {
        run(&steps, EmbeddedSettings::default());
    }

    #[test]
    fn on_disk_and_cached(steps in proptest::collection::vec(step(), 1..40)) {
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory");
        run(&steps, EmbeddedSettings { segment_bytes: 4096, ..EmbeddedSettings::fsync(directory.path()) });
    }

    /// No cache: all is read from small segments, which are cleaned all the time.
    #[test]
    fn on_disk_alone(steps in proptest::collection::vec(step(), 1..150)) {
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory");
        run(&steps, EmbeddedSettings { segment_bytes: 4096, memory_bytes: 16_000, ..EmbeddedSettings::fsync(directory.path()) });
    }
}

#[tokio::test]
async fn a_state_channel_has_so_many_keys() {
    let broker = broker_support::open(EmbeddedSettings::default()).await;
    let (rule, channel) = (broker_support::state_rule(3), name("s"));
    for key in ["a", "b", "c", "a"] {
        broker.publish(&rule, set(&channel, key, "1")).await.expect("set");
    }
    let refused = broker.publish(&rule, set(&channel, "d", "1")).await;
    assert!(matches!(&refused, Err(BrokerError::Limit(why)) if why.contains("3 keys")), "{refused:?}");
    broker.publish(&rule, delete(&channel, "b")).await.expect("deleted");
    broker.publish(&rule, delete(&channel, "never")).await.expect("a deletion of nothing is a message");
    broker.publish(&rule, set(&channel, "d", "1")).await.expect("there is room now");
}

/// Found by the model: of a log that was found without any message, only with its top, offsets before that were told as still there.
#[test]
fn a_log_that_was_empty_begins_where_it_goes_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let publish = |channel, count| Step::Publish { channel, count, id: None };
    let steps = [
        publish(0, 39),
        publish(1, 33),
        publish(2, 39),
        publish(0, 25),
        publish(2, 25),
        Step::Wait { ms: 4296 },
        Step::Wait { ms: 5705 },
        Step::Restart,
        Step::Set { key: 5, size: 49 },
        Step::Restart,
        publish(1, 28),
        Step::Read { channel: 1, back: 55, messages: 31 },
    ];
    run(&steps, EmbeddedSettings { segment_bytes: 4096, memory_bytes: 16_000, ..EmbeddedSettings::fsync(directory.path()) });
}
