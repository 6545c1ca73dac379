//! Laws 4 and 6 on `log` channels: pages without holes, or the truth about what is gone.

use std::sync::Arc;

use super::sink::Collector;
use super::{assert_rising, data, fill, name, rule};
use crate::broker::{BoxFuture, Broker, HistoryError, Page, PageLimit};
use crate::message::Since;
use crate::{ChannelKind, ChannelName, ChannelRule, Epoch, Position, Retention};

const PLENTY: PageLimit = PageLimit { messages: 10_000, bytes: 1 << 30 };

fn attach(broker: &dyn Broker) {
    broker.attach(Arc::new(Collector::default()));
}

async fn page(broker: &dyn Broker, rule: &ChannelRule, channel: &ChannelName, since: Since, limit: PageLimit) -> Page {
    broker.history(rule, channel, since, limit).await.unwrap_or_else(|error| panic!("{channel} since {since:?}: {error}"))
}

fn numbers(page: &Page) -> Vec<u64> {
    page.messages.iter().map(|publication| data(publication)).collect()
}

/// Law 4: pages follow each other without hole or double, keep to their limits, and say truly whether there is more.
pub async fn history_is_read_in_pages(broker: &dyn Broker) {
    attach(broker);
    let (rule, channel) = (rule(ChannelKind::Log), name("pages:1"));
    let positions = fill(broker, &rule, &channel, 0..50).await;
    for limit in
        [PageLimit { messages: 7, bytes: 1 << 20 }, PageLimit { messages: 1000, bytes: 500 }, PageLimit { messages: 50, bytes: 1 << 20 }]
    {
        let (mut read, mut since) = (Vec::new(), Since::Earliest);
        loop {
            let page = page(broker, &rule, &channel, since, limit).await;
            if let Since::Position(position) = since {
                assert_eq!(page.start, position, "a page begins where it was asked for");
            }
            assert_eq!(page.top, positions[49]);
            assert!(page.messages.len() <= limit.messages && !page.messages.is_empty());
            let all_but_last = page.messages.split_last().map_or(0, |(_, rest)| rest.iter().map(|publication| publication.cost()).sum());
            assert!(all_but_last <= limit.bytes, "{all_but_last} bytes before the last message of a page");
            read.extend(numbers(&page));
            let last = page.messages.last().and_then(|publication| publication.position).expect("a position");
            assert_eq!(page.more, last.offset < positions[49].offset);
            if !page.more {
                break;
            }
            since = Since::Position(last);
        }
        assert_eq!(read, (0..50).collect::<Vec<_>>(), "{limit:?}");
    }
    let one = page(broker, &rule, &channel, Since::Position(positions[9]), PageLimit { messages: 10, bytes: 1 }).await;
    assert_eq!(numbers(&one), [10], "at least one message, however large");
    let end = page(broker, &rule, &channel, Since::Position(positions[49]), PLENTY).await;
    assert!(end.messages.is_empty() && !end.more && end.top == positions[49]);
}

/// `Earliest` begins before the oldest message, `Last(n)` before the nth from the end, or before the oldest if there are fewer.
pub async fn earliest_and_last_begin_where_they_say(broker: &dyn Broker) {
    attach(broker);
    let (rule, channel) = (rule(ChannelKind::Log), name("last:1"));
    let positions = fill(broker, &rule, &channel, 0..20).await;
    assert_eq!(numbers(&page(broker, &rule, &channel, Since::Earliest, PLENTY).await), (0..20).collect::<Vec<_>>());
    for (count, first) in [(1, 19), (5, 15), (20, 0), (21, 0), (u64::MAX, 0)] {
        let page = page(broker, &rule, &channel, Since::Last(count), PLENTY).await;
        assert_eq!(numbers(&page), (first..20).collect::<Vec<_>>(), "last {count}");
        assert!(page.start.offset < positions[usize::try_from(first).expect("small")].offset);
        assert_eq!(page.start.epoch, positions[0].epoch);
    }
    let none = page(broker, &rule, &channel, Since::Last(0), PLENTY).await;
    assert!(none.messages.is_empty() && !none.more && none.start == positions[19]);
}

/// A position of another epoch, or beyond the end, is said to be so, with where reading goes on.
pub async fn forged_positions_are_told_apart(broker: &dyn Broker) {
    attach(broker);
    let (rule, channel) = (rule(ChannelKind::Log), name("forged:1"));
    let positions = fill(broker, &rule, &channel, 0..5).await;
    let (epoch, end) = (positions[0].epoch, positions[4]);
    let forged = [
        Position { epoch: Epoch::UNKNOWN, offset: positions[2].offset },
        Position { epoch: Epoch::new(epoch.as_u64().wrapping_add(1)), offset: positions[2].offset },
        Position { epoch: Epoch::new(epoch.as_u64().wrapping_add(1)), offset: 0 },
        Position { epoch, offset: end.offset + 1 },
        Position { epoch, offset: u64::MAX },
    ];
    for position in forged {
        match broker.history(&rule, &channel, Since::Position(position), PLENTY).await {
            Err(HistoryError::Epoch { oldest, top }) => {
                assert_eq!(top, end);
                assert_eq!(numbers(&page(broker, &rule, &channel, Since::Position(oldest), PLENTY).await), [0, 1, 2, 3, 4]);
            }
            other => panic!("{position:?}: {other:?}"),
        }
    }
    assert_eq!(numbers(&page(broker, &rule, &channel, Since::Position(Position::start(epoch)), PLENTY).await), [0, 1, 2, 3, 4]);
}

/// A channel that nothing was published on has an epoch, an end, and no messages; the epoch stays.
pub async fn an_unknown_channel_is_an_empty_log(broker: &dyn Broker) {
    attach(broker);
    let (rule, channel) = (rule(ChannelKind::Log), name("empty:1"));
    let empty = page(broker, &rule, &channel, Since::Earliest, PLENTY).await;
    assert!(empty.messages.is_empty() && !empty.more && empty.start == empty.top);
    let from = broker.subscribe(&rule, &channel).await.expect("subscribe").expect("a position");
    assert_eq!(from, empty.top);
    let positions = fill(broker, &rule, &channel, 0..2).await;
    assert_eq!(positions[0].epoch, from.epoch);
    assert_rising(&positions);
    assert_eq!(numbers(&page(broker, &rule, &channel, Since::Position(from), PLENTY).await), [0, 1]);
}

/// Law 4 at the edge of retention: from every position either everything after it, or how much of it is gone and where it goes on.
/// A backend may keep somewhat more than the rule says, never less.
pub async fn retention_is_exact_at_its_edge(broker: &dyn Broker) {
    attach(broker);
    let keep = 10;
    let rule = ChannelRule { retention: Retention { messages: keep, ..Retention::default() }, ..rule(ChannelKind::Log) };
    let channel = name("retention:1");
    let count = 1000;
    let positions = fill(broker, &rule, &channel, 0..count).await;
    let top = positions[positions.len() - 1];
    let mut gone = 0;
    for (at, &position) in positions.iter().enumerate() {
        let after: Vec<u64> = (at as u64 + 1..count).collect();
        match broker.history(&rule, &channel, Since::Position(position), PLENTY).await {
            Ok(page) => assert_eq!(numbers(&page), after, "since message {at}"),
            Err(HistoryError::Retention { oldest, top: end, missed }) => {
                gone += 1;
                assert_eq!(end, top);
                let lost = positions.iter().filter(|lost| lost.offset > position.offset && lost.offset <= oldest.offset).count();
                assert!(lost > 0, "since message {at}: told that messages are gone, and none is");
                assert!(missed.is_none_or(|missed| missed == lost as u64), "since message {at}: {missed:?} are gone, really {lost}");
                assert_eq!(numbers(&page(broker, &rule, &channel, Since::Position(oldest), PLENTY).await), after[lost..]);
                assert!(after.len() - lost >= usize::try_from(keep).expect("small"), "the rule keeps {keep} messages");
            }
            Err(other) => panic!("since message {at}: {other}"),
        }
    }
    assert!(gone > 0, "a thousand messages under a retention of {keep}, and the first is still there");
    let earliest = page(broker, &rule, &channel, Since::Earliest, PLENTY).await;
    assert_eq!(numbers(&earliest), (count - earliest.messages.len() as u64..count).collect::<Vec<_>>());
    let last = page(broker, &rule, &channel, Since::Last(count), PLENTY).await;
    assert_eq!(numbers(&last), numbers(&earliest));
}

/// Law 6: after `lose` has made the backend lose its log (only a test of that backend knows how), the epoch is another.
pub async fn a_lost_log_is_a_new_epoch(broker: &dyn Broker, lose: BoxFuture<'_, ()>) {
    attach(broker);
    let (rule, channel) = (rule(ChannelKind::Log), name("lost:1"));
    let before = fill(broker, &rule, &channel, 0..5).await;
    lose.await;
    let after = fill(broker, &rule, &channel, 5..7).await;
    assert_ne!(before[0].epoch, after[0].epoch);
    assert_rising(&after);
    match broker.history(&rule, &channel, Since::Position(before[1]), PLENTY).await {
        Err(HistoryError::Epoch { oldest, top }) => {
            assert_eq!(top, after[1]);
            assert_eq!(numbers(&page(broker, &rule, &channel, Since::Position(oldest), PLENTY).await), [5, 6]);
        }
        other => panic!("{other:?}"),
    }
}
