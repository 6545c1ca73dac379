//! What a server says, apart from publications.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use tidegate_core::message::{Gap, ReauthReason, ServerMessage, Welcome};
use tidegate_core::{ErrorCode, Position, Publication};

use super::publication::push_entry;
use super::{push_number, push_string};

/// Appends the message's JSON.
pub fn encode_server(message: &ServerMessage, out: &mut Vec<u8>) {
    match message {
        ServerMessage::Welcome(welcome) => push(&Frame::from(&**welcome), out),
        ServerMessage::Subscribed { id, channel, kind, position, recovery } => push(
            &Frame::Subscribed {
                id: *id,
                channel: channel.as_str(),
                kind: kind.name(),
                position: position.map(Place::from),
                recovery: recovery.name(),
            },
            out,
        ),
        ServerMessage::Live { channel, offset } => push(&Frame::Live { channel: channel.as_str(), offset: *offset }, out),
        ServerMessage::Gap(gap) => push(&Frame::from(&**gap), out),
        ServerMessage::Snapshot { channel, position, entries, more } => push_snapshot(channel.as_str(), *position, entries, *more, out),
        ServerMessage::Unsubscribed { channel, code, retry_after_ms } => {
            push(&Frame::Unsubscribed { channel: channel.as_str(), code: code.name(), retry_after_ms: *retry_after_ms }, out);
        }
        ServerMessage::Ok { id } => push(&Frame::Ok { id: *id }, out),
        ServerMessage::Published { id, position, duplicate } => push(
            &Frame::Published {
                id: *id,
                epoch: position.map(|position| position.epoch.to_string()),
                offset: position.map(|position| position.offset),
                duplicate: *duplicate,
            },
            out,
        ),
        ServerMessage::Response { id, data } => push_response(*id, data, out),
        ServerMessage::Error { id, code, message, retry_after_ms } => push(&error(*id, *code, message, *retry_after_ms), out),
        ServerMessage::Ping => push(&Frame::Ping {}, out),
        ServerMessage::Pong { n } => push_pong(n.as_ref(), out),
        ServerMessage::Reauth { within_ms, reason, nonce } => {
            push(&Frame::Reauth { within_ms: *within_ms, reason: reason_name(*reason), nonce: nonce.as_deref() }, out);
        }
        ServerMessage::GoingAway { reason, reconnect_after_ms, deadline_ms, handover } => push(
            &Frame::GoingAway {
                reason: reason.name(),
                reconnect_after_ms: *reconnect_after_ms,
                deadline_ms: *deadline_ms,
                handover: handover.as_deref(),
            },
            out,
        ),
    }
}

fn push(frame: &Frame<'_>, out: &mut Vec<u8>) {
    // Plain structs of strings and numbers, written to a `Vec`: nothing here can fail.
    let _ = serde_json::to_writer(out, frame);
}

/// The frames of protocol.md that are small and rare enough for serde.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Frame<'a> {
    Welcome {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        protocol: u32,
        connection: &'a str,
        node: &'a str,
        user: Option<&'a str>,
        session: Option<&'a str>,
        expires_in_ms: u64,
        heartbeat: Heartbeat,
        limits: Limits,
        reconnect: Reconnect,
    },
    Subscribed {
        id: u64,
        channel: &'a str,
        kind: &'static str,
        position: Option<Place>,
        recovery: &'static str,
    },
    Live {
        channel: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        offset: Option<u64>,
    },
    Gap {
        channel: &'a str,
        missed: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        to: Option<u64>,
        reason: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        position: Option<Place>,
    },
    Unsubscribed {
        channel: &'a str,
        code: &'static str,
        retry_after_ms: Option<u64>,
    },
    Ok {
        id: u64,
    },
    Published {
        id: u64,
        epoch: Option<String>,
        offset: Option<u64>,
        duplicate: bool,
    },
    Error {
        id: Option<u64>,
        code: &'static str,
        message: &'a str,
        retry_after_ms: Option<u64>,
    },
    Ping {},
    Reauth {
        within_ms: u64,
        reason: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        nonce: Option<&'a str>,
    },
    GoingAway {
        reason: &'static str,
        reconnect_after_ms: u64,
        deadline_ms: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        handover: Option<&'a str>,
    },
}

#[derive(Serialize)]
struct Place {
    epoch: String,
    offset: u64,
}

#[derive(Serialize)]
struct Heartbeat {
    ping_ms: u64,
    app_ping_ms: Option<u64>,
    dead_ms: u64,
}

#[derive(Serialize)]
struct Limits {
    message_bytes: usize,
    subscriptions: usize,
    in_flight: usize,
}

#[derive(Serialize)]
struct Reconnect {
    window_ms: u64,
    base_ms: u64,
    cap_ms: u64,
}

impl From<Position> for Place {
    fn from(position: Position) -> Self {
        Self { epoch: position.epoch.to_string(), offset: position.offset }
    }
}

impl<'a> From<&'a Welcome> for Frame<'a> {
    fn from(welcome: &'a Welcome) -> Self {
        Self::Welcome {
            id: welcome.id,
            protocol: 1,
            connection: &welcome.connection,
            node: &welcome.node,
            user: welcome.user.as_deref(),
            session: welcome.session.as_deref(),
            expires_in_ms: ms(welcome.expires_in),
            heartbeat: Heartbeat { ping_ms: ms(welcome.ping), app_ping_ms: welcome.app_ping.map(ms), dead_ms: ms(welcome.dead) },
            limits: Limits { message_bytes: welcome.message_bytes, subscriptions: welcome.subscriptions, in_flight: welcome.in_flight },
            reconnect: Reconnect {
                window_ms: ms(welcome.reconnect.window),
                base_ms: ms(welcome.reconnect.base),
                cap_ms: ms(welcome.reconnect.cap),
            },
        }
    }
}

impl<'a> From<&'a Gap> for Frame<'a> {
    fn from(gap: &'a Gap) -> Self {
        Self::Gap {
            channel: gap.channel.as_str(),
            missed: gap.missed,
            from: gap.range.map(|range| range.0),
            to: gap.range.map(|range| range.1),
            reason: gap.reason.name(),
            position: gap.position.map(Place::from),
        }
    }
}

fn error<'a>(id: Option<u64>, code: ErrorCode, message: &'a str, retry_after_ms: Option<u64>) -> Frame<'a> {
    Frame::Error { id, code: code.name(), message, retry_after_ms }
}

const fn reason_name(reason: ReauthReason) -> &'static str {
    match reason {
        ReauthReason::Expiring => "expiring",
        ReauthReason::PrivilegeChanged => "privilege_changed",
    }
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn push_snapshot(channel: &str, position: Position, entries: &[Arc<Publication>], more: bool, out: &mut Vec<u8>) {
    out.reserve(128 + entries.iter().map(|entry| entry.cost()).sum::<usize>());
    out.extend_from_slice(br#"{"type":"snapshot","channel":""#);
    out.extend_from_slice(channel.as_bytes());
    out.extend_from_slice(br#"","epoch":"#);
    push_string(&position.epoch.to_string(), out);
    out.extend_from_slice(br#","offset":"#);
    push_number(position.offset, out);
    out.extend_from_slice(br#","entries":["#);
    for (index, entry) in entries.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let start = out.len();
        push_entry(entry, out);
        // An entry's fields each begin with a comma; its first one opens the object instead.
        if let Some(first) = out.get_mut(start) {
            *first = b'{';
        }
        out.push(b'}');
    }
    out.extend_from_slice(if more { br#"],"more":true}"# } else { br#"],"more":false}"# });
}

fn push_response(id: u64, data: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"type":"response","id":"#);
    push_number(id, out);
    out.extend_from_slice(br#","data":"#);
    // A handler's answer is embedded as it stands, so it has to be JSON; what is not is no answer.
    let sound = serde_json::from_slice::<&RawValue>(data).is_ok();
    out.extend_from_slice(if sound { data } else { b"null" });
    out.push(b'}');
}

fn push_pong(n: Option<&Bytes>, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"type":"pong""#);
    if let Some(n) = n {
        out.extend_from_slice(br#","n":"#);
        out.extend_from_slice(n);
    }
    out.push(b'}');
}
