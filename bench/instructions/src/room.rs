//! What a message costs on its way from the broker to a thousand outboxes, and a subscription that comes and goes.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use tidegate::instructions::Room;
use tidegate::{Body, ChannelKind, ChannelName, ChannelRule, Pattern, Publication};

const DATA: [u8; 128] = [b'1'; 128];

/// A message of an `event` channel, put into the outboxes of 1,000 subscribers that are never full.
pub(crate) fn fan_out(times: u64) {
    let (channel, rule) = (name("orders:eu"), rule());
    let room = Room::new(&channel, &rule, 1000).expect("a runtime");
    for _ in 0..times {
        let body = Body::Data(Bytes::from_static(&DATA));
        room.publish(black_box(&Arc::new(Publication::new(channel.clone(), None, None, None, body))));
    }
    assert!(room.waiting_bytes() as u64 >= times * DATA.len() as u64);
}

/// A subscription comes and goes, with one other in the channel and no other channel.
pub(crate) fn subscribe_alone(times: u64) {
    come_and_go(times, 1, 0);
}

/// The same with so many others in the channel that an index is kept.
pub(crate) fn subscribe_among_100(times: u64) {
    come_and_go(times, 100, 0);
}

/// The same with 10,000 others in the channel.
pub(crate) fn subscribe_among_10k(times: u64) {
    come_and_go(times, 10_000, 0);
}

/// The same beside 10,000 other channels.
pub(crate) fn subscribe_beside_10k(times: u64) {
    come_and_go(times, 1, 10_000);
}

fn come_and_go(times: u64, others: u16, channels: u32) {
    let (channel, rule) = (name("orders:eu"), rule());
    let room = Room::new(&channel, &rule, others).expect("a runtime");
    let channels: Vec<ChannelName> = (0..channels).map(|number| name(&format!("orders:{number}"))).collect();
    room.open(&channels, &rule);
    for _ in 0..times {
        room.come_and_go(black_box(&channel), &rule);
    }
}

fn name(name: &str) -> ChannelName {
    ChannelName::new(name).expect("a channel's name")
}

fn rule() -> Arc<ChannelRule> {
    Arc::new(ChannelRule::new(Pattern::new("**").expect("a pattern"), ChannelKind::Event))
}
