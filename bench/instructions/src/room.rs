//! What a message costs on its way from the broker to a thousand outboxes.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use tidegate::instructions::Room;
use tidegate::{Body, ChannelKind, ChannelName, ChannelRule, Pattern, Publication};

const DATA: [u8; 128] = [b'1'; 128];

/// A message of an `event` channel, put into the outboxes of 1,000 subscribers that are never full.
pub(crate) fn fan_out(times: u64) {
    let channel = ChannelName::new("orders:eu").expect("a channel's name");
    let pattern = Pattern::new("**").expect("a pattern");
    let rule = ChannelRule::new(pattern, ChannelKind::Event);
    let room = Room::new(&channel, &Arc::new(rule), 1000).expect("a runtime");
    for _ in 0..times {
        let body = Body::Data(Bytes::from_static(&DATA));
        room.publish(black_box(&Arc::new(Publication::new(channel.clone(), None, None, None, body))));
    }
    assert!(room.waiting_bytes() as u64 >= times * DATA.len() as u64);
}
