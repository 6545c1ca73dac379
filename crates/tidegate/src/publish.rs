//! Publishing: from a channel's name and some data to a position, or to an error that says whose fault it is.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::join_all;
use serde::Serialize;
use tidegate_core::broker::{Broker, BrokerError, Published, Sequence};
use tidegate_core::message::Publish;
use tidegate_core::{Body, ChannelName, ChannelRule, DRAWN_BYTES, ErrorCode, InvalidChannel, MessageId, Overflow, SessionSettings};
use tokio::sync::oneshot;
use ulid::Ulid;

use crate::hub::FanOut;
use crate::metrics::Metrics;
use crate::settings::Config;

/// The way in for everyone who publishes: the API, the embedder, the sessions. Clones are cheap and the same.
#[derive(Clone)]
pub struct Publisher {
    broker: Arc<dyn Broker>,
    fanout: Arc<FanOut>,
    metrics: Arc<Metrics>,
    config: Arc<ArcSwap<Config>>,
}

/// Why a message was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// `channel` is not a channel's name.
    #[error("channel: {0}")]
    Channel(#[from] InvalidChannel),
    /// No `[[channel]]` rule matches it.
    #[error("channel: no rule matches {0}")]
    UnknownChannel(ChannelName),
    /// `data` can't be written as JSON.
    #[error("data: {0}")]
    Data(#[from] serde_json::Error),
    /// `data` is larger than a message may be (`limits.message`).
    #[error("data: {bytes} bytes, and a message has at most {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The broker did not take it.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

impl PublishError {
    /// The protocol's code for it.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Channel(_) | Self::Data(_) | Self::Broker(BrokerError::Invalid { .. }) => ErrorCode::BadRequest,
            Self::UnknownChannel(_) => ErrorCode::UnknownChannel,
            Self::TooLarge { .. } => ErrorCode::TooLarge,
            Self::Broker(BrokerError::Limit(_)) => ErrorCode::LimitExceeded,
            Self::Broker(BrokerError::Unavailable(_) | BrokerError::Closed) => ErrorCode::Unavailable,
        }
    }
}

impl Publisher {
    pub(crate) const fn new(broker: Arc<dyn Broker>, fanout: Arc<FanOut>, metrics: Arc<Metrics>, config: Arc<ArcSwap<Config>>) -> Self {
        Self { broker, fanout, metrics, config }
    }

    /// Publishes something that can be written as JSON. The answer comes when it is as durable as the broker promises.
    ///
    /// # Errors
    /// See [`PublishError`]; nothing was published then, unless the broker failed half-way ([`BrokerError::Unavailable`]), in
    /// which case a repetition needs a message id ([`Publisher::send`]) to be safe.
    pub async fn publish(&self, channel: &str, data: &(impl Serialize + ?Sized)) -> Result<Published, PublishError> {
        let channel = ChannelName::new(channel)?;
        let data = Bytes::from(serde_json::to_vec(data)?);
        self.send(Publish { channel, message_id: None, key: None, body: Body::Data(data) }).await
    }

    /// Publishes a message as it is: with its id, by which repetitions are recognised, and its key on `state` channels. Waits for
    /// [room](Publisher::room) before and keeps [pace](Pace) after it, for as long as it takes.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn send(&self, publish: Publish) -> Result<Published, PublishError> {
        self.room(&publish.channel).await;
        let (published, pace) = self.store(publish).await?;
        pace.await;
        Ok(published)
    }

    /// The broker's part of [`Publisher::send`] alone, for who gives it a deadline. [`Publisher::room`] comes before it, and what it
    /// gives is to be awaited before the next.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn store(&self, publish: Publish) -> Result<(Published, Pace), PublishError> {
        let session = Arc::clone(&self.config.load().session);
        let rule = check(&session, &publish)?;
        Ok(self.store_by(rule, publish).await?)
    }

    /// The same for several of a longer sequence, whose order holds also when one of them fails: those behind it are refused then. Gives
    /// an outcome for each, in their order, when the last is known. They are with the broker once the future was polled.
    pub async fn store_all(&self, sequence: &Arc<Sequence>, publishes: Vec<Publish>) -> (Vec<Result<Published, PublishError>>, Pace) {
        let session = Arc::clone(&self.config.load().session);
        let (mut outcomes, mut pace) = (Vec::with_capacity(publishes.len()), Pace::default());
        // Joined futures are first polled in their order, and so stand in line in it.
        let runs = runs(&session, publishes).into_iter().map(|run| self.store_run(sequence, run));
        for (some, their_pace) in join_all(runs).await {
            outcomes.extend(some);
            pace.0.extend(their_pace.0);
        }
        (outcomes, pace)
    }

    async fn store_run(&self, sequence: &Arc<Sequence>, run: Run<'_>) -> (Vec<Result<Published, PublishError>>, Pace) {
        let (rule, mut publishes) = match run {
            Run::Refused(error) => return (vec![Err(error)], Pace::default()),
            Run::Of(rule, publishes) => (rule, publishes),
        };
        name(&mut publishes);
        let channels: Vec<ChannelName> =
            publishes.chunk_by(|one, next| one.channel == next.channel).map(|neighbours| neighbours[0].channel.clone()).collect();
        let outcomes = self.broker.publish_all(sequence, rule, publishes).await;
        let (new, repeated) = outcomes.iter().flatten().fold((0, 0), |(new, repeated), published| match published.duplicate {
            true => (new, repeated + 1),
            false => (new + 1, repeated),
        });
        self.metrics.published(rule.kind, new, repeated);
        (outcomes.into_iter().map(|outcome| outcome.map_err(PublishError::from)).collect(), self.pace(rule, &channels))
    }

    /// Waits until no subscriber of a channel whose publishers wait for them (`pause`) is full. On other channels there is always room.
    pub async fn room(&self, channel: &ChannelName) {
        let session = Arc::clone(&self.config.load().session);
        if session.rule(channel).is_some_and(|rule| rule.overflow == Overflow::Pause) {
            self.fanout.room_in(channel).await;
        }
    }

    /// Publishes on a channel whose rule and authority have been looked up: it is with the broker once this was polled.
    pub(crate) async fn store_by(&self, rule: &ChannelRule, mut publish: Publish) -> Result<(Published, Pace), BrokerError> {
        let channel = publish.channel.clone();
        name(std::slice::from_mut(&mut publish));
        let published = self.broker.publish(rule, publish).await?;
        self.metrics.published(rule.kind, u64::from(!published.duplicate), u64::from(published.duplicate));
        Ok((published, self.pace(rule, std::slice::from_ref(&channel))))
    }

    fn pace(&self, rule: &ChannelRule, channels: &[ChannelName]) -> Pace {
        Pace(channels.iter().filter_map(|channel| self.fanout.pace(channel, rule.overflow == Overflow::Pause)).collect())
    }
}

/// A future that ends when the subscribers of a channel have nearly caught up with what it was given until a publish, or all of it on
/// a `pause` channel: it is what keeps publishers from running ahead of them. It lasts as long as a fan-out does; no subscriber can hold
/// it up.
#[derive(Debug, Default)]
#[must_use = "a publisher that does not wait for it may run ahead of the subscribers"]
pub struct Pace(Vec<oneshot::Receiver<()>>);

impl Future for Pace {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        while let Some(last) = self.0.last_mut() {
            // Its end is all that is waited for.
            let _ = ready!(Pin::new(last).poll(context));
            self.0.pop();
        }
        Poll::Ready(())
    }
}

/// Publishes that go to the broker together, or one that does not go.
enum Run<'a> {
    Of(&'a ChannelRule, Vec<Publish>),
    Refused(PublishError),
}

/// Neighbours of one rule go together.
fn runs(session: &SessionSettings, publishes: Vec<Publish>) -> Vec<Run<'_>> {
    let mut runs = Vec::with_capacity(1);
    let total = publishes.len();
    for publish in publishes {
        let neighbour = match runs.last() {
            Some(Run::Of(rule, run)) if run.last().is_some_and(|last| last.channel == publish.channel) => Some(*rule),
            _ => None,
        };
        let checked = match neighbour {
            Some(rule) => check_size(session, &publish).map(|()| rule),
            None => check(session, &publish),
        };
        match (checked, runs.last_mut()) {
            (Ok(rule), Some(Run::Of(last, run))) if std::ptr::eq(rule, *last) => run.push(publish),
            (Ok(rule), _) => {
                let mut run = Vec::with_capacity(if runs.is_empty() { total } else { 1 });
                run.push(publish);
                runs.push(Run::Of(rule, run));
            }
            (Err(error), _) => runs.push(Run::Refused(error)),
        }
    }
    runs
}

/// The rule of the channel, if the message is no larger than one may be.
fn check<'a>(session: &'a SessionSettings, publish: &Publish) -> Result<&'a ChannelRule, PublishError> {
    let rule = session.rule(&publish.channel).ok_or_else(|| PublishError::UnknownChannel(publish.channel.clone()))?;
    check_size(session, publish)?;
    Ok(rule)
}

const fn check_size(session: &SessionSettings, publish: &Publish) -> Result<(), PublishError> {
    let limit = session.limits.message_bytes;
    match &publish.body {
        Body::Data(data) if data.len() > limit => Err(PublishError::TooLarge { bytes: data.len(), limit }),
        Body::Data(_) | Body::Deleted => Ok(()),
    }
}

/// Gives each message that has no id one. Those of one call differ by a count behind the same randomness. One that comes with an id is to be found
/// by it, also if it was drawn for a message that somebody passes on.
fn name(publishes: &mut [Publish]) {
    let mut last: Option<Ulid> = None;
    for publish in publishes {
        if let Some(id) = publish.message_id.take() {
            publish.message_id = Some(id.given());
            continue;
        }
        let id = match last.as_ref().and_then(Ulid::increment) {
            Some(id) => id,
            None => Ulid::new(),
        };
        last = Some(id);
        let mut text = [0; DRAWN_BYTES];
        id.array_to_str(&mut text);
        publish.message_id = Some(MessageId::drawn(&text));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_message_without_an_id_gets_one_of_its_own() {
        let publish = |id: Option<&str>| {
            let channel = ChannelName::new("a").unwrap();
            Publish { channel, message_id: id.map(Into::into), key: None, body: Body::Data(Bytes::new()) }
        };
        let mut passed_on = [publish(None)];
        name(&mut passed_on);
        let drawn = passed_on[0].message_id.clone();
        name(&mut passed_on);
        assert!(
            drawn.as_ref().unwrap().is_drawn() && !passed_on[0].message_id.as_ref().unwrap().is_drawn() && drawn == passed_on[0].message_id
        );
        let mut publishes: Vec<Publish> = (0..200).map(|number| publish((number == 7).then_some("mine"))).collect();
        publishes.chunks_mut(50).for_each(name);
        let ids: HashSet<_> = publishes.iter().map(|publish| publish.message_id.clone().unwrap()).collect();
        assert_eq!((ids.len(), publishes[7].message_id.as_deref()), (200, Some("mine")));
        assert!(ids.iter().all(|id| id.as_str() == "mine" || Ulid::from_string(id).is_ok_and(|id| !id.is_nil())));
    }
}
