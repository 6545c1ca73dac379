//! What a client says. Known fields are read, unknown ones ignored; what is wrong is named.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use smallvec::SmallVec;
use tidegate_core::message::{ClientMessage, CommandId, Credential, Publish, Since};
use tidegate_core::{Body, ChannelName, Epoch, Position};

/// Largest whole number that every JSON reader keeps exactly.
const NUMBER_MAX: u64 = (1 << 53) - 1;

/// Message ids, keys, methods and the `n` of a ping: long enough for a UUID with a name before it, short enough to index.
const NAME_BYTES_MAX: usize = 255;

/// Tokens and signatures; what identity providers issue is below this.
const CREDENTIAL_BYTES_MAX: usize = 8 * 1024;

/// Not an object, nor an array of objects: the session is closed with 4400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON object, nor an array of them")]
pub struct Malformed;

/// Reads a text frame.
///
/// # Errors
/// It is not JSON of the right shape. A field that is wrong is no error here: it gives [`ClientMessage::Invalid`].
pub fn decode(text: &[u8]) -> Result<SmallVec<[ClientMessage; 1]>, Malformed> {
    let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'[') {
        let batch: Vec<&RawValue> = serde_json::from_slice(text).map_err(|_| Malformed)?;
        return batch.into_iter().map(|object| decode_object(object.get().as_bytes())).collect();
    }
    decode_object(text).map(|message| SmallVec::from_buf([message]))
}

fn decode_object(text: &[u8]) -> Result<ClientMessage, Malformed> {
    if text.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Malformed);
    }
    let fields: Fields<'_> = serde_json::from_slice(text).map_err(|_| Malformed)?;
    let id = fields.id.and_then(|id| number(id).ok()).filter(|&id| id > 0);
    Ok(fields.message(id).unwrap_or_else(|wrong| ClientMessage::Invalid { id, field: wrong.field, problem: wrong.problem }))
}

/// Every field of every command, unread: a field of the wrong type must not hide which command it is in.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Fields<'a> {
    #[serde(borrow, rename = "type", deserialize_with = "last")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "last")]
    id: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "last")]
    channel: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "last")]
    since: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "last")]
    message_id: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "last")]
    key: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "last")]
    data: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "last")]
    deleted: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "last")]
    method: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "last")]
    n: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "last")]
    token: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "last")]
    ticket: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "last")]
    claims: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "last")]
    signature: Option<&'a RawValue>,
}

/// Keeps a `null` as one, which an `Option` would take for absence: `"data":null` is data.
fn last<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// A field that is missing or wrong.
struct Wrong {
    field: &'static str,
    problem: Box<str>,
}

fn wrong<T>(field: &'static str, problem: impl Into<Box<str>>) -> Result<T, Wrong> {
    Err(Wrong { field, problem: problem.into() })
}

impl Fields<'_> {
    fn message(self, id: Option<CommandId>) -> Result<ClientMessage, Wrong> {
        let kind = text("type", self.kind, NAME_BYTES_MAX)?;
        match &*kind {
            "ping" => return Ok(ClientMessage::Ping { n: self.echo()? }),
            "pong" => return Ok(ClientMessage::Pong),
            "auth" | "subscribe" | "unsubscribe" | "publish" | "request" => {}
            _ => return Ok(ClientMessage::Unknown { id, kind: (*kind).into() }),
        }
        let Some(id) = id else { return wrong("id", "is missing, or not a whole number from 1 to 2^53-1") };
        Ok(match &*kind {
            "auth" => ClientMessage::Auth { id, credential: self.credential()? },
            "subscribe" => ClientMessage::Subscribe { id, channel: self.channel()?, since: self.since()? },
            "unsubscribe" => ClientMessage::Unsubscribe { id, channel: self.channel()? },
            "publish" => ClientMessage::Publish { id, publish: self.publish()? },
            _ => ClientMessage::Request {
                id,
                method: text("method", self.method, NAME_BYTES_MAX)?.into(),
                data: self.data.map_or_else(|| Bytes::from_static(b"null"), copied),
            },
        })
    }

    fn channel(&self) -> Result<ChannelName, Wrong> {
        // A longer text is told by the grammar's own error.
        let name = text("channel", self.channel, usize::MAX)?;
        ChannelName::new(&name).or_else(|problem| wrong("channel", problem.to_string()))
    }

    fn since(&self) -> Result<Option<Since>, Wrong> {
        let Some(raw) = self.since.filter(|raw| raw.get() != "null") else { return Ok(None) };
        #[derive(Deserialize)]
        struct Wish<'a> {
            #[serde(borrow)]
            epoch: Option<Cow<'a, str>>,
            offset: Option<u64>,
            last: Option<u64>,
        }
        if raw.get() == "\"earliest\"" {
            return Ok(Some(Since::Earliest));
        }
        match serde_json::from_str(raw.get()) {
            Ok(Wish { epoch: Some(epoch), offset: Some(offset), last: None }) if offset <= NUMBER_MAX => {
                Ok(Some(Since::Position(Position { epoch: epoch.parse().unwrap_or(Epoch::UNKNOWN), offset })))
            }
            Ok(Wish { epoch: None, offset: None, last: Some(last) }) if (1..=NUMBER_MAX).contains(&last) => Ok(Some(Since::Last(last))),
            _ => wrong("since", r#"is none of {"epoch","offset"}, "earliest", {"last":n} with n from 1"#),
        }
    }

    fn publish(&self) -> Result<Publish, Wrong> {
        let body = match (self.data, self.deleted.map(RawValue::get)) {
            (Some(data), None | Some("false" | "null")) => Body::Data(copied(data)),
            (None, Some("true")) => Body::Deleted,
            (Some(_), Some("true")) => return wrong("deleted", "does not go with data"),
            (_, Some(_)) => return wrong("deleted", "is not true"),
            (None, None) => return wrong("data", "is missing"),
        };
        Ok(Publish { channel: self.channel()?, message_id: name("message_id", self.message_id)?, key: name("key", self.key)?, body })
    }

    fn credential(&self) -> Result<Credential, Wrong> {
        let secret = |field, raw| text(field, raw, CREDENTIAL_BYTES_MAX).map(Box::<str>::from);
        match (self.token, self.ticket, self.signature) {
            (Some(_), None, None) => Ok(Credential::Token(secret("token", self.token)?)),
            (None, Some(_), None) => Ok(Credential::Ticket(secret("ticket", self.ticket)?)),
            (None, None, Some(_)) => Ok(Credential::Signature {
                key: secret("key", self.key)?,
                claims: secret("claims", self.claims)?,
                signature: secret("signature", self.signature)?,
            }),
            _ => wrong("token", "is missing: auth takes one of token, ticket, or key, claims and signature"),
        }
    }

    fn echo(&self) -> Result<Option<Bytes>, Wrong> {
        match self.n {
            Some(n) if n.get().len() > NAME_BYTES_MAX => wrong("n", "is longer than 255 bytes"),
            n => Ok(n.map(copied)),
        }
    }
}

/// Data is kept longer than the frame it came in, so it gets bytes of its own: they pin nothing else.
fn copied(raw: &RawValue) -> Bytes {
    Bytes::copy_from_slice(raw.get().as_bytes())
}

fn number(raw: &RawValue) -> Result<u64, Malformed> {
    serde_json::from_str(raw.get()).ok().filter(|&number: &u64| number <= NUMBER_MAX).ok_or(Malformed)
}

fn text<'a>(field: &'static str, raw: Option<&'a RawValue>, bytes_max: usize) -> Result<Cow<'a, str>, Wrong> {
    let Some(raw) = raw else { return wrong(field, "is missing") };
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    match serde_json::from_str(raw.get()) {
        Ok(Text(text)) if text.is_empty() => wrong(field, "is empty"),
        Ok(Text(text)) if text.len() > bytes_max => wrong(field, format!("is longer than {bytes_max} bytes")),
        Ok(Text(text)) => Ok(text),
        Err(_) => wrong(field, "is not a string"),
    }
}

/// An optional id or key; `null` is the same as nothing.
fn name(field: &'static str, raw: Option<&RawValue>) -> Result<Option<Box<str>>, Wrong> {
    let Some(raw) = raw.filter(|raw| raw.get() != "null") else { return Ok(None) };
    let text = text(field, Some(raw), NAME_BYTES_MAX)?;
    if text.chars().any(char::is_control) {
        return wrong(field, "has a control character");
    }
    Ok(Some(text.into()))
}
