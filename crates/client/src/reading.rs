//! What the protocol's model is to a program: messages, snapshots and gaps with texts and JSON in them.

use std::sync::Arc;

use serde_json::value::RawValue;
use tidegate_core::message;
use tidegate_core::{Body, ChannelName, Position, Publication};

use crate::event::{Cursor, Entry, Gap, Message, Published, Since, Snapshot};

pub(crate) fn publication(publication: Publication) -> Message {
    let Publication { channel, position, id, key, body, .. } = publication;
    let deleted = body == Body::Deleted;
    Message {
        channel: text(&channel),
        offset: position.map(|position| position.offset),
        id: id.map(Into::into),
        key,
        data: data(&body),
        deleted,
    }
}

pub(crate) fn snapshot(channel: &ChannelName, position: Position, entries: &[Arc<Publication>]) -> Snapshot {
    let entry =
        |entry: &Arc<Publication>| Entry { key: entry.key.clone().unwrap_or_default(), offset: entry.offset(), data: data(&entry.body) };
    Snapshot {
        channel: text(channel),
        epoch: position.epoch.to_string().into(),
        offset: position.offset,
        entries: entries.iter().map(entry).collect(),
    }
}

pub(crate) fn gap(gap: &message::Gap) -> Gap {
    let (from, to) = gap.range.unzip();
    Gap { channel: text(&gap.channel), missed: gap.missed, from, to, reason: gap.reason.name().into() }
}

pub(crate) fn published(position: Option<Position>, duplicate: bool) -> Published {
    let (epoch, offset) = position.map(|position| (position.epoch.to_string().into(), position.offset)).unzip();
    Published { epoch, offset, duplicate }
}

/// JSON as a value that a program can pass on. What the wire has read is JSON.
pub(crate) fn json(bytes: &[u8]) -> Box<RawValue> {
    serde_json::from_slice(bytes).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

fn data(body: &Body) -> Box<RawValue> {
    match body {
        Body::Data(data) => json(data),
        Body::Deleted => RawValue::NULL.to_owned(),
    }
}

fn text(channel: &ChannelName) -> Box<str> {
    channel.as_str().into()
}

impl From<Position> for Cursor {
    fn from(position: Position) -> Self {
        Self { epoch: position.epoch.to_string().into(), offset: position.offset }
    }
}

impl From<&Since> for message::Since {
    fn from(since: &Since) -> Self {
        match since {
            Since::Earliest => Self::Earliest,
            Since::Last(count) => Self::Last(*count),
            Since::Position(Cursor { epoch, offset }) => {
                // An epoch that no server of ours gave matches none: then the server tells the gap.
                let Ok(epoch) = epoch.parse();
                Self::Position(Position { epoch, offset: *offset })
            }
        }
    }
}
