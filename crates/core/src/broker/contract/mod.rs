//! The contract suite: a function per law, called by the tests of every backend.
//!
//! Each law panics where it is broken, takes a broker with nothing in it, names its sink itself, and needs no runtime. What does
//! not come is waited for without end: run each under a time limit. [`LAWS`] lists those that need nothing but a broker.

mod fan_out;
mod history;
mod sink;
mod state;

pub use fan_out::{
    a_piece_has_an_outcome_for_each, a_sequence_keeps_its_order, a_subscribe_amid_publishes_misses_nothing, a_subscription_can_be_renewed,
    appends_and_fans_out_in_order, concurrent_publishers_agree_on_one_order, event_channels_have_no_position,
    no_channel_receives_what_is_anothers, repeats_are_recognised, repeats_at_once_are_one_message, what_does_not_fit_the_kind_is_refused,
};
pub use history::{
    a_lost_log_is_a_new_epoch, an_unknown_channel_is_an_empty_log, earliest_and_last_begin_where_they_say, forged_positions_are_told_apart,
    history_is_read_in_pages, retention_is_exact_at_its_edge,
};
pub use sink::{Collector, join_all};
pub use state::{a_delta_has_the_latest_of_each_key, a_snapshot_is_one_position, state_messages_have_keys};

use std::time::Duration;

use bytes::Bytes;

use super::{BoxFuture, Broker, Published};
use crate::message::Publish;
use crate::{Body, ChannelKind, ChannelName, ChannelRule, Pattern, Position, Retention};

/// A law that needs a broker with nothing in it.
pub type Law = for<'a> fn(&'a dyn Broker) -> BoxFuture<'a, ()>;

macro_rules! laws {
    ($($law:ident),* $(,)?) => {
        /// Every law with its name; each wants a fresh broker.
        pub const LAWS: &[(&str, Law)] = &[$((stringify!($law), |broker| Box::pin($law(broker)))),*];
    };
}

laws![
    appends_and_fans_out_in_order,
    concurrent_publishers_agree_on_one_order,
    repeats_are_recognised,
    repeats_at_once_are_one_message,
    a_subscribe_amid_publishes_misses_nothing,
    a_sequence_keeps_its_order,
    a_piece_has_an_outcome_for_each,
    a_subscription_can_be_renewed,
    event_channels_have_no_position,
    no_channel_receives_what_is_anothers,
    what_does_not_fit_the_kind_is_refused,
    history_is_read_in_pages,
    earliest_and_last_begin_where_they_say,
    forged_positions_are_told_apart,
    an_unknown_channel_is_an_empty_log,
    retention_is_exact_at_its_edge,
    state_messages_have_keys,
    a_snapshot_is_one_position,
    a_delta_has_the_latest_of_each_key,
];

/// A rule of this kind for any name, with generous retention.
pub fn rule(kind: ChannelKind) -> ChannelRule {
    let retention = Retention { messages: 100_000, age: Duration::from_secs(24 * 60 * 60), bytes: 1 << 30 };
    ChannelRule { retention, ..ChannelRule::new(Pattern::new("**").expect("a valid pattern"), kind) }
}

/// A message with a number for its data.
pub fn message(channel: &ChannelName, number: u64) -> Publish {
    Publish { channel: channel.clone(), message_id: None, key: None, body: Body::Data(Bytes::from(number.to_string())) }
}

fn name(text: &str) -> ChannelName {
    ChannelName::new(text).expect("a valid channel name")
}

async fn publish(broker: &dyn Broker, rule: &ChannelRule, publish: Publish) -> Published {
    broker.publish(rule, publish).await.expect("a publish that nothing is wrong with")
}

/// Publishes messages with these numbers, one after the other, and gives their positions.
async fn fill(broker: &dyn Broker, rule: &ChannelRule, channel: &ChannelName, numbers: std::ops::Range<u64>) -> Vec<Position> {
    let mut positions = Vec::new();
    for number in numbers {
        let published = publish(broker, rule, message(channel, number)).await;
        positions.push(published.position.expect("log and state messages have a position"));
    }
    positions
}

fn data(publication: &crate::Publication) -> u64 {
    match &publication.body {
        Body::Data(data) => std::str::from_utf8(data).ok().and_then(|text| text.parse().ok()).expect("the number that was published"),
        Body::Deleted => panic!("a deletion where a number was published: {publication:?}"),
    }
}

/// Panics unless the offsets rise strictly within one epoch.
fn assert_rising<'a>(positions: impl IntoIterator<Item = &'a Position>) {
    let mut before: Option<&Position> = None;
    for position in positions {
        if let Some(before) = before {
            assert_eq!(before.epoch, position.epoch, "the epoch changed though nothing was lost");
            assert!(before.offset < position.offset, "{} is not after {}", position.offset, before.offset);
        }
        assert!(position.offset > 0, "offset 0 is before the first message");
        before = Some(position);
    }
}
