//! How fast the embedded broker publishes, beside what the same disk gives a bare file in the same run.
//!
//! `cargo test --release -p tidegate --test broker_speed -- --ignored --nocapture`

mod broker_support;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use broker_support::{log_rule, message, name, open};
use tidegate::broker::{Embedded, EmbeddedSettings};
use tidegate_core::broker::Broker;

const DATA: usize = 256;
const TIME: Duration = Duration::from_secs(3);

/// User and system time of this process. The kernel counts it in hundredths of a second.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}

struct Speed {
    per_second: f64,
    per_cpu_second: f64,
}

impl Speed {
    fn of(messages: u64, start: Instant, cpu: f64) -> Self {
        let count = messages as f64;
        Self { per_second: count / start.elapsed().as_secs_f64(), per_cpu_second: count / (cpu_seconds() - cpu).max(0.01) }
    }
}

/// Appends batches of so many records to a file and syncs each.
fn bare(directory: &std::path::Path, in_flight: usize) -> Speed {
    let mut file: File = OpenOptions::new().create(true).append(true).open(directory.join("bare")).expect("opened");
    // As long as the broker's records: data, name, id's place and header.
    let batch = vec![b'x'; in_flight * (DATA + 8 + 52)];
    let (start, cpu, mut messages) = (Instant::now(), cpu_seconds(), 0);
    while start.elapsed() < TIME {
        file.write_all(&batch).expect("written");
        file.sync_data().expect("synced");
        messages += in_flight as u64;
    }
    Speed::of(messages, start, cpu)
}

/// So many publishers, each waiting for its answer.
async fn publishers(broker: &Arc<Embedded>, in_flight: usize, time: Duration) -> Speed {
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let tasks: Vec<_> = (0..in_flight)
        .map(|publisher| {
            let broker = broker.clone();
            tokio::spawn(async move {
                let (rule, channel) = (log_rule(100_000), name(&format!("bench:{}", publisher % 16)));
                let data = bytes::Bytes::from(vec![b'x'; DATA]);
                let mut messages = 0u64;
                while start.elapsed() < time {
                    broker.publish(&rule, message(&channel, None, data.clone())).await.expect("published");
                    messages += 1;
                }
                messages
            })
        })
        .collect();
    let mut messages = 0;
    for task in tasks {
        messages += task.await.expect("no panic");
    }
    Speed::of(messages, start, cpu)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: measures for half a minute; the figures mean something on a quiet machine and with --release"]
async fn speed_beside_a_bare_file() {
    let memory = Arc::new(open(EmbeddedSettings::default()).await);
    for in_flight in [1, 16] {
        let speed = publishers(&memory, in_flight, TIME).await;
        println!("memory  {in_flight:>3} in flight: {:>9.0}/s  {:>9.0} per CPU second", speed.per_second, speed.per_cpu_second);
    }
    for in_flight in [1, 16, 256, 1024] {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().to_owned();
        let raw = tokio::task::spawn_blocking(move || bare(&path, in_flight)).await.expect("no panic");
        let broker = Arc::new(open(EmbeddedSettings::fsync(directory.path().join("log"))).await);
        let speed = publishers(&broker, in_flight, TIME).await;
        let path = directory.path().to_owned();
        let raw_again = tokio::task::spawn_blocking(move || bare(&path, in_flight)).await.expect("no panic");
        let raw_mean = (raw.per_second + raw_again.per_second) / 2.0;
        let stats = broker.stats();
        let batches = stats.batches.load(Ordering::Relaxed).max(1);
        println!(
            "fsync {in_flight:>5} in flight: {:>9.0}/s  {:>9.0} per CPU second; bare file {:>6.0} and {:>6.0}/s: {:.2}; {} a batch, sync {} µs",
            speed.per_second,
            speed.per_cpu_second,
            raw.per_second,
            raw_again.per_second,
            speed.per_second / raw_mean,
            stats.appends.load(Ordering::Relaxed) / batches,
            stats.sync_us_total.load(Ordering::Relaxed) / batches,
        );
    }
}
