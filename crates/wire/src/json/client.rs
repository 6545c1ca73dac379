//! The client's half: writes what a client says, reads what a server says.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::value::RawValue;
use smallvec::SmallVec;
use tidegate_core::message::{
    ClientMessage, Credential, DepartReason, Gap, GapReason, Publish, ReauthReason, Recovery, ServerMessage, Since, Welcome,
};
use tidegate_core::{Body, ChannelKind, ChannelName, Epoch, ErrorCode, Position, Publication, ReconnectSettings};

use super::encode::{Challenge, PROTOCOL};
use super::fields::{Field, Wrong, fields, position};
use super::publication::body;
use super::write::Object;
use super::{Malformed, read_frame};

/// [`ClientMessage::Invalid`] stands for what was wrongly said; there is nothing to write for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message that was not understood can't be said again")]
pub struct Unsendable;

/// Appends a client's message.
///
/// # Errors
/// When it is [`ClientMessage::Invalid`]; then nothing is written.
pub fn encode_client(message: &ClientMessage, out: &mut Vec<u8>) -> Result<(), Unsendable> {
    if matches!(message, ClientMessage::Invalid { .. }) {
        return Err(Unsendable);
    }
    let object = Object::new(out);
    match message {
        ClientMessage::Auth { id, credential } => encode_credential(credential, object.kind("auth").number("id", *id)),
        ClientMessage::Subscribe { id, channel, since } => {
            object.kind("subscribe").number("id", *id).plain("channel", channel.as_str()).optional(*since, |object, since| match since {
                Since::Position(position) => object.position("since", position),
                Since::Earliest => object.plain("since", "earliest"),
                Since::Last(last) => object.object("since", |since| since.number("last", last)),
            })
        }
        ClientMessage::Unsubscribe { id, channel } => object.kind("unsubscribe").number("id", *id).plain("channel", channel.as_str()),
        ClientMessage::Publish { id, publish } => encode_publish(publish, object.kind("publish").number("id", *id)),
        ClientMessage::Request { id, method, data } => object.kind("request").number("id", *id).text("method", method).raw("data", data),
        ClientMessage::Ping { n } => object.kind("ping").optional(n.as_ref(), |object, n| object.raw("n", n)),
        ClientMessage::Pong => object.kind("pong"),
        ClientMessage::Unknown { id, kind } => object.text("type", kind).optional(*id, |object, id| object.number("id", id)),
        ClientMessage::Invalid { .. } => object,
    }
    .end();
    Ok(())
}

/// The answer to a ping with this `n`.
pub fn pong(n: &[u8]) -> String {
    let mut out = Vec::with_capacity(24 + n.len());
    Object::new(&mut out).kind("pong").raw("n", n).end();
    String::from_utf8_lossy(&out).into_owned()
}

fn encode_credential<'a>(credential: &Credential, object: Object<'a>) -> Object<'a> {
    match credential {
        Credential::Token(token) => object.text("token", token),
        Credential::Ticket(ticket) => object.text("ticket", ticket),
        Credential::Signature { key, claims, signature } => object.text("key", key).text("claims", claims).text("signature", signature),
    }
}

fn encode_publish<'a>(publish: &Publish, object: Object<'a>) -> Object<'a> {
    let object = object
        .plain("channel", publish.channel.as_str())
        .optional(publish.message_id.as_deref(), |object, id| object.text("message_id", id))
        .optional(publish.key.as_deref(), |object, key| object.text("key", key));
    body(object, &publish.body)
}

/// What a server says, as a client sees it.
#[derive(Debug)]
pub enum FromServer {
    /// The server wants a credential.
    Challenge(Challenge),
    /// Anything of the model.
    Message(ServerMessage),
    /// A channel's message. Its frame does not name the epoch, which is that of the last position the server gave for the
    /// channel; here it is [`Epoch::UNKNOWN`].
    Publication(Publication),
    /// A ping whose `n` is to be echoed, by [`pong`]; one without is [`ServerMessage::Ping`].
    Ping {
        /// JSON.
        n: Bytes,
    },
    /// A type of a later version, to be ignored.
    Unknown {
        /// Its name.
        kind: Box<str>,
    },
}

fields! {
    /// Every field that a server's message can have.
    Said {
        kind = "type",
        id,
        channel,
        channel_kind = "kind",
        position,
        recovery,
        epoch,
        offset,
        key,
        data,
        deleted,
        entries,
        more,
        missed,
        from,
        to,
        reason,
        code,
        message,
        retry_after_ms,
        duplicate,
        n,
        protocol,
        connection,
        node,
        user,
        session,
        expires_in_ms,
        heartbeat,
        limits,
        reconnect,
        nonce,
        audience,
        within_ms,
        methods,
        reconnect_after_ms,
        deadline_ms,
        handover,
    }
}

fields! {
    PositionFields in "position." {
        epoch,
        offset,
    }
}

fields! {
    EntryFields in "entries." {
        key,
        offset,
        data,
        deleted,
    }
}

fields! {
    HeartbeatFields in "heartbeat." {
        ping = "ping_ms",
        app_ping = "app_ping_ms",
        dead = "dead_ms",
    }
}

fields! {
    LimitFields in "limits." {
        message_bytes,
        subscriptions,
        in_flight,
    }
}

fields! {
    ReconnectFields in "reconnect." {
        window = "window_ms",
        base = "base_ms",
        cap = "cap_ms",
    }
}

/// Reads a text frame's payload: one message, or those of a batch in order, each understood or wrong by itself.
///
/// # Errors
/// When the frame as a whole can't be read; then nothing of it is taken.
pub fn decode_server(frame: &[u8]) -> Result<SmallVec<[Result<FromServer, Wrong>; 1]>, Malformed> {
    read_frame(frame, decode_said)
}

fn decode_said(said: &Said<'_>) -> Result<FromServer, Wrong> {
    let kind = said.kind.required(said.kind.text()?)?;
    let id = || required_integer(&said.id);
    let message = match &*kind {
        "challenge" => return decode_challenge(said).map(FromServer::Challenge),
        "message" => return decode_publication(said).map(FromServer::Publication),
        "welcome" => ServerMessage::Welcome(Box::new(decode_welcome(said)?)),
        "subscribed" => ServerMessage::Subscribed {
            id: id()?,
            channel: said.channel.channel()?,
            kind: said.channel_kind.one_of(&[ChannelKind::Event, ChannelKind::Log, ChannelKind::State], ChannelKind::name)?,
            position: decode_position(&said.position)?,
            recovery: said.recovery.one_of(&[Recovery::None, Recovery::Complete, Recovery::Snapshot, Recovery::Gap], Recovery::name)?,
        },
        "live" => ServerMessage::Live { channel: said.channel.channel()?, offset: said.offset.integer(0)? },
        "gap" => ServerMessage::Gap(Box::new(decode_gap(said)?)),
        "snapshot" => decode_snapshot(said)?,
        "unsubscribed" => ServerMessage::Unsubscribed {
            channel: said.channel.channel()?,
            code: said.code.one_of(ErrorCode::ALL, ErrorCode::name)?,
            retry_after_ms: said.retry_after_ms.integer(0)?,
        },
        "ok" => ServerMessage::Ok { id: id()? },
        "published" => ServerMessage::Published {
            id: id()?,
            position: if said.epoch.is_given() { Some(position(&said.epoch, &said.offset)?) } else { None },
            duplicate: said.duplicate.flag()?,
        },
        "response" => ServerMessage::Response { id: id()?, data: said.data.value()? },
        "error" => ServerMessage::Error {
            id: said.id.integer(1)?,
            code: said.code.one_of(ErrorCode::ALL, ErrorCode::name)?,
            message: said.message.required(said.message.boxed()?)?,
            retry_after_ms: said.retry_after_ms.integer(0)?,
        },
        "ping" if said.n.raw.is_some() => return said.n.value().map(|n| FromServer::Ping { n }),
        "ping" => ServerMessage::Ping,
        "pong" => ServerMessage::Pong { n: said.n.raw.is_some().then(|| said.n.value()).transpose()? },
        "reauth" => ServerMessage::Reauth {
            within_ms: required_integer(&said.within_ms)?,
            reason: said.reason.one_of(&[ReauthReason::Expiring, ReauthReason::PrivilegeChanged], ReauthReason::name)?,
            nonce: said.nonce.boxed()?,
        },
        "going_away" => ServerMessage::GoingAway {
            reason: said.reason.one_of(&[DepartReason::Drain, DepartReason::Rebalance, DepartReason::MaxAge], DepartReason::name)?,
            reconnect_after_ms: required_integer(&said.reconnect_after_ms)?,
            deadline_ms: required_integer(&said.deadline_ms)?,
            handover: said.handover.boxed()?,
        },
        _ => return Ok(FromServer::Unknown { kind: kind.into() }),
    };
    Ok(FromServer::Message(message))
}

fn decode_challenge(said: &Said<'_>) -> Result<Challenge, Wrong> {
    let methods = said.methods.required(said.methods.raw)?.get();
    let methods: Vec<Cow<'_, str>> = serde_json::from_str(methods).map_err(|_| said.methods.wrong("is not an array of strings"))?;
    Ok(Challenge {
        connection: said.connection.required(said.connection.boxed()?)?,
        nonce: said.nonce.required(said.nonce.boxed()?)?,
        audience: said.audience.required(said.audience.boxed()?)?,
        within_ms: required_integer(&said.within_ms)?,
        methods: methods.into_iter().map(Into::into).collect(),
    })
}

fn decode_publication(said: &Said<'_>) -> Result<Publication, Wrong> {
    let position = said.offset.integer(0)?.map(|offset| Position { epoch: Epoch::UNKNOWN, offset });
    let body = decode_body(&said.data, &said.deleted)?;
    Ok(Publication::new(said.channel.channel()?, position, said.id.boxed()?.map(Into::into), said.key.boxed()?, body))
}

fn decode_body(data: &Field<'_>, deleted: &Field<'_>) -> Result<Body, Wrong> {
    if deleted.flag()? { Ok(Body::Deleted) } else { data.value().map(Body::Data) }
}

fn decode_welcome(said: &Said<'_>) -> Result<Welcome, Wrong> {
    if required_integer(&said.protocol)? != PROTOCOL {
        return Err(said.protocol.wrong(format!("is not {PROTOCOL}")));
    }
    let heartbeat: HeartbeatFields<'_> = said.heartbeat.required(said.heartbeat.object()?)?;
    let limits: LimitFields<'_> = said.limits.required(said.limits.object()?)?;
    let reconnect: ReconnectFields<'_> = said.reconnect.required(said.reconnect.object()?)?;
    Ok(Welcome {
        id: said.id.integer(1)?,
        connection: said.connection.required(said.connection.boxed()?)?,
        node: said.node.required(said.node.boxed()?)?,
        user: said.user.text()?.map(Into::into),
        session: said.session.text()?.map(Into::into),
        expires_in: duration(&said.expires_in_ms)?,
        ping: duration(&heartbeat.ping)?,
        app_ping: heartbeat.app_ping.integer(0)?.map(Duration::from_millis),
        dead: duration(&heartbeat.dead)?,
        message_bytes: size(&limits.message_bytes)?,
        subscriptions: size(&limits.subscriptions)?,
        in_flight: size(&limits.in_flight)?,
        reconnect: ReconnectSettings {
            window: duration(&reconnect.window)?,
            base: duration(&reconnect.base)?,
            cap: duration(&reconnect.cap)?,
        },
    })
}

fn decode_gap(said: &Said<'_>) -> Result<Gap, Wrong> {
    const REASONS: &[GapReason] = &[GapReason::Slow, GapReason::Retention, GapReason::Epoch, GapReason::Bus, GapReason::Policy];
    Ok(Gap {
        channel: said.channel.channel()?,
        missed: said.missed.integer(0)?,
        range: said.from.integer(0)?.zip(said.to.integer(0)?),
        reason: said.reason.one_of(REASONS, GapReason::name)?,
        position: decode_position(&said.position)?,
    })
}

fn decode_snapshot(said: &Said<'_>) -> Result<ServerMessage, Wrong> {
    let channel = said.channel.channel()?;
    let position = position(&said.epoch, &said.offset)?;
    let entries: Vec<EntryFields<'_>> = serde_json::from_str(said.entries.required(said.entries.raw.map(RawValue::get))?)
        .map_err(|_| said.entries.wrong("is not an array of objects"))?;
    let entries = entries.iter().map(|entry| decode_entry(entry, &channel, position.epoch)).collect::<Result<_, Wrong>>()?;
    Ok(ServerMessage::Snapshot { channel, position, entries, more: said.more.flag()? })
}

fn decode_entry(entry: &EntryFields<'_>, channel: &ChannelName, epoch: Epoch) -> Result<Arc<Publication>, Wrong> {
    let position = Position { epoch, offset: required_integer(&entry.offset)? };
    let body = decode_body(&entry.data, &entry.deleted)?;
    Ok(Arc::new(Publication::new(channel.clone(), Some(position), None, Some(entry.key.required(entry.key.boxed()?)?), body)))
}

fn decode_position(field: &Field<'_>) -> Result<Option<Position>, Wrong> {
    let Some(fields) = field.object::<PositionFields<'_>>()? else { return Ok(None) };
    position(&fields.epoch, &fields.offset).map(Some)
}

fn required_integer(field: &Field<'_>) -> Result<u64, Wrong> {
    field.required(field.integer(0)?)
}

fn duration(field: &Field<'_>) -> Result<Duration, Wrong> {
    required_integer(field).map(Duration::from_millis)
}

fn size(field: &Field<'_>) -> Result<usize, Wrong> {
    usize::try_from(required_integer(field)?).map_err(|_| field.wrong("is more than this machine can count"))
}
