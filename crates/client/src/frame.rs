//! The JSON dialect as a client sees it: frames of the server read, frames of the client written.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use tidegate_core::ChannelKind;

use crate::client::Credential;
use crate::event::{Cursor, Entry, Gap, Message, Snapshot};

/// What a server says.
#[derive(Debug)]
pub(crate) enum Frame {
    Challenge,
    Welcome(Welcome),
    Subscribed {
        id: u64,
        channel: Box<str>,
        kind: ChannelKind,
        position: Option<Cursor>,
        recovery_none: bool,
    },
    Message(Message),
    Live {
        channel: Box<str>,
        offset: Option<u64>,
    },
    Snapshot {
        snapshot: Snapshot,
        more: bool,
    },
    Gap {
        gap: Gap,
        position: Option<Cursor>,
    },
    Unsubscribed {
        channel: Box<str>,
        code: Box<str>,
        retry_after_ms: Option<u64>,
    },
    Done {
        id: u64,
        reply: Reply,
    },
    Refused {
        id: Option<u64>,
        code: Box<str>,
        message: Box<str>,
        retry_after_ms: Option<u64>,
    },
    Ping {
        n: Option<Box<RawValue>>,
    },
    Pong,
    Reauth {
        reason: Box<str>,
    },
    GoingAway {
        reconnect_after_ms: u64,
        handover: Option<Box<str>>,
    },
    /// Of a later version: ignored.
    Unknown,
}

/// What a command that was done answers.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Ok,
    Published(crate::event::Published),
    Response(Box<RawValue>),
}

/// What a `welcome` agrees on.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Welcome {
    pub(crate) heartbeat: Heartbeat,
    pub(crate) limits: Limits,
    pub(crate) reconnect: Reconnect,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Heartbeat {
    pub(crate) dead_ms: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Limits {
    pub(crate) message_bytes: usize,
    pub(crate) in_flight: usize,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Reconnect {
    pub(crate) window_ms: u64,
    pub(crate) base_ms: u64,
    pub(crate) cap_ms: u64,
}

impl Default for Welcome {
    /// Until a `welcome` says otherwise: the server's own defaults.
    fn default() -> Self {
        Self {
            heartbeat: Heartbeat { dead_ms: 62_500 },
            limits: Limits { message_bytes: 64 * 1024, in_flight: 32 },
            reconnect: Reconnect { window_ms: 8000, base_ms: 1000, cap_ms: 60_000 },
        }
    }
}

/// What a client says.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Say<'a> {
    Auth {
        id: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        token: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        ticket: Option<&'a str>,
    },
    Subscribe {
        id: u64,
        channel: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        since: Option<Start<'a>>,
    },
    Unsubscribe {
        id: u64,
        channel: &'a str,
    },
    Publish {
        id: u64,
        channel: &'a str,
        message_id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        key: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<&'a RawValue>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        deleted: bool,
    },
    Request {
        id: u64,
        method: &'a str,
        data: &'a RawValue,
    },
    Pong {
        #[serde(skip_serializing_if = "Option::is_none")]
        n: Option<&'a RawValue>,
    },
}

/// `since`.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Start<'a> {
    Position(&'a Cursor),
    Earliest(&'static str),
    Last { last: u64 },
}

impl<'a> Say<'a> {
    pub(crate) fn of(credential: &'a Credential, id: u64) -> Self {
        match credential {
            Credential::Token(token) => Self::Auth { id, token: Some(token), ticket: None },
            Credential::Ticket(ticket) => Self::Auth { id, token: None, ticket: Some(ticket) },
        }
    }

    pub(crate) fn encode(&self) -> String {
        // Texts, numbers and JSON: there is nothing in it that can't be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Reads a text: one object, or an array of objects.
///
/// # Errors
/// Says what is wrong with it.
pub(crate) fn decode(text: &str) -> Result<Vec<Frame>, String> {
    if text.trim_start().starts_with('[') {
        let objects: Vec<&RawValue> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        return objects.into_iter().map(|object| one(object.get())).collect();
    }
    Ok(vec![one(text)?])
}

/// Every field of every frame. Unknown ones are ignored.
#[derive(Deserialize)]
struct Fields<'a> {
    r#type: Cow<'a, str>,
    #[serde(default)]
    id: Option<Id>,
    channel: Option<Box<str>>,
    kind: Option<Box<str>>,
    position: Option<Place>,
    recovery: Option<Box<str>>,
    offset: Option<u64>,
    key: Option<Box<str>>,
    #[serde(default, borrow, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(default)]
    deleted: bool,
    epoch: Option<Box<str>>,
    entries: Option<Vec<Entry>>,
    #[serde(default)]
    more: bool,
    missed: Option<u64>,
    from: Option<u64>,
    to: Option<u64>,
    reason: Option<Box<str>>,
    code: Option<Box<str>>,
    message: Option<Box<str>>,
    retry_after_ms: Option<u64>,
    #[serde(default)]
    duplicate: bool,
    #[serde(default, borrow, deserialize_with = "present")]
    n: Option<&'a RawValue>,
    reconnect_after_ms: Option<u64>,
    handover: Option<Box<str>>,
}

/// A command's number, or a message's name.
#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Number(u64),
    Name(Box<str>),
}

#[derive(Deserialize)]
struct Place {
    epoch: Box<str>,
    offset: u64,
}

/// A value that is `null` is there all the same.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

fn one(text: &str) -> Result<Frame, String> {
    let fields: Fields<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let kind = fields.r#type.clone();
    Ok(match &*kind {
        "welcome" => Frame::Welcome(serde_json::from_str(text).map_err(|error| error.to_string())?),
        "challenge" => Frame::Challenge,
        "ping" => Frame::Ping { n: fields.n.map(ToOwned::to_owned) },
        "pong" => Frame::Pong,
        "reauth" => Frame::Reauth { reason: need(fields.reason, "reason")? },
        "going_away" => Frame::GoingAway { reconnect_after_ms: fields.reconnect_after_ms.unwrap_or(0), handover: fields.handover },
        "message" | "subscribed" | "live" | "snapshot" | "gap" | "unsubscribed" => of_channel(&kind, fields)?,
        "ok" | "published" | "response" | "error" => reply(&kind, fields)?,
        _ => Frame::Unknown,
    })
}

fn of_channel(kind: &str, fields: Fields<'_>) -> Result<Frame, String> {
    let channel = need(fields.channel, "channel")?;
    let position = fields.position.map(|place| Cursor { epoch: place.epoch, offset: place.offset });
    Ok(match kind {
        "message" => {
            let id = match fields.id {
                Some(Id::Name(name)) => Some(name),
                Some(Id::Number(_)) | None => None,
            };
            let data = fields.data.map(ToOwned::to_owned);
            let data = if fields.deleted { data.unwrap_or_else(|| RawValue::NULL.to_owned()) } else { need(data, "data")? };
            Frame::Message(Message { channel, offset: fields.offset, id, key: fields.key, data, deleted: fields.deleted })
        }
        "subscribed" => Frame::Subscribed {
            id: number(fields.id)?.ok_or("subscribed has no id")?,
            channel,
            kind: channel_kind(&need(fields.kind, "kind")?)?,
            position,
            recovery_none: fields.recovery.as_deref() == Some("none"),
        },
        "live" => Frame::Live { channel, offset: fields.offset },
        "snapshot" => {
            let (epoch, offset) = (need(fields.epoch, "epoch")?, need(fields.offset, "offset")?);
            let snapshot = Snapshot { channel, epoch, offset, entries: need(fields.entries, "entries")? };
            Frame::Snapshot { snapshot, more: fields.more }
        }
        "gap" => {
            let reason = need(fields.reason, "reason")?;
            Frame::Gap { gap: Gap { channel, missed: fields.missed, from: fields.from, to: fields.to, reason }, position }
        }
        _ => Frame::Unsubscribed { channel, code: need(fields.code, "code")?, retry_after_ms: fields.retry_after_ms },
    })
}

fn reply(kind: &str, fields: Fields<'_>) -> Result<Frame, String> {
    let id = number(fields.id)?;
    if kind == "error" {
        let (code, message) = (need(fields.code, "code")?, fields.message.unwrap_or_default());
        return Ok(Frame::Refused { id, code, message, retry_after_ms: fields.retry_after_ms });
    }
    let reply = match kind {
        "published" => {
            Reply::Published(crate::event::Published { epoch: fields.epoch, offset: fields.offset, duplicate: fields.duplicate })
        }
        "response" => Reply::Response(need(fields.data, "data")?.to_owned()),
        _ => Reply::Ok,
    };
    Ok(Frame::Done { id: need(id, "id")?, reply })
}

fn need<T>(field: Option<T>, name: &str) -> Result<T, String> {
    field.ok_or_else(|| format!("{name} is missing"))
}

fn number(id: Option<Id>) -> Result<Option<u64>, String> {
    match id {
        Some(Id::Number(number)) => Ok(Some(number)),
        Some(Id::Name(_)) => Err("id is not a number".to_owned()),
        None => Ok(None),
    }
}

fn channel_kind(name: &str) -> Result<ChannelKind, String> {
    [ChannelKind::Event, ChannelKind::Log, ChannelKind::State]
        .into_iter()
        .find(|kind| kind.name() == name)
        .ok_or_else(|| format!("no kind of channel: {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_data_is_data() {
        let frames = decode(r#"{"type":"message","channel":"a","data":null}"#).unwrap();
        let [Frame::Message(message)] = &frames[..] else { panic!("{frames:?}") };
        assert_eq!(message.data.get(), "null");
        assert!(decode(r#"{"type":"message","channel":"a"}"#).is_err());
    }

    #[test]
    fn data_passes_byte_for_byte() {
        let frames = decode(r#"[{"type":"message","channel":"a","data": {"b" : 1.50}},{"type":"new in version 2"}]"#).unwrap();
        assert!(matches!(&frames[0], Frame::Message(message) if message.data.get() == r#"{"b" : 1.50}"#));
        assert!(matches!(frames[1], Frame::Unknown));
    }
}
