//! Law 5, and law 4 on `state` channels: one position, the latest of each key, deletions told.

use std::sync::Arc;

use super::sink::{Collector, join_all};
use super::{message, name, publish, rule};
use crate::broker::{BoxFuture, Broker, BrokerError, PageLimit};
use crate::message::{Publish, Since};
use crate::{Body, ChannelKind, ChannelName, Position, Publication};

fn set(channel: &ChannelName, key: &str, number: u64) -> Publish {
    Publish { key: Some(key.into()), ..message(channel, number) }
}

fn delete(channel: &ChannelName, key: &str) -> Publish {
    Publish { key: Some(key.into()), body: Body::Deleted, ..message(channel, 0) }
}

type Entry = (u64, Option<Box<str>>, Body);

fn entries(publications: &[Arc<Publication>]) -> Vec<Entry> {
    publications.iter().map(|publication| (publication.offset(), publication.key.clone(), publication.body.clone())).collect()
}

fn value(position: Position, key: &str, number: u64) -> Entry {
    (position.offset, Some(key.into()), Body::Data(number.to_string().into()))
}

/// A message without a key is refused, and changes nothing.
pub async fn state_messages_have_keys(broker: &dyn Broker) {
    broker.attach(Arc::new(Collector::default()));
    let (rule, channel) = (rule(ChannelKind::State), name("keys:1"));
    let refused = broker.publish(&rule, message(&channel, 1)).await;
    assert!(matches!(refused, Err(BrokerError::Invalid { field: "key", .. })), "{refused:?}");
    let snapshot = broker.snapshot(&rule, &channel).await.expect("snapshot");
    assert!(snapshot.entries.is_empty());
}

/// Law 5: a snapshot has the latest of each key and no deleted ones, in order of offset, at the position of the last change;
/// what is published while it is taken is in it or follows it.
pub async fn a_snapshot_is_one_position(broker: &dyn Broker) {
    broker.attach(Arc::new(Collector::default()));
    let (rule, channel) = (rule(ChannelKind::State), name("snapshot:1"));
    let mut positions = Vec::new();
    for change in [set(&channel, "a", 1), set(&channel, "b", 2), set(&channel, "a", 3), set(&channel, "c", 4), delete(&channel, "b")] {
        positions.push(publish(broker, &rule, change).await.position.expect("a position"));
    }
    let snapshot = broker.snapshot(&rule, &channel).await.expect("snapshot");
    assert_eq!(snapshot.position, positions[4]);
    assert_eq!(entries(&snapshot.entries), [value(positions[2], "a", 3), value(positions[3], "c", 4)]);

    let publishing = async {
        for number in 0..30 {
            publish(broker, &rule, set(&channel, ["x", "y", "z"][number as usize % 3], number)).await;
        }
        Vec::new()
    };
    let taking = async {
        let mut taken = Vec::new();
        for _ in 0..10 {
            taken.push(broker.snapshot(&rule, &channel).await.expect("snapshot"));
        }
        taken
    };
    let taken = join_all([Box::pin(publishing) as BoxFuture<'_, _>, Box::pin(taking)]).await.swap_remove(1);
    let end = broker.snapshot(&rule, &channel).await.expect("snapshot");
    for snapshot in taken {
        assert!(snapshot.entries.iter().all(|entry| entry.offset() <= snapshot.position.offset), "an entry from after the snapshot");
        assert!(snapshot.entries.is_sorted_by_key(|entry| entry.offset()));
        let since = Since::Position(snapshot.position);
        let delta = broker.history(&rule, &channel, since, PageLimit { messages: 100, bytes: 1 << 20 }).await.expect("history");
        let mut merged: Vec<_> =
            snapshot.entries.iter().filter(|entry| delta.messages.iter().all(|later| later.key != entry.key)).cloned().collect();
        merged.extend(delta.messages);
        assert_eq!(entries(&merged), entries(&end.entries));
    }
}

/// Law 4 on a `state` channel: the latest message of each key changed since, deletions included, in order of offset, in pages.
pub async fn a_delta_has_the_latest_of_each_key(broker: &dyn Broker) {
    broker.attach(Arc::new(Collector::default()));
    let (rule, channel) = (rule(ChannelKind::State), name("delta:1"));
    let mut positions = Vec::new();
    let changes = [
        set(&channel, "a", 1),
        set(&channel, "b", 2),
        set(&channel, "c", 3),
        set(&channel, "b", 4),
        delete(&channel, "a"),
        set(&channel, "d", 5),
        set(&channel, "b", 6),
    ];
    for change in changes {
        positions.push(publish(broker, &rule, change).await.position.expect("a position"));
    }
    let deleted = (positions[4].offset, Some("a".into()), Body::Deleted);
    let expected = [value(positions[2], "c", 3), deleted, value(positions[5], "d", 5), value(positions[6], "b", 6)];
    for (since, first) in [(1, 0), (2, 1), (4, 2), (5, 3), (6, 4)] {
        let (mut read, mut cursor) = (Vec::new(), positions[since]);
        loop {
            let limit = PageLimit { messages: 2, bytes: 1 << 20 };
            let page = broker.history(&rule, &channel, Since::Position(cursor), limit).await.expect("history");
            assert_eq!(page.top, positions[6]);
            assert!(page.messages.len() <= 2);
            cursor = page.messages.last().and_then(|publication| publication.position).unwrap_or(page.top);
            read.extend(entries(&page.messages));
            if !page.more {
                break;
            }
        }
        assert_eq!(read, expected[first..], "since change {since}");
    }
}
