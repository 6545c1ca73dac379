//! What the tests of the embedded broker share: rules, messages, and reading a whole history.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate::broker::{Embedded, EmbeddedSettings};
use tidegate_core::broker::{Broker, BrokerError, HistoryError, Page, PageLimit, Published, contract};
use tidegate_core::message::{Publish, Since};
use tidegate_core::{Body, ChannelKind, ChannelName, ChannelRule, Publication, Retention};

pub(crate) const PLENTY: PageLimit = PageLimit { messages: 100_000, bytes: 1 << 30 };

pub(crate) fn name(text: &str) -> ChannelName {
    ChannelName::new(text).expect("a valid name")
}

pub(crate) fn log_rule(messages: u64) -> ChannelRule {
    ChannelRule { retention: Retention { messages, age: Duration::from_secs(3600), bytes: 1 << 40 }, ..contract::rule(ChannelKind::Log) }
}

pub(crate) fn state_rule(messages: u64) -> ChannelRule {
    ChannelRule { kind: ChannelKind::State, ..log_rule(messages) }
}

pub(crate) fn message(channel: &ChannelName, id: Option<&str>, data: impl Into<Bytes>) -> Publish {
    Publish { channel: channel.clone(), message_id: id.map(Into::into), key: None, body: Body::Data(data.into()) }
}

pub(crate) fn set(channel: &ChannelName, key: &str, data: impl Into<Bytes>) -> Publish {
    Publish { key: Some(key.into()), ..message(channel, None, data) }
}

pub(crate) fn delete(channel: &ChannelName, key: &str) -> Publish {
    Publish { channel: channel.clone(), message_id: None, key: Some(key.into()), body: Body::Deleted }
}

/// Opens it on a thread that may block.
pub(crate) async fn open(settings: EmbeddedSettings) -> Embedded {
    tokio::task::spawn_blocking(move || Embedded::open(settings).expect("opens")).await.expect("no panic")
}

pub(crate) async fn reopen(broker: Embedded, settings: EmbeddedSettings) -> Embedded {
    tokio::task::spawn_blocking(move || {
        drop(broker);
        Embedded::open(settings).expect("opens again")
    })
    .await
    .expect("no panic")
}

pub(crate) async fn publish(broker: &Embedded, rule: &ChannelRule, publish: Publish) -> Result<Published, BrokerError> {
    tokio::time::timeout(Duration::from_secs(20), broker.publish(rule, publish)).await.expect("answered in time")
}

/// Reads page by page to the end.
pub(crate) async fn read_all(
    broker: &Embedded,
    rule: &ChannelRule,
    channel: &ChannelName,
    since: Since,
    limit: PageLimit,
) -> Result<(Page, Vec<Arc<Publication>>), HistoryError> {
    let first = broker.history(rule, channel, since, limit).await?;
    let (mut all, mut page) = (first.messages.clone(), first.clone());
    while page.more {
        let last = page.messages.last().and_then(|message| message.position).expect("a page with more has a last message");
        page = broker.history(rule, channel, Since::Position(last), limit).await?;
        all.extend(page.messages.iter().cloned());
    }
    Ok((first, all))
}

pub(crate) fn data(publication: &Publication) -> &[u8] {
    match &publication.body {
        Body::Data(data) => data,
        Body::Deleted => b"(deleted)",
    }
}
