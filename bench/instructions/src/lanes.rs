//! What a message costs in a subscriber's outbox, in and out again, for each kind of channel.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use tidegate_core::broker::Snapshot;
use tidegate_core::message::ClientMessage;
use tidegate_core::session::{Input, Mode, Opening, Output, Push, SubscriptionId};
use tidegate_core::{
    Body, ChannelKind, ChannelName, ChannelRule, ConnectionId, Epoch, Grants, Identity, Moment, Overflow, Pattern, Position, Publication,
    Session, SessionSettings,
};

use crate::TIMES_MAX;

const NOW: Moment = Moment::from_ms(1_000_000);
const CHANNEL: &str = "orders:eu";

/// A message of an `event` channel.
pub(crate) fn event(times: u64) {
    let (mut session, subscription) = subscribed(ChannelKind::Event, Overflow::DropOldest);
    let message = publication(None, None);
    for _ in 0..times {
        assert_eq!(session.deliver(NOW, subscription, black_box(&message)), Push::Queued);
        black_box(session.poll_transmit(NOW));
    }
}

/// A message of a `log` channel whose subscriber is up to date.
pub(crate) fn log(times: u64) {
    let (mut session, subscription) = subscribed(ChannelKind::Log, Overflow::CatchUp);
    let messages: Vec<_> = (1..=TIMES_MAX).map(|offset| publication(Some(offset), None)).collect();
    for message in messages.iter().take(usize::try_from(times).unwrap_or(usize::MAX)) {
        assert_eq!(session.deliver(NOW, subscription, black_box(message)), Push::Queued);
        black_box(session.poll_transmit(NOW));
    }
}

/// Two messages of one key of a `state` channel, of which the second replaces the first.
pub(crate) fn state(times: u64) {
    let (mut session, subscription) = subscribed(ChannelKind::State, Overflow::CatchUp);
    let pairs: Vec<_> = (1..=TIMES_MAX)
        .map(|pair| {
            let key = format!("o-{}", pair % 64);
            [publication(Some(pair * 2), Some(&key)), publication(Some(pair * 2 + 1), Some(&key))]
        })
        .collect();
    for [first, second] in pairs.iter().take(usize::try_from(times).unwrap_or(usize::MAX)) {
        assert_eq!(session.deliver(NOW, subscription, black_box(first)), Push::Queued);
        assert_eq!(session.deliver(NOW, subscription, black_box(second)), Push::Conflated);
        black_box(session.poll_transmit(NOW));
    }
}

/// A session with one subscription that is live, and nothing to write.
fn subscribed(kind: ChannelKind, overflow: Overflow) -> (Session, SubscriptionId) {
    let everything = Pattern::new("**").expect("a pattern");
    let rule = ChannelRule { overflow, ..ChannelRule::new(everything.clone(), kind) };
    let settings = SessionSettings { channels: vec![Arc::new(rule)], ..SessionSettings::default() };
    let identity = Identity { grants: Grants { subscribe: vec![everything], ..Grants::default() }, ..Identity::default() };
    let opening = Opening {
        mode: Mode::Tidegate,
        settings: Arc::new(settings),
        connection: ConnectionId::new(1),
        identity: Some(Arc::new(identity)),
        seed: 42,
    };
    let mut session = Session::new(NOW, opening);
    let channel = ChannelName::new(CHANNEL).expect("a channel's name");
    session.handle(NOW, Input::Message(ClientMessage::Subscribe { id: 1, channel, since: None }));
    let mut attached = None;
    while let Some(output) = session.poll_output() {
        match output {
            Output::Attach { subscription, .. } => {
                attached = Some(subscription);
                let top = (kind != ChannelKind::Event).then_some(at(0));
                session.handle(NOW, Input::Attached(subscription, Ok(top)));
            }
            Output::Snapshot { subscription, .. } => {
                let snapshot = Snapshot { position: at(0), entries: Vec::new() };
                session.handle(NOW, Input::SnapshotTaken(subscription, Ok(Arc::new(snapshot))));
            }
            _ => {}
        }
    }
    while session.poll_transmit(NOW).is_some() {}
    (session, attached.expect("a subscription"))
}

fn publication(offset: Option<u64>, key: Option<&str>) -> Arc<Publication> {
    let channel = ChannelName::new(CHANNEL).expect("a channel's name");
    let body = Body::Data(Bytes::from_static(&[b'1'; 128]));
    Arc::new(Publication::new(channel, offset.map(at), None, key.map(Into::into), body))
}

const fn at(offset: u64) -> Position {
    Position { epoch: Epoch::new(7), offset }
}
