//! A subscription: a stream of what happens on a channel.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use tidegate_core::{ChannelKind, ChannelName, Position};
use tokio::sync::mpsc;

use crate::client::Client;
use crate::driver::Order;
use crate::error::Stop;
use crate::event::{Cursor, Event, Since};

/// Events that wait for a program that does not take them. Past that nothing is read from the socket, and the server lets the
/// client catch up at its own pace.
const CAPACITY: usize = 256;

/// An event, and where the subscription is after it if that has changed.
pub(crate) type Told = (Event, Option<Position>);

/// What a subscription is made from.
#[derive(Debug)]
pub struct SubscribeBuilder {
    client: Client,
    channel: Box<str>,
    kind: Option<ChannelKind>,
    since: Option<Since>,
}

impl SubscribeBuilder {
    pub(crate) const fn new(client: Client, channel: Box<str>, kind: Option<ChannelKind>) -> Self {
        Self { client, channel, kind, since: None }
    }

    /// From where it starts. Without it: what is published from now on, and the snapshot of `state` channels.
    #[must_use]
    pub fn since(mut self, since: Since) -> Self {
        self.since = Some(since);
        self
    }

    /// Subscribes. The client has one subscription a channel; a second ends at once, and so does one whose channel has no name
    /// that a channel can have.
    pub fn subscribe(self) -> Subscription {
        let (events, received) = mpsc::channel(CAPACITY);
        let reference = self.client.next_reference();
        let Self { client, channel, kind, since } = self;
        let cursor = match &since {
            Some(Since::Position(cursor)) => Some(cursor.clone()),
            _ => None,
        };
        match ChannelName::new(&channel) {
            Ok(channel) => {
                let since = since.as_ref().map(Into::into);
                client.order(Order::Subscribe { reference, channel, kind, since, events });
            }
            Err(problem) => {
                let stop = Stop { code: None, reason: format!("bad_request: {channel:?}: {problem}").into() };
                // The stream is new: there is room for its only event.
                drop(events.try_send((Event::Stopped(stop), None)));
            }
        }
        Subscription { client, reference, received, cursor }
    }
}

/// A stream of what happens on a channel, across reconnects. It ends after [`Event::Stopped`]. Dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    client: Client,
    reference: u64,
    received: mpsc::Receiver<Told>,
    cursor: Option<Cursor>,
}

impl Subscription {
    /// Where it is after the last event that was taken: what [`Since::Position`] wants to go on from there in another life.
    pub const fn cursor(&self) -> Option<&Cursor> {
        self.cursor.as_ref()
    }

    /// The next event, as from the stream.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for Subscription {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.received.poll_recv(context).map(|told| {
            let (event, cursor) = told?;
            if let Some(cursor) = cursor {
                self.cursor = Some(cursor.into());
            }
            Some(event)
        })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.client.order(Order::Unsubscribe { reference: self.reference });
    }
}
