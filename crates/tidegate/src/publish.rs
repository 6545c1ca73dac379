//! Publishing: from a channel's name and some data to a position, or to an error that says whose fault it is.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use serde::Serialize;
use tidegate_core::broker::{Broker, BrokerError, Published, Sequence};
use tidegate_core::message::Publish;
use tidegate_core::{Body, ChannelName, ChannelRule, ErrorCode, InvalidChannel, Overflow};
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

    /// Publishes a message as it is: with its id, by which repetitions are recognised, and its key on `state` channels.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn send(&self, publish: Publish) -> Result<Published, PublishError> {
        self.room(&publish.channel).await;
        self.send_one(None, publish).await
    }

    /// The same for one of many whose order holds also when one of them fails: those behind it are refused then. It is with the broker
    /// once the future was polled, and so does not wait for room: see [`Publisher::room`].
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn send_in(&self, sequence: &Arc<Sequence>, publish: Publish) -> Result<Published, PublishError> {
        self.send_one(Some(sequence), publish).await
    }

    async fn send_one(&self, sequence: Option<&Arc<Sequence>>, publish: Publish) -> Result<Published, PublishError> {
        let session = Arc::clone(&self.config.load().session);
        let rule = session.rule(&publish.channel).ok_or_else(|| PublishError::UnknownChannel(publish.channel.clone()))?;
        let limit = session.limits.message_bytes;
        match &publish.body {
            Body::Data(data) if data.len() > limit => Err(PublishError::TooLarge { bytes: data.len(), limit }),
            Body::Data(_) | Body::Deleted => Ok(self.publish_by(sequence, rule, publish).await?),
        }
    }

    /// Waits until no subscriber of a channel whose publishers wait for them (`pause`) is full. On other channels there is always room.
    pub async fn room(&self, channel: &ChannelName) {
        let session = Arc::clone(&self.config.load().session);
        if session.rule(channel).is_some_and(|rule| rule.overflow == Overflow::Pause) {
            self.fanout.room_in(channel).await;
        }
    }

    /// Publishes on a channel whose rule and authority have been looked up: it is with the broker once this was polled.
    pub(crate) async fn publish_by(
        &self,
        sequence: Option<&Arc<Sequence>>,
        rule: &ChannelRule,
        mut publish: Publish,
    ) -> Result<Published, BrokerError> {
        let channel = publish.channel.clone();
        publish.message_id.get_or_insert_with(|| Ulid::new().to_string().into());
        let published = match sequence {
            Some(sequence) => self.broker.publish_in(sequence, rule, publish).await?,
            None => self.broker.publish(rule, publish).await?,
        };
        self.metrics.published(rule.kind, published.duplicate);
        self.fanout.keep_pace(&channel, rule.overflow == Overflow::Pause).await;
        Ok(published)
    }
}
