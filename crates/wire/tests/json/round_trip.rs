//! Whatever can be said is understood as it was meant, in both directions.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use tidegate_core::message::{
    ClientMessage, Credential, DepartReason, Gap, GapReason, Publish, ReauthReason, Recovery, ServerMessage, Since, Welcome,
};
use tidegate_core::{Body, ChannelKind, ChannelName, DRAWN_BYTES, Epoch, ErrorCode, MessageId, Position, Publication, ReconnectSettings};
use tidegate_wire::json::{self, Challenge, FromServer, INTEGER_MAX};

fn integer(least: u64) -> impl Strategy<Value = u64> + Clone {
    prop_oneof![least..=INTEGER_MAX, least..least + 3, Just(INTEGER_MAX)]
}

fn channel() -> impl Strategy<Value = ChannelName> {
    "[A-Za-z0-9_.@=~-]{1,9}(:[A-Za-z0-9_.@=~-]{1,9}){0,3}".prop_map(|name| ChannelName::new(&name).expect("in the grammar"))
}

fn text() -> impl Strategy<Value = Box<str>> {
    any::<String>().prop_map(Into::into)
}

fn name() -> impl Strategy<Value = Box<str>> {
    "[^\\p{Cc}]{1,60}".prop_map(Into::into)
}

fn message_id() -> impl Strategy<Value = MessageId> {
    let drawn = "[0-9A-Z]{26}".prop_map(|text| {
        let text: &[u8; DRAWN_BYTES] = text.as_bytes().try_into().expect("as many");
        MessageId::drawn(text)
    });
    prop_oneof![text().prop_map(MessageId::from), drawn]
}

fn json_text() -> impl Strategy<Value = Bytes> {
    let leaf = prop_oneof![
        any::<String>().prop_map(|text| serde_json::to_string(&text).expect("JSON")),
        any::<i64>().prop_map(|number| number.to_string()),
        select(vec!["null", "true", "1.50", "-0", "1E+9", r#""\ud83d\ude00\/""#, "[ \n]"]).prop_map(str::to_owned),
    ];
    let tree = leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|values| format!("[{}]", values.join(" ,\t"))),
            vec(inner, 0..4).prop_map(|values| {
                let fields: Vec<_> = values.iter().enumerate().map(|(at, value)| format!("\"f\\u0061{at}\" :\r\n{value}")).collect();
                format!("{{{}}}", fields.join(","))
            }),
        ]
    });
    tree.prop_map(Bytes::from)
}

fn position() -> impl Strategy<Value = Position> {
    (any::<u64>(), integer(0)).prop_map(|(epoch, offset)| Position { epoch: Epoch::new(epoch), offset })
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![json_text().prop_map(Body::Data), Just(Body::Deleted)]
}

fn client_message() -> impl Strategy<Value = ClientMessage> {
    let id = || integer(1);
    let credential = prop_oneof![
        text().prop_map(Credential::Token),
        text().prop_map(Credential::Ticket),
        (text(), text(), text()).prop_map(|(key, claims, signature)| Credential::Signature { key, claims, signature }),
    ];
    let since = prop_oneof![position().prop_map(Since::Position), Just(Since::Earliest), integer(1).prop_map(Since::Last)];
    let publish = (channel(), option::of(name()), option::of(name()), body()).prop_map(|(channel, message_id, key, body)| Publish {
        channel,
        message_id: message_id.map(MessageId::from),
        key,
        body,
    });
    prop_oneof![
        (id(), credential).prop_map(|(id, credential)| ClientMessage::Auth { id, credential }),
        (id(), channel(), option::of(since)).prop_map(|(id, channel, since)| ClientMessage::Subscribe { id, channel, since }),
        (id(), channel()).prop_map(|(id, channel)| ClientMessage::Unsubscribe { id, channel }),
        (id(), publish).prop_map(|(id, publish)| ClientMessage::Publish { id, publish }),
        (id(), name(), json_text()).prop_map(|(id, method, data)| ClientMessage::Request { id, method, data }),
        option::of(integer(0)).prop_map(|n| ClientMessage::Ping { n: n.map(|n| Bytes::from(n.to_string())) }),
        Just(ClientMessage::Pong),
        (option::of(id()), text()).prop_map(|(id, kind)| ClientMessage::Unknown { id, kind: format!("x-{kind}").into() }),
    ]
}

fn welcome() -> impl Strategy<Value = Welcome> {
    let ms = || (0..=INTEGER_MAX).prop_map(Duration::from_millis);
    let who = (option::of(integer(1)), text(), text(), option::of(text()), option::of(text()));
    let heartbeat = (ms(), ms(), option::of(ms()), ms());
    let reconnect = (ms(), ms(), ms()).prop_map(|(window, base, cap)| ReconnectSettings { window, base, cap });
    (who, heartbeat, any::<[u32; 3]>(), reconnect).prop_map(|(who, heartbeat, limits, reconnect)| Welcome {
        id: who.0,
        connection: who.1,
        node: who.2,
        user: who.3.map(Into::into),
        session: who.4.map(Into::into),
        expires_in: heartbeat.0,
        ping: heartbeat.1,
        app_ping: heartbeat.2,
        dead: heartbeat.3,
        message_bytes: limits[0] as usize,
        subscriptions: limits[1] as usize,
        in_flight: limits[2] as usize,
        reconnect,
    })
}

fn gap() -> impl Strategy<Value = Gap> {
    let reason = select(vec![GapReason::Slow, GapReason::Retention, GapReason::Epoch, GapReason::Bus, GapReason::Policy]);
    (channel(), option::of(integer(0)), option::of((integer(0), integer(0))), reason, option::of(position()))
        .prop_map(|(channel, missed, range, reason, position)| Gap { channel, missed, range, reason, position })
}

fn snapshot() -> impl Strategy<Value = ServerMessage> {
    let entry = (text(), integer(0), body());
    (channel(), position(), vec(entry, 0..4), any::<bool>()).prop_map(|(channel, position, entries, more)| {
        let entry = |(key, offset, body)| {
            let position = Position { epoch: position.epoch, offset };
            Arc::new(Publication::new(channel.clone(), Some(position), None, Some(key), body))
        };
        let entries = entries.into_iter().map(entry).collect();
        ServerMessage::Snapshot { channel, position, entries, more }
    })
}

fn server_message() -> impl Strategy<Value = ServerMessage> {
    let id = || integer(1);
    let kind = || select(vec![ChannelKind::Event, ChannelKind::Log, ChannelKind::State]);
    let recovery = || select(vec![Recovery::None, Recovery::Complete, Recovery::Snapshot, Recovery::Gap]);
    let code = || select(ErrorCode::ALL);
    let opening = prop_oneof![
        welcome().prop_map(|welcome| ServerMessage::Welcome(Box::new(welcome))),
        (id(), channel(), kind(), option::of(position()), recovery())
            .prop_map(|(id, channel, kind, position, recovery)| { ServerMessage::Subscribed { id, channel, kind, position, recovery } }),
        (channel(), option::of(integer(0))).prop_map(|(channel, offset)| ServerMessage::Live { channel, offset }),
        gap().prop_map(|gap| ServerMessage::Gap(Box::new(gap))),
        snapshot(),
        (channel(), code(), option::of(integer(0))).prop_map(|(channel, code, retry_after_ms)| ServerMessage::Unsubscribed {
            channel,
            code,
            retry_after_ms
        }),
    ];
    let replies =
        prop_oneof![
            id().prop_map(|id| ServerMessage::Ok { id }),
            (id(), option::of(position()), any::<bool>()).prop_map(|(id, position, duplicate)| ServerMessage::Published {
                id,
                position,
                duplicate
            }),
            (id(), json_text()).prop_map(|(id, data)| ServerMessage::Response { id, data }),
            (option::of(id()), code(), text(), option::of(integer(0)))
                .prop_map(|(id, code, message, retry_after_ms)| ServerMessage::Error { id, code, message, retry_after_ms }),
        ];
    let departures = prop_oneof![
        Just(ServerMessage::Ping),
        option::of(json_text()).prop_map(|n| ServerMessage::Pong { n }),
        (integer(0), select(vec![ReauthReason::Expiring, ReauthReason::PrivilegeChanged]), option::of(text()))
            .prop_map(|(within_ms, reason, nonce)| ServerMessage::Reauth { within_ms, reason, nonce }),
        (select(vec![DepartReason::Drain, DepartReason::Rebalance, DepartReason::MaxAge]), integer(0), integer(0), option::of(text()))
            .prop_map(|(reason, reconnect_after_ms, deadline_ms, handover)| ServerMessage::GoingAway {
                reason,
                reconnect_after_ms,
                deadline_ms,
                handover
            }),
    ];
    prop_oneof![opening, replies, departures]
}

fn encoded_client(message: &ClientMessage) -> Vec<u8> {
    let mut out = Vec::new();
    json::encode_client(message, &mut out).expect("it can be said");
    out
}

fn understood(frame: &[u8]) -> FromServer {
    let mut messages = json::decode_server(frame).expect("our own frame");
    assert_eq!(messages.len(), 1);
    messages.remove(0).expect("our own message")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn from_client_to_server(message in client_message()) {
        let frame = encoded_client(&message);
        let messages = json::decode(&frame).expect("our own frame");
        prop_assert_eq!(messages.as_slice(), std::slice::from_ref(&message));
    }

    #[test]
    fn a_batch_from_client_to_server(messages in vec(client_message(), 0..6)) {
        let frames: Vec<_> = messages.iter().map(encoded_client).collect();
        let batch = [b"[".as_slice(), &frames.join(b",".as_slice()), b"]"].concat();
        let decoded = json::decode(&batch).expect("our own frame");
        prop_assert_eq!(decoded.as_slice(), &messages);
    }

    #[test]
    fn from_server_to_client(message in server_message()) {
        let mut frame = Vec::new();
        json::encode_server(&message, &mut frame);
        match understood(&frame) {
            FromServer::Message(again) => prop_assert_eq!(again, message),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn a_publication_without_its_epoch(
        channel in channel(), position in option::of(position()), id in option::of(message_id()), key in option::of(text()), body in body(),
    ) {
        let publication = Publication::new(channel.clone(), position, id.clone(), key.clone(), body.clone());
        let mut frame = Vec::new();
        json::encode_publication_into(&publication, &mut frame);
        prop_assert_eq!(frame.len(), frame.capacity());
        let position = position.map(|position| Position { epoch: Epoch::UNKNOWN, ..position });
        match understood(&frame) {
            FromServer::Publication(again) => prop_assert_eq!(again, Publication::new(channel, position, id, key, body)),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn a_challenge(connection in text(), nonce in text(), audience in text(), within_ms in integer(0), methods in vec(text(), 0..3)) {
        let challenge = Challenge { connection, nonce, audience, within_ms, methods };
        let mut frame = Vec::new();
        json::encode_challenge(&challenge, &mut frame);
        match understood(&frame) {
            FromServer::Challenge(again) => prop_assert_eq!(again, challenge),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}
