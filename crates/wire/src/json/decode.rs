//! Client to server: what a frame says, or exactly which field of it is wrong.

use bytes::Bytes;
use smallvec::SmallVec;
use tidegate_core::Body;
use tidegate_core::message::{ClientMessage, CommandId, Credential, Publish, Since};

use super::fields::{Field, Wrong, fields, position};
use super::{Malformed, read_frame};

/// How long a `message_id`, a `key` and a `method` may be, as channel names are: they are held in dedup windows and states
/// and stand in every copy of a message.
pub const NAME_BYTES: usize = 255;

/// How long the `n` of a `ping` may be, as JSON: room for a number, a time or an id; it is echoed outside every budget.
pub const PING_BYTES: usize = 64;

fields! {
    /// Every field that a client's message can have.
    Command {
        kind = "type",
        id,
        channel,
        since,
        message_id,
        key,
        data,
        deleted,
        method,
        token,
        ticket,
        claims,
        signature,
        n,
    }
}

fields! {
    /// `since` as an object.
    SinceFields in "since." {
        epoch,
        offset,
        last,
    }
}

/// Reads a text frame's payload: one message, or those of a batch in order. A batch of none says nothing.
///
/// A message of a known type with a field missing or wrong is [`ClientMessage::Invalid`], to be answered with `bad_request`.
///
/// # Errors
/// When the frame as a whole can't be read; then nothing of it is taken.
pub fn decode(frame: &[u8]) -> Result<SmallVec<[ClientMessage; 1]>, Malformed> {
    read_frame(frame, |command: &Command<'_>| {
        message(command).unwrap_or_else(|Wrong { field, problem }| ClientMessage::Invalid {
            id: readable_id(command),
            field,
            problem: problem.into(),
        })
    })
}

fn message(command: &Command<'_>) -> Result<ClientMessage, Wrong> {
    let kind = command.kind.required(command.kind.text()?)?;
    let id = || command.id.required(command.id.integer(1)?);
    Ok(match &*kind {
        "auth" => ClientMessage::Auth { id: id()?, credential: credential(command)? },
        "subscribe" => ClientMessage::Subscribe { id: id()?, channel: command.channel.channel()?, since: since(&command.since)? },
        "unsubscribe" => ClientMessage::Unsubscribe { id: id()?, channel: command.channel.channel()? },
        "publish" => ClientMessage::Publish { id: id()?, publish: publish(command)? },
        "request" => {
            ClientMessage::Request { id: id()?, method: command.method.required(name(&command.method)?)?, data: command.data.value()? }
        }
        "ping" => ClientMessage::Ping { n: echo(&command.n)? },
        "pong" => ClientMessage::Pong,
        _ => ClientMessage::Unknown { id: readable_id(command), kind: kind.into() },
    })
}

fn readable_id(command: &Command<'_>) -> Option<CommandId> {
    command.id.integer(1).ok().flatten()
}

/// Exactly one of token, ticket and signature.
fn credential(command: &Command<'_>) -> Result<Credential, Wrong> {
    let signed = [command.key, command.claims, command.signature];
    match (command.token.boxed()?, command.ticket.boxed()?, signed.iter().any(Field::is_given)) {
        (Some(token), None, false) => Ok(Credential::Token(token)),
        (None, Some(ticket), false) => Ok(Credential::Ticket(ticket)),
        (None, None, true) => Ok(Credential::Signature {
            key: command.key.required(command.key.boxed()?)?,
            claims: command.claims.required(command.claims.boxed()?)?,
            signature: command.signature.required(command.signature.boxed()?)?,
        }),
        (None, None, false) => Err(command.token.wrong("is missing, and so are ticket and key, claims, signature")),
        _ => Err(command.token.wrong("is one of several credentials; give one of token, ticket and key, claims, signature")),
    }
}

fn since(field: &Field<'_>) -> Result<Option<Since>, Wrong> {
    const SHAPES: &str = "is none of a position, \"earliest\" and {\"last\":n}";
    if let Ok(text) = field.text() {
        return match text.as_deref() {
            None => Ok(None),
            Some("earliest") => Ok(Some(Since::Earliest)),
            Some(_) => Err(field.wrong(SHAPES)),
        };
    }
    let since: SinceFields<'_> = field.object().ok().flatten().ok_or_else(|| field.wrong(SHAPES))?;
    let has_position = since.epoch.is_given() || since.offset.is_given();
    match (since.last.integer(1)?, has_position) {
        (Some(_), true) => Err(since.last.wrong("does not go with a position")),
        (Some(last), false) => Ok(Some(Since::Last(last))),
        (None, true) => Ok(Some(Since::Position(position(&since.epoch, &since.offset)?))),
        (None, false) => Err(field.wrong(SHAPES)),
    }
}

fn publish(command: &Command<'_>) -> Result<Publish, Wrong> {
    Ok(Publish {
        channel: command.channel.channel()?,
        message_id: name(&command.message_id)?.map(Into::into),
        key: name(&command.key)?,
        body: match (command.data.raw.is_some(), command.deleted.flag()?) {
            (true, false) => Body::Data(command.data.value()?),
            (false, true) => Body::Deleted,
            (true, true) => return Err(command.data.wrong("does not go with deleted")),
            (false, false) => return Err(command.data.wrong("is missing (any JSON value, or \"deleted\":true instead)")),
        },
    })
}

fn name(field: &Field<'_>) -> Result<Option<Box<str>>, Wrong> {
    let Some(text) = field.text()? else { return Ok(None) };
    if text.is_empty() || text.len() > NAME_BYTES {
        return Err(field.wrong(format!("is not 1 to {NAME_BYTES} bytes")));
    }
    if text.chars().any(char::is_control) {
        return Err(field.wrong("has a control character"));
    }
    Ok(Some(text.into()))
}

fn echo(field: &Field<'_>) -> Result<Option<Bytes>, Wrong> {
    let Some(json) = field.raw else { return Ok(None) };
    if json.get().len() > PING_BYTES {
        return Err(field.wrong(format!("is more than {PING_BYTES} bytes")));
    }
    field.value().map(Some)
}
