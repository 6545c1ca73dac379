//! What lanes keep when nothing waits in them.

use super::*;
use crate::{Body, ChannelKind, Epoch, Pattern};

fn subscribed(kind: ChannelKind, top: Option<Position>) -> (Outbox, SubscriptionId) {
    let rule = ChannelRule::new(Pattern::new("**").unwrap(), kind);
    let mut outbox = Outbox::new(OutboxSettings::default());
    let id = outbox.open(ChannelName::new("a").unwrap(), Arc::new(rule), 1, None);
    assert_eq!(outbox.attached(id, top), Settled::Answered);
    while outbox.next().is_some() {}
    (outbox, id)
}

/// Places kept for what is to come.
fn kept(outbox: &Outbox) -> usize {
    let queue = match &outbox.lanes[0].queue {
        Queue::Event(lane) => lane.places(),
        Queue::Log(lane) => lane.places(),
        Queue::State(_) => 0,
    };
    outbox.ready.capacity() + queue
}

#[test]
fn a_lane_keeps_places_only_while_messages_come() {
    let at = |offset| Position { epoch: Epoch::new(1), offset };
    for (kind, top) in [(ChannelKind::Event, None), (ChannelKind::Log, Some(at(0)))] {
        let (mut outbox, id) = subscribed(kind, top);
        assert_eq!(kept(&outbox), 0, "{kind:?}: what was told about the subscription is written");
        let name = ChannelName::new("a").unwrap();
        let message = Publication::new(name, top.map(|_| at(1)), None, None, Body::Data(Bytes::from_static(b"1")));
        assert_eq!(outbox.push(id, &Arc::new(message)), Push::Queued);
        outbox.shrink();
        assert!(matches!(outbox.next(), Some(Transmit::Publication(_))), "{kind:?}: what waits is kept");
        assert!(kept(&outbox) > 0, "{kind:?}: the next message allocates nothing");
        outbox.shrink();
        assert_eq!(kept(&outbox), 0, "{kind:?}");
    }
}
