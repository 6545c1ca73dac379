//! Publishes as the log's thread gets them: one message, or several in their order, and where their publisher waits.

use std::sync::Arc;

use tidegate_core::broker::{BrokerError, Published, Sequence};
use tidegate_core::message::Publish;
use tidegate_core::{Body, MessageId, Publication};
use tokio::sync::oneshot;

use super::channel::Channel;
use super::shared::Shared;
use super::terms::Terms;

/// Publishes that wait for their answer. All of them are in the same batch.
pub(super) struct Request {
    pub(super) terms: Terms,
    pub(super) wish: Wish,
}

pub(super) enum Wish {
    One(Message, oneshot::Sender<Outcome>),
    /// They stand or fall in their order.
    All(Vec<Message>, Arc<Sequence>, oneshot::Sender<Vec<Outcome>>),
}

/// A message that has no offset yet.
pub(super) struct Message {
    pub(super) publish: Publish,
    /// Its channel, if that was there when the publisher looked. It may be forgotten since.
    pub(super) channel: Option<Arc<Channel>>,
    /// The hash of its id.
    pub(super) id: Option<u128>,
}

/// What became of a publish.
pub(super) type Outcome = Result<Published, BrokerError>;

/// What a message takes besides its bytes.
const MESSAGE_COST: usize = 256;

impl Request {
    pub(super) fn messages(&self) -> &[Message] {
        match &self.wish {
            Wish::One(message, _) => std::slice::from_ref(message),
            Wish::All(messages, ..) => messages,
        }
    }

    pub(super) fn is_given_up(&self) -> bool {
        match &self.wish {
            Wish::One(_, answer) => answer.is_closed(),
            Wish::All(_, _, answer) => answer.is_closed(),
        }
    }

    /// Nothing of its sequence may follow.
    pub(super) fn break_off(&self) {
        if let Wish::All(_, sequence, _) = &self.wish {
            sequence.break_off();
        }
    }

    /// Answers that nothing of it was stored.
    pub(super) fn refuse(self, error: &BrokerError) {
        self.break_off();
        match self.wish {
            Wish::One(_, answer) => drop(answer.send(Err(error.clone()))),
            Wish::All(messages, _, answer) => drop(answer.send(vec![Err(error.clone()); messages.len()])),
        }
    }

    pub(super) fn cost(&self) -> usize {
        self.messages().iter().map(Message::cost).sum()
    }
}

impl Message {
    /// What needs no order is done by the publisher: there are many of them, and one log.
    pub(super) fn new(publish: Publish, shared: &Shared) -> Self {
        let channel = shared.channels.get(&publish.channel);
        Self { id: shared.hasher.of(&publish), publish, channel }
    }

    /// The same for several: neighbours on one channel look for it once.
    pub(super) fn all(publishes: Vec<Publish>, shared: &Shared) -> Vec<Self> {
        let mut messages: Vec<Self> = Vec::with_capacity(publishes.len());
        for publish in publishes {
            let message = match messages.last() {
                Some(last) if last.publish.channel == publish.channel => {
                    Self { id: shared.hasher.of(&publish), channel: last.channel.clone(), publish }
                }
                _ => Self::new(publish, shared),
            };
            messages.push(message);
        }
        messages
    }

    fn cost(&self) -> usize {
        // The costs of a publication are those of what it is made from.
        let Publish { message_id, key, body, .. } = &self.publish;
        let texts = message_id.as_ref().map_or(0, MessageId::len) + key.as_ref().map_or(0, |key| key.len());
        let data = match body {
            Body::Data(data) => data.len(),
            Body::Deleted => 0,
        };
        // Twice: in the queue and in the batch.
        size_of::<Publication>() + MESSAGE_COST + 2 * (texts + data)
    }
}

/// Cuts them where a batch would be full.
pub(super) fn pieces(mut messages: Vec<Message>, batch_bytes: usize) -> Vec<Vec<Message>> {
    let (mut ends, mut bytes) = (Vec::new(), 0);
    for (at, message) in messages.iter().enumerate() {
        bytes += message.cost();
        if bytes >= batch_bytes {
            ends.push(at + 1);
            bytes = 0;
        }
    }
    let mut pieces: Vec<Vec<Message>> = ends.into_iter().rev().map(|end| messages.split_off(end)).collect();
    pieces.push(messages);
    pieces.reverse();
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;
    use tidegate_core::ChannelName;

    use super::*;

    pub(crate) fn message(number: usize) -> Message {
        let data = Body::Data(Bytes::from(vec![b'x'; 1000]));
        let id = Some(number.to_string().into());
        Message {
            publish: Publish { channel: ChannelName::new("a").unwrap(), message_id: id, key: None, body: data },
            channel: None,
            id: None,
        }
    }

    pub(crate) fn numbers<'a>(messages: impl IntoIterator<Item = &'a Message>) -> Vec<usize> {
        messages.into_iter().map(|message| message.publish.message_id.as_ref().unwrap().parse().unwrap()).collect()
    }

    #[test]
    fn a_piece_is_not_more_than_a_batch_and_one_message() {
        // Full with the fourth.
        let batch_bytes = 3 * message(10).cost() + 1;
        for count in 0..20 {
            let pieces = pieces((10..10 + count).map(message).collect(), batch_bytes);
            assert_eq!(numbers(pieces.iter().flatten()), (10..10 + count).collect::<Vec<_>>());
            assert!(pieces.iter().all(|piece| (1..=4).contains(&piece.len())), "{:?}", pieces.iter().map(Vec::len).collect::<Vec<_>>());
            assert_eq!(pieces.len(), count.div_ceil(4));
        }
    }
}
