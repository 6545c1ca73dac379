//! How fast the embedded broker publishes, beside what the same disk gives in the same run: to a bare log with the same publishers and
//! the same group commit, and to a loop that has everything at hand and only writes and syncs. And how fast it opens.
//!
//! `cargo test --release -p tidegate --test broker_speed -- --ignored --nocapture`

mod broker_support;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use broker_support::{log_rule, message, name, open};
use tidegate::broker::{Embedded, EmbeddedSettings};
use tidegate_core::broker::Broker;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const DATA: usize = 256;
/// What the broker's record of one message has besides: header, name.
const RECORD: usize = DATA + 8 + 52;
/// Of the bare log's publishes a second, in each run: 0.7 to 1.3 were seen, and the disk's mood is in both.
const AT_LEAST: f64 = 0.6;
/// One of them, then the other, for so long each.
const SLICE: Duration = Duration::from_millis(300);
const SLICES: usize = 10;

/// User and system time of this process. The kernel counts it in hundredths of a second.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}

/// Messages, and the time and processor time they took.
#[derive(Default)]
struct Speed {
    messages: f64,
    seconds: f64,
    cpu_seconds: f64,
}

impl Speed {
    fn add(&mut self, messages: u64, start: Instant, cpu: f64) {
        self.messages += messages as f64;
        self.seconds += start.elapsed().as_secs_f64();
        self.cpu_seconds += cpu_seconds() - cpu;
    }

    fn per_second(&self) -> f64 {
        self.messages / self.seconds
    }

    fn per_cpu_second(&self) -> f64 {
        self.messages / self.cpu_seconds.max(0.01)
    }
}

/// A log that does nothing but what its name says: publishers hand it a record each and wait; a thread writes what there is with one
/// write, syncs it, and answers. No offsets, no index, no ids, no checksums, no subscribers.
#[derive(Default)]
struct BareLog {
    waiting: Mutex<(Vec<oneshot::Sender<()>>, bool)>,
    wake: Condvar,
}

impl BareLog {
    fn start(path: &Path) -> Arc<Self> {
        let log = Arc::new(Self::default());
        let mut file = OpenOptions::new().create(true).append(true).open(path).expect("opened");
        std::thread::spawn({
            let log = log.clone();
            move || {
                while let Some(batch) = log.take() {
                    let bytes = vec![b'x'; batch.len() * RECORD];
                    file.write_all(&bytes).expect("written");
                    file.sync_data().expect("synced");
                    batch.into_iter().for_each(|answer| answer.send(()).unwrap_or_default());
                }
            }
        });
        log
    }

    fn take(&self) -> Option<Vec<oneshot::Sender<()>>> {
        let mut waiting = self.waiting.lock().expect("not poisoned");
        while waiting.0.is_empty() {
            if waiting.1 {
                return None;
            }
            waiting = self.wake.wait(waiting).expect("not poisoned");
        }
        Some(std::mem::take(&mut waiting.0))
    }

    async fn append(&self) {
        let (answer, answered) = oneshot::channel();
        self.waiting.lock().expect("not poisoned").0.push(answer);
        self.wake.notify_one();
        answered.await.expect("answered");
    }

    fn close(&self) {
        self.waiting.lock().expect("not poisoned").1 = true;
        self.wake.notify_one();
    }
}

/// So many publishers of the bare log.
async fn bare_publishers(speed: &mut Speed, log: &Arc<BareLog>, in_flight: usize) {
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let tasks: Vec<_> = (0..in_flight)
        .map(|_| {
            let log = log.clone();
            tokio::spawn(async move {
                let mut messages = 0u64;
                while start.elapsed() < SLICE {
                    log.append().await;
                    messages += 1;
                }
                messages
            })
        })
        .collect();
    speed.add(sum(tasks).await, start, cpu);
}

async fn sum(tasks: Vec<JoinHandle<u64>>) -> u64 {
    let mut sum = 0;
    for task in tasks {
        sum += task.await.expect("no panic");
    }
    sum
}

/// Appends batches of so many records to a file and syncs each.
fn bare(speed: &mut Speed, file: &mut File, in_flight: usize) {
    let batch = vec![b'x'; in_flight * RECORD];
    let (start, cpu, mut messages) = (Instant::now(), cpu_seconds(), 0);
    while start.elapsed() < SLICE {
        file.write_all(&batch).expect("written");
        file.sync_data().expect("synced");
        messages += in_flight as u64;
    }
    speed.add(messages, start, cpu);
}

/// So many publishers, each waiting for its answer.
async fn publishers(speed: &mut Speed, broker: &Arc<Embedded>, in_flight: usize) {
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let tasks: Vec<_> = (0..in_flight)
        .map(|publisher| {
            let broker = broker.clone();
            tokio::spawn(async move {
                let (rule, channel) = (log_rule(100_000), name(&format!("bench:{}", publisher % 16)));
                let data = bytes::Bytes::from(vec![b'x'; DATA]);
                let mut messages = 0u64;
                while start.elapsed() < SLICE {
                    broker.publish(&rule, message(&channel, None, data.clone())).await.expect("published");
                    messages += 1;
                }
                messages
            })
        })
        .collect();
    speed.add(sum(tasks).await, start, cpu);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: 30 s, a measurement; its figures mean something on a quiet machine and with --release"]
async fn speed_beside_a_bare_file() {
    let memory = Arc::new(open(EmbeddedSettings::default()).await);
    for in_flight in [1, 16] {
        let mut speed = Speed::default();
        for _ in 0..SLICES {
            publishers(&mut speed, &memory, in_flight).await;
        }
        println!("memory {in_flight:>5} in flight: {:>9.0}/s {:>9.0} per CPU second", speed.per_second(), speed.per_cpu_second());
    }
    for in_flight in [1, 16, 256, 1024] {
        let directory = tempfile::tempdir().expect("a directory");
        let broker = Arc::new(open(EmbeddedSettings::fsync(directory.path().join("log"))).await);
        let mut file = OpenOptions::new().create(true).append(true).open(directory.path().join("bare")).expect("opened");
        let bare_log = BareLog::start(&directory.path().join("bare log"));
        let (mut raw, mut bare_speed, mut speed) = (Speed::default(), Speed::default(), Speed::default());
        // In turns, since the disk's mood changes.
        for _ in 0..SLICES {
            tokio::task::block_in_place(|| bare(&mut raw, &mut file, in_flight));
            bare_publishers(&mut bare_speed, &bare_log, in_flight).await;
            publishers(&mut speed, &broker, in_flight).await;
        }
        bare_log.close();
        let stats = broker.stats();
        let batches = stats.batches.load(Ordering::Relaxed).max(1);
        let part = speed.per_second() / bare_speed.per_second();
        println!(
            "fsync {in_flight:>6} in flight: {:>9.0}/s {:>9.0} per CPU second; bare log {:>9.0}/s: {:.2}; loop {:>9.0}/s: {:.2}; \
             {} a batch, sync {} µs",
            speed.per_second(),
            speed.per_cpu_second(),
            bare_speed.per_second(),
            part,
            raw.per_second(),
            speed.per_second() / raw.per_second(),
            stats.appends.load(Ordering::Relaxed) / batches,
            stats.sync_us_total.load(Ordering::Relaxed) / batches,
        );
        assert!(part >= AT_LEAST, "{in_flight} in flight: {part:.2} of a bare log");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: writes and opens a gigabyte"]
async fn a_gigabyte_opens_within_seconds() {
    const BYTES: u64 = 1 << 30;
    let directory = tempfile::tempdir().expect("a directory");
    let settings = EmbeddedSettings::fsync(directory.path().join("log"));
    let broker = Arc::new(open(settings.clone()).await);
    let tasks: Vec<_> = (0..1024)
        .map(|publisher| {
            let broker = broker.clone();
            tokio::spawn(async move {
                let (rule, channel) = (log_rule(1 << 40), name(&format!("bench:{}", publisher % 16)));
                let data = bytes::Bytes::from(vec![b'x'; DATA]);
                let mut number = 0u64;
                while broker.stats().disk_bytes.load(Ordering::Relaxed) < BYTES {
                    let id = format!("{publisher}.{number}.0123456789");
                    broker.publish(&rule, message(&channel, Some(&id), data.clone())).await.expect("published");
                    number += 1;
                }
                number
            })
        })
        .collect();
    let mut messages = 0;
    for task in tasks {
        messages += task.await.expect("no panic");
    }
    drop(Arc::into_inner(broker).expect("the last"));
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let broker = open(settings).await;
    let took = start.elapsed();
    println!("{messages} messages in {BYTES} bytes opened in {took:?}, {:.2} CPU seconds", cpu_seconds() - cpu);
    assert!(took < Duration::from_secs(10), "{took:?}");
    drop(broker);
}
