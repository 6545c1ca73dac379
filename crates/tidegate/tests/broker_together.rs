//! The embedded broker used by many at once: publishers, readers, subscribers, and its bounds under all of them.

mod broker_support;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use broker_support::{PLENTY, log_rule, message, name, open, publish, read_all, set, state_rule};
use tidegate::broker::EmbeddedSettings;
use tidegate_core::broker::contract::Collector;
use tidegate_core::broker::{Broker, BrokerError, HistoryError, PageLimit};
use tidegate_core::message::Since;
use tidegate_core::{ChannelKind, ChannelRule};

async fn many_publishers_and_readers(settings: EmbeddedSettings, each: u64) {
    let broker = Arc::new(open(settings).await);
    let sink = Arc::new(Collector::default());
    broker.attach(sink.clone());
    let rule = log_rule(1_000_000);
    for channel in 0..20 {
        broker.subscribe(&rule, &name(&format!("c:{channel}"))).await.expect("subscribed");
    }
    let mut tasks = Vec::new();
    for publisher in 0..60u64 {
        let (broker, rule) = (broker.clone(), rule.clone());
        tasks.push(tokio::spawn(async move {
            for number in 0..each {
                let channel = name(&format!("c:{}", (publisher + number) % 20));
                publish(&broker, &rule, message(&channel, None, format!("{publisher}:{number}"))).await.expect("published");
            }
        }));
    }
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..4)
        .map(|reader| {
            let (broker, rule, done) = (broker.clone(), rule.clone(), done.clone());
            tokio::spawn(async move {
                let channel = name(&format!("c:{reader}"));
                let (mut since, mut read) = (Since::Earliest, 0u64);
                loop {
                    let last = done.load(Ordering::Acquire);
                    let page = broker.history(&rule, &channel, since, PageLimit { messages: 13, bytes: 1 << 20 }).await.expect("a page");
                    for message in &page.messages {
                        read += 1;
                        assert_eq!(message.offset(), read, "a hole while others publish");
                    }
                    if let Some(position) = page.messages.last().and_then(|message| message.position) {
                        since = Since::Position(position);
                    } else if last {
                        return read;
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    done.store(true, Ordering::Release);
    for reader in readers {
        assert_eq!(reader.await.expect("no panic"), 60 * each / 20);
    }
    for channel in 0..20 {
        let channel = name(&format!("c:{channel}"));
        let (_, all) = read_all(&broker, &rule, &channel, Since::Earliest, PLENTY).await.expect("history");
        let delivered = sink.on(&channel);
        assert_eq!(all.len() as u64, 60 * each / 20);
        assert_eq!(all.iter().map(|m| m.offset()).collect::<Vec<_>>(), delivered.iter().map(|m| m.offset()).collect::<Vec<_>>());
        let mut last: HashMap<String, u64> = HashMap::new();
        for message in &all {
            let text = String::from_utf8_lossy(broker_support::data(message)).into_owned();
            let (publisher, number) = text.split_once(':').expect("ours");
            let number: u64 = number.parse().expect("a number");
            assert!(last.insert(publisher.into(), number).is_none_or(|before| before < number), "a publisher's order");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_publishers_and_readers_in_memory() {
    many_publishers_and_readers(EmbeddedSettings::default(), 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_publishers_and_readers_on_disk() {
    let directory = tempfile::tempdir().expect("a directory");
    many_publishers_and_readers(EmbeddedSettings::fsync(directory.path()), 60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_publishers_and_readers_on_disk_without_a_cache() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = EmbeddedSettings { memory_bytes: 400_000, segment_bytes: 64 * 1024, ..EmbeddedSettings::fsync(directory.path()) };
    many_publishers_and_readers(settings, 60).await;
}

#[tokio::test]
async fn memory_is_bounded_and_the_loss_is_told() {
    let broker = open(EmbeddedSettings { memory_bytes: 1 << 20, ..EmbeddedSettings::default() }).await;
    let rule = log_rule(1_000_000);
    let mut firsts = Vec::new();
    for number in 0..20_000u32 {
        let channel = name(&format!("c:{}", number % 10));
        let sent = publish(&broker, &rule, message(&channel, None, vec![b'x'; 200])).await.expect("published");
        firsts.extend((number < 10).then_some((channel, sent.position.expect("a position"))));
    }
    assert!(broker.stats().dropped_by_memory.load(Ordering::Relaxed) > 10_000);
    let mut kept = 0;
    for (channel, first) in firsts {
        let gone = broker.history(&rule, &channel, Since::Position(first), PLENTY).await.expect_err("gone");
        let HistoryError::Retention { oldest, top, missed } = gone else { panic!("{gone}") };
        assert_eq!((missed, top.offset), (Some(oldest.offset - first.offset), 2000));
        let (_, all) = read_all(&broker, &rule, &channel, Since::Position(oldest), PLENTY).await.expect("the rest");
        assert_eq!(all.len() as u64, 2000 - oldest.offset);
        kept += all.len();
    }
    assert!((300..1400).contains(&kept), "{kept} messages of 200 bytes in half a MiB, frames counted");
}

#[tokio::test]
async fn state_that_would_exceed_memory_is_refused_and_not_dropped() {
    let broker = open(EmbeddedSettings { memory_bytes: 1 << 20, ..EmbeddedSettings::default() }).await;
    let (rule, channel) = (state_rule(1_000_000), name("s"));
    let mut set_keys = 0;
    let refused = loop {
        match publish(&broker, &rule, set(&channel, &format!("k{set_keys}"), vec![b'x'; 500])).await {
            Ok(_) => set_keys += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(&refused, BrokerError::Limit(why) if why.contains("memory")), "{refused}");
    assert_eq!(broker.snapshot(&rule, &channel).await.expect("a snapshot").entries.len(), set_keys);
    publish(&broker, &rule, broker_support::delete(&channel, "k0")).await.expect("deleting is always possible");
}

#[tokio::test]
async fn channels_are_bounded_and_idle_ones_forgotten() {
    let now = Arc::new(std::sync::atomic::AtomicU64::new(1_000_000));
    let read = now.clone();
    let clock = tidegate::broker::embedded::Clock::new(move || read.load(Ordering::Relaxed));
    let age = std::time::Duration::from_secs(1);
    let broker = open(EmbeddedSettings { channels: 5, forget_after: age, clock, ..EmbeddedSettings::default() }).await;
    let rule = ChannelRule { retention: tidegate_core::Retention { age, ..log_rule(10).retention }, ..log_rule(10) };
    let mut epoch = None;
    for number in 0..5 {
        epoch = publish(&broker, &rule, message(&name(&format!("c{number}")), None, "1")).await.expect("published").position;
    }
    let refused = publish(&broker, &rule, message(&name("c5"), None, "1")).await;
    assert!(matches!(&refused, Err(BrokerError::Limit(why)) if why.contains("5 channels")), "{refused:?}");
    now.fetch_add(2_001, Ordering::Relaxed);
    let start = std::time::Instant::now();
    while broker.stats().channels.load(Ordering::Relaxed) > 0 || start.elapsed().as_millis() < 600 {
        assert!(start.elapsed().as_secs() < 10, "idle channels were not forgotten");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let sent = publish(&broker, &rule, message(&name("c4"), None, "1")).await.expect("published").position.expect("a position");
    assert_eq!(sent.offset, 1);
    assert_ne!(Some(sent.epoch), epoch.map(|position| position.epoch), "a channel that begins again has another epoch");
    assert_eq!(broker.subscribe(&rule, &name("c5")).await.expect("there is room").map(|position| position.offset), Some(0));
}

#[tokio::test]
async fn an_event_channel_dedups_and_keeps_nothing() {
    let broker = open(EmbeddedSettings::default()).await;
    let sink = Arc::new(Collector::default());
    broker.attach(sink.clone());
    let rule = tidegate_core::broker::contract::rule(ChannelKind::Event);
    let channel = name("e");
    broker.subscribe(&rule, &channel).await.expect("subscribed");
    let first = publish(&broker, &rule, message(&channel, Some("m"), "1")).await.expect("published");
    let again = publish(&broker, &rule, message(&channel, Some("m"), "1")).await.expect("published");
    assert!(!first.duplicate && again.duplicate && again.position.is_none());
    assert_eq!(sink.on(&channel).len(), 1);
    assert!(broker.history(&rule, &channel, Since::Earliest, PLENTY).await.expect("empty").messages.is_empty());
    broker.unsubscribe(&channel).await.expect("unsubscribed");
    publish(&broker, &rule, message(&channel, None, "2")).await.expect("published");
    assert_eq!(sink.on(&channel).len(), 1);
}
