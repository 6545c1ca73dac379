//! What a publish asks for besides its message, and what the log can't take at all.

use tidegate_core::broker::BrokerError;
use tidegate_core::message::Publish;
use tidegate_core::{Body, ChannelKind, ChannelRule, Retention};

use super::record::RECORD_MAX;

/// What a publish asks for, apart from the message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) kind: ChannelKind,
    pub(super) retention: Retention,
}

impl Terms {
    pub(super) const fn of(rule: &ChannelRule) -> Self {
        Self { kind: rule.kind, retention: rule.retention }
    }
}

/// Refuses what does not fit the kind or the log's format.
pub(super) fn check(kind: ChannelKind, publish: &Publish) -> Result<(), BrokerError> {
    const TEXT_MAX: usize = u16::MAX as usize;
    let invalid = |field, problem| Err(BrokerError::Invalid { field, problem });
    if kind == ChannelKind::State && publish.key.is_none() {
        return invalid("key", "a message of a state channel has one");
    }
    if kind != ChannelKind::State && publish.body == Body::Deleted {
        return invalid("deleted", "only a key of a state channel can be deleted");
    }
    if publish.message_id.as_ref().is_some_and(|id| id.len() > TEXT_MAX) {
        return invalid("message_id", "is longer than 65535 bytes");
    }
    if publish.key.as_ref().is_some_and(|key| key.len() > TEXT_MAX) {
        return invalid("key", "is longer than 65535 bytes");
    }
    match &publish.body {
        Body::Data(data) if data.len() > RECORD_MAX - 256 * 1024 => invalid("data", "is longer than the log's records can be"),
        Body::Data(_) | Body::Deleted => Ok(()),
    }
}
