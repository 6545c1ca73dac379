//! Server to client: every message but publications, as protocol.md shows it.

use tidegate_core::message::{Gap, ServerMessage, Welcome};
use tidegate_core::{Position, Publication};

use super::publication::body;
use super::write::Object;

/// The version of the protocol that `welcome` names.
pub(super) const PROTOCOL: u64 = 1;

/// `challenge`: what the server says first to a peer that the upgrade did not authenticate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The connection's id, which a signature covers.
    pub connection: Box<str>,
    /// What a signature has to cover, base64url.
    pub nonce: Box<str>,
    /// The audience that a signature covers and a token has to name.
    pub audience: Box<str>,
    /// How long the server waits for `auth`.
    pub within_ms: u64,
    /// What it takes: `token`, `signature`.
    pub methods: Vec<Box<str>>,
}

/// Appends `challenge`.
pub fn encode_challenge(challenge: &Challenge, out: &mut Vec<u8>) {
    Object::new(out)
        .kind("challenge")
        .text("connection", &challenge.connection)
        .text("nonce", &challenge.nonce)
        .text("audience", &challenge.audience)
        .number("within_ms", challenge.within_ms)
        .texts("methods", &challenge.methods)
        .end();
}

/// Appends a message. What it carries as JSON (`data`, `n`) goes out byte for byte.
pub fn encode_server(message: &ServerMessage, out: &mut Vec<u8>) {
    let object = Object::new(out);
    match message {
        ServerMessage::Welcome(welcome) => encode_welcome(welcome, object.kind("welcome")),
        ServerMessage::Subscribed { id, channel, kind, position, recovery } => object
            .kind("subscribed")
            .number("id", *id)
            .plain("channel", channel.as_str())
            .plain("kind", kind.name())
            .position_or_null("position", *position)
            .plain("recovery", recovery.name()),
        ServerMessage::Live { channel, offset } => {
            object.kind("live").plain("channel", channel.as_str()).optional(*offset, |object, offset| object.number("offset", offset))
        }
        ServerMessage::Gap(gap) => encode_gap(gap, object.kind("gap")),
        ServerMessage::Snapshot { channel, position, entries, more } => object
            .kind("snapshot")
            .plain("channel", channel.as_str())
            .plain("epoch", &position.epoch.to_string())
            .number("offset", position.offset)
            .array("entries", entries, |entry, out| encode_entry(entry, out))
            .flag("more", *more),
        ServerMessage::Unsubscribed { channel, code, retry_after_ms } => object
            .kind("unsubscribed")
            .plain("channel", channel.as_str())
            .plain("code", code.name())
            .number_or_null("retry_after_ms", *retry_after_ms),
        ServerMessage::Ok { id } => object.kind("ok").number("id", *id),
        ServerMessage::Published { id, position, duplicate } => {
            encode_published(*position, object.kind("published").number("id", *id)).flag("duplicate", *duplicate)
        }
        ServerMessage::Response { id, data } => object.kind("response").number("id", *id).raw("data", data),
        ServerMessage::Error { id, code, message, retry_after_ms } => object
            .kind("error")
            .number_or_null("id", *id)
            .plain("code", code.name())
            .text("message", message)
            .number_or_null("retry_after_ms", *retry_after_ms),
        ServerMessage::Ping => object.kind("ping"),
        ServerMessage::Pong { n } => object.kind("pong").optional(n.as_ref(), |object, n| object.raw("n", n)),
        ServerMessage::Reauth { within_ms, reason, nonce } => {
            object.kind("reauth").number("within_ms", *within_ms).plain("reason", reason.name()).text_or_null("nonce", nonce.as_deref())
        }
        ServerMessage::GoingAway { reason, reconnect_after_ms, deadline_ms, handover } => object
            .kind("going_away")
            .plain("reason", reason.name())
            .number("reconnect_after_ms", *reconnect_after_ms)
            .number("deadline_ms", *deadline_ms)
            .text_or_null("handover", handover.as_deref()),
    }
    .end();
}

fn encode_welcome<'a>(welcome: &Welcome, object: Object<'a>) -> Object<'a> {
    object
        .optional(welcome.id, |object, id| object.number("id", id))
        .number("protocol", PROTOCOL)
        .text("connection", &welcome.connection)
        .text("node", &welcome.node)
        .text_or_null("user", welcome.user.as_deref())
        .text_or_null("session", welcome.session.as_deref())
        .duration("expires_in_ms", welcome.expires_in)
        .object("heartbeat", |heartbeat| {
            heartbeat.duration("ping_ms", welcome.ping).duration_or_null("app_ping_ms", welcome.app_ping).duration("dead_ms", welcome.dead)
        })
        .object("limits", |limits| {
            limits
                .number("message_bytes", welcome.message_bytes as u64)
                .number("subscriptions", welcome.subscriptions as u64)
                .number("in_flight", welcome.in_flight as u64)
        })
        .object("reconnect", |reconnect| {
            reconnect
                .duration("window_ms", welcome.reconnect.window)
                .duration("base_ms", welcome.reconnect.base)
                .duration("cap_ms", welcome.reconnect.cap)
        })
}

fn encode_gap<'a>(gap: &Gap, object: Object<'a>) -> Object<'a> {
    object
        .plain("channel", gap.channel.as_str())
        .number_or_null("missed", gap.missed)
        .optional(gap.range, |object, (from, to)| object.number("from", from).number("to", to))
        .plain("reason", gap.reason.name())
        .optional(gap.position, |object, position| object.position("position", position))
}

fn encode_published(position: Option<Position>, object: Object<'_>) -> Object<'_> {
    match position {
        Some(position) => object.plain("epoch", &position.epoch.to_string()).number("offset", position.offset),
        None => object.raw("epoch", b"null").raw("offset", b"null"),
    }
}

fn encode_entry(entry: &Publication, out: &mut Vec<u8>) {
    let object = Object::new(out).optional(entry.key.as_deref(), |object, key| object.text("key", key)).number("offset", entry.offset());
    body(object, &entry.body).end();
}
