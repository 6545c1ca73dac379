//! Laws 1 to 3 and 7: one order, once, nothing missed after a subscribe, and sequences.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::sink::{Collector, join_all};
use super::{assert_rising, data, fill, message, name, publish, rule};
use crate::broker::{Broker, BrokerError, PageLimit, Sequence};
use crate::message::Since;
use crate::{Body, ChannelKind, Position};

fn collect(broker: &dyn Broker) -> Arc<Collector> {
    let sink = Arc::new(Collector::default());
    broker.attach(sink.clone());
    sink
}

/// Law 1: what one publisher publishes arrives in its order, at the positions that were answered, byte for byte.
pub async fn appends_and_fans_out_in_order(broker: &dyn Broker) {
    let (sink, rule, channel) = (collect(broker), rule(ChannelKind::Log), name("order:one"));
    let from = broker.subscribe(&rule, &channel).await.expect("subscribe").expect("a log has a position");
    let positions = fill(broker, &rule, &channel, 0..100).await;
    assert_rising(&positions);
    assert_eq!(from.epoch, positions[0].epoch, "the epoch told at subscribe is the one that is published in");
    assert!(from.offset < positions[0].offset);

    let found = sink.until_position(&channel, positions[99]).await;
    assert_eq!(found.iter().map(|publication| publication.position.expect("a position")).collect::<Vec<_>>(), positions);
    assert_eq!(found.iter().map(|publication| data(publication)).collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
}

/// Law 1 with many publishers at once: one order, the same in the sink as in the log, nothing twice.
pub async fn concurrent_publishers_agree_on_one_order(broker: &dyn Broker) {
    let (sink, rule, channel) = (collect(broker), rule(ChannelKind::Log), name("order:many"));
    broker.subscribe(&rule, &channel).await.expect("subscribe");
    let batches = join_all((0..16).map(|publisher| fill(broker, &rule, &channel, publisher * 20..publisher * 20 + 20))).await;
    for batch in &batches {
        assert_rising(batch);
    }
    let mut positions: Vec<Position> = batches.concat();
    positions.sort_by_key(|position| position.offset);
    assert_rising(&positions);

    let found = sink.until_position(&channel, positions[319]).await;
    assert_eq!(found.iter().map(|publication| publication.position.expect("a position")).collect::<Vec<_>>(), positions);
    let page = broker.history(&rule, &channel, Since::Earliest, PageLimit { messages: 1000, bytes: 1 << 30 }).await.expect("history");
    let in_log: Vec<_> = page.messages.iter().map(|publication| (publication.position, data(publication))).collect();
    let fanned_out: Vec<_> = found.iter().map(|publication| (publication.position, data(publication))).collect();
    assert_eq!(in_log, fanned_out);
}

/// Law 2: a message id that comes again gets the first position and is not delivered again; another channel's ids are its own.
pub async fn repeats_are_recognised(broker: &dyn Broker) {
    let (sink, rule, channel, other) = (collect(broker), rule(ChannelKind::Log), name("dedup:a"), name("dedup:b"));
    broker.subscribe(&rule, &channel).await.expect("subscribe");
    let with_id = |channel: &_, number| crate::message::Publish { message_id: Some("m-1".into()), ..message(channel, number) };

    let first = publish(broker, &rule, with_id(&channel, 1)).await;
    fill(broker, &rule, &channel, 2..5).await;
    let again = publish(broker, &rule, with_id(&channel, 1)).await;
    let elsewhere = publish(broker, &rule, with_id(&other, 9)).await;
    assert!(!first.duplicate && again.duplicate && !elsewhere.duplicate, "{first:?} {again:?} {elsewhere:?}");
    assert_eq!(first.position, again.position);

    let last = fill(broker, &rule, &channel, 5..6).await;
    let found = sink.until_position(&channel, last[0]).await;
    assert_eq!(found.iter().map(|publication| data(publication)).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(found[0].id.as_deref(), Some("m-1"));
}

/// Law 2 where the repeats race: one message, one answer that is no duplicate, one position.
pub async fn repeats_at_once_are_one_message(broker: &dyn Broker) {
    let (sink, rule, channel) = (collect(broker), rule(ChannelKind::Log), name("dedup:race"));
    broker.subscribe(&rule, &channel).await.expect("subscribe");
    for round in 0..20u64 {
        let repeat = || crate::message::Publish { message_id: Some(format!("m-{round}").into()), ..message(&channel, round) };
        let answers = join_all((0..8).map(|_| publish(broker, &rule, repeat()))).await;
        assert_eq!(answers.iter().filter(|answer| !answer.duplicate).count(), 1, "{answers:?}");
        assert_eq!(answers.iter().map(|answer| answer.position.expect("a position").offset).collect::<BTreeSet<_>>().len(), 1);
    }
    let last = fill(broker, &rule, &channel, 20..21).await;
    let found = sink.until_position(&channel, last[0]).await;
    assert_eq!(found.iter().map(|publication| data(publication)).collect::<Vec<_>>(), (0..21).collect::<Vec<_>>());
}

/// Law 7: publishes of a sequence that are under way together keep their order; once it is broken off, nothing of it is kept.
pub async fn a_sequence_keeps_its_order(broker: &dyn Broker) {
    let (rule, channel, sequence) = (rule(ChannelKind::Log), name("order:sequence"), Arc::new(Sequence::default()));
    let some = |numbers: std::ops::Range<u64>| numbers.map(|number| message(&channel, number)).collect::<Vec<_>>();
    // Pieces of different sizes.
    let pieces = [0..1, 1..20, 20..20, 20..39, 39..40].map(|numbers| broker.publish_all(&sequence, &rule, some(numbers)));
    let answers = join_all(pieces).await;
    assert_eq!(answers.iter().map(Vec::len).collect::<Vec<_>>(), [1, 19, 0, 19, 1], "an outcome for each");
    let positions: Vec<Position> =
        answers.into_iter().flatten().map(|answer| answer.expect("published").position.expect("a position")).collect();
    assert_rising(&positions);

    sequence.break_off();
    let answers = join_all([40..44, 44..45].map(|numbers| broker.publish_all(&sequence, &rule, some(numbers)))).await.concat();
    assert_eq!(answers.len(), 5);
    assert!(answers.iter().all(|answer| matches!(answer, Err(BrokerError::Unavailable(_)))), "{answers:?}");
    let after = broker.publish_all(&Arc::default(), &rule, some(45..46)).await.pop().expect("an outcome");
    let after = after.expect("another sequence goes on");
    assert!(after.position.expect("a position").offset > positions[39].offset);
    let page = broker.history(&rule, &channel, Since::Earliest, PageLimit { messages: 1000, bytes: 1 << 30 }).await.expect("history");
    let kept: Vec<u64> = page.messages.iter().map(|publication| data(publication)).collect();
    assert_eq!(kept, (0..40).chain([45]).collect::<Vec<_>>());
}

/// Laws 2 and 7: in one piece a repeat gets the position of the first, and one that can never be kept does not hold up the rest.
pub async fn a_piece_has_an_outcome_for_each(broker: &dyn Broker) {
    let (rule, channel) = (rule(ChannelKind::Log), name("order:piece"));
    let with_id = |id: &str, number| crate::message::Publish { message_id: Some(id.into()), ..message(&channel, number) };
    let deletion = crate::message::Publish { key: Some("k".into()), body: crate::Body::Deleted, ..message(&channel, 0) };
    let piece = vec![with_id("a", 0), with_id("b", 1), deletion, with_id("a", 2), message(&channel, 3)];
    let answers = broker.publish_all(&Arc::default(), &rule, piece).await;
    assert!(matches!(answers[2], Err(BrokerError::Invalid { .. })), "{answers:?}");
    let told: Vec<_> = answers.iter().flatten().map(|published| (published.position, published.duplicate)).collect();
    assert_eq!((told[2].0, told[2].1), (told[0].0, true), "{answers:?}");
    assert_rising([&told[0].0, &told[1].0, &told[3].0].map(|position| position.as_ref().expect("a position")));
    let page = broker.history(&rule, &channel, Since::Earliest, PageLimit { messages: 10, bytes: 1 << 30 }).await.expect("history");
    assert_eq!(page.messages.iter().map(|publication| data(publication)).collect::<Vec<_>>(), [0, 1, 3]);
}

/// Law 3: a subscribe while others publish; history up to its position and the sink after it are the whole, without a double.
pub async fn a_subscribe_amid_publishes_misses_nothing(broker: &dyn Broker) {
    let (sink, rule) = (collect(broker), rule(ChannelKind::Log));
    for round in 0..10 {
        let channel = name(&format!("amid:{round}"));
        let subscribed = std::sync::Mutex::new(None);
        let publishing = async {
            let positions = fill(broker, &rule, &channel, 0..40).await;
            *positions.last().expect("forty")
        };
        let subscribing = async {
            // A few steps into the publishing, a different number each round.
            fill(broker, &rule, &channel, 1000..1000 + round).await;
            let position = broker.subscribe(&rule, &channel).await.expect("subscribe").expect("a position");
            *subscribed.lock().expect("not poisoned") = Some(position);
            position
        };
        let ends = join_all([Box::pin(publishing) as crate::broker::BoxFuture<'_, Position>, Box::pin(subscribing)]).await;
        let (last, from) = (ends[0], ends[1]);
        let end = fill(broker, &rule, &channel, 2000..2001).await[0];
        assert!(end.offset > last.offset);

        let found = sink.until_position(&channel, end).await;
        let live: Vec<u64> = found.iter().map(|publication| publication.offset()).filter(|&offset| offset > from.offset).collect();
        let page = broker.history(&rule, &channel, Since::Earliest, PageLimit { messages: 1000, bytes: 1 << 30 }).await.expect("history");
        let after: Vec<u64> = page.messages.iter().map(|publication| publication.offset()).filter(|&offset| offset > from.offset).collect();
        assert_eq!(live, after, "round {round}");
        assert_eq!(page.messages.len() as u64, 41 + round);
    }
}

/// Subscribing again after an unsubscribe, and twice over, goes on as law 3 says and delivers once.
pub async fn a_subscription_can_be_renewed(broker: &dyn Broker) {
    let (sink, rule, channel) = (collect(broker), rule(ChannelKind::Log), name("renew:1"));
    broker.subscribe(&rule, &channel).await.expect("subscribe");
    let first = fill(broker, &rule, &channel, 0..3).await;
    sink.until_position(&channel, first[2]).await;
    broker.unsubscribe(&channel).await.expect("unsubscribe");
    fill(broker, &rule, &channel, 3..6).await;

    let from = broker.subscribe(&rule, &channel).await.expect("subscribe").expect("a position");
    let same = broker.subscribe(&rule, &channel).await.expect("subscribe twice").expect("a position");
    assert!(same.offset >= from.offset && same.epoch == from.epoch);
    let later = fill(broker, &rule, &channel, 6..9).await;
    assert!(from.offset < later[0].offset);
    let found = sink.until_position(&channel, later[2]).await;
    let after: Vec<u64> =
        found.iter().filter(|publication| publication.offset() > from.offset).map(|publication| data(publication)).collect();
    assert_eq!(after, [6, 7, 8]);
}

/// Messages of `event` channels have no position, arrive in the order of one publisher, and leave nothing behind.
pub async fn event_channels_have_no_position(broker: &dyn Broker) {
    let (sink, rule, channel) = (collect(broker), rule(ChannelKind::Event), name("cursors:1"));
    publish(broker, &rule, message(&channel, 99)).await;
    assert_eq!(broker.subscribe(&rule, &channel).await.expect("subscribe"), None);
    for number in 0..20 {
        assert_eq!(publish(broker, &rule, message(&channel, number)).await.position, None);
    }
    let found = sink.until(&channel, |found| found.iter().any(|publication| data(publication) == 19)).await;
    assert!(found.iter().all(|publication| publication.position.is_none()));
    assert_eq!(found.iter().map(|publication| data(publication)).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
}

/// Names that a backend's own syntax might confuse stay apart: no channel gets, keeps or dedups what is another's.
pub async fn no_channel_receives_what_is_anothers(broker: &dyn Broker) {
    let (sink, rule) = (collect(broker), rule(ChannelKind::Log));
    let long = format!("l:{}", "x".repeat(253));
    let longer = format!("l:{}", "x".repeat(252));
    let names: Vec<_> = [
        "a", "A", "a:b", "a.b", "a-b", "a_b", "a@b", "a=b", "a~b", "ab", "a:b:c", "a:b.c", "a.b:c", "a.b.c", "b", "b:a", "a:", "-", "_",
        ".", "..", "~", "=", "@", "0", "00", "a=3Ab", "a=3ab", "a_3Ab", "a~1b", "a:.:b", "a:..:b", "con", "nul", "stream", "stream:a",
        "tidegate", &long, &longer,
    ]
    .into_iter()
    .filter_map(|text| crate::ChannelName::new(text).ok())
    .collect();
    for channel in &names {
        broker.subscribe(&rule, channel).await.expect("subscribe");
    }
    let mut ends = Vec::new();
    for round in 0..2u64 {
        for (index, channel) in names.iter().enumerate() {
            let publish_it =
                crate::message::Publish { message_id: Some(format!("m{round}").into()), ..message(channel, index as u64 * 2 + round) };
            let published = publish(broker, &rule, publish_it).await;
            assert!(!published.duplicate, "{channel} took another channel's message id for its own");
            ends.push(published.position.expect("a position"));
        }
    }
    for (index, channel) in names.iter().enumerate() {
        let own = [index as u64 * 2, index as u64 * 2 + 1];
        let found = sink.until_position(channel, ends[names.len() + index]).await;
        assert_eq!(found.iter().map(|publication| data(publication)).collect::<Vec<_>>(), own, "{channel}");
        let page = broker.history(&rule, channel, Since::Earliest, PageLimit { messages: 10, bytes: 1 << 20 }).await.expect("history");
        assert_eq!(page.messages.iter().map(|publication| data(publication)).collect::<Vec<_>>(), own, "{channel}");
    }
}

/// A deletion on a `log` or an `event` channel is refused, and changes nothing.
pub async fn what_does_not_fit_the_kind_is_refused(broker: &dyn Broker) {
    let _sink = collect(broker);
    let (log, channel) = (rule(ChannelKind::Log), name("refuse:log"));
    let deletion = crate::message::Publish { key: Some("k".into()), body: Body::Deleted, ..message(&channel, 0) };
    let refused = broker.publish(&log, deletion).await;
    assert!(matches!(refused, Err(BrokerError::Invalid { .. })), "{refused:?}");
    let page = broker.history(&log, &channel, Since::Earliest, PageLimit { messages: 10, bytes: 1 << 20 }).await.expect("history");
    assert!(page.messages.is_empty() && !page.more);

    let (event, channel) = (rule(ChannelKind::Event), name("refuse:event"));
    let deletion = crate::message::Publish { key: Some("k".into()), body: Body::Deleted, ..message(&channel, 0) };
    let refused = broker.publish(&event, deletion).await;
    assert!(matches!(refused, Err(BrokerError::Invalid { .. })), "{refused:?}");
}
