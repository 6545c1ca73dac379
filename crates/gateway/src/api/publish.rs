//! `POST /v1/publish`: one message as JSON, or any number as NDJSON.

use std::borrow::Cow;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidegate::broker::Published;
use tidegate::message::Publish;
use tidegate::{Body, ChannelName, ErrorCode, Gate, Overflow};

use super::answer::Refusal;
use super::patience::patiently;
use super::{Api, stream};

/// A broker that has not answered a publish by then is gone: the caller gets a 503 within 2 s.
pub(super) const BROKER_WITHIN: Duration = Duration::from_millis(1800);
/// Bytes of a message's id and of a key, as in the wire protocol: what is published here and there is deduplicated together.
const NAME_BYTES: usize = 255;

/// A message that is to be published, as the API takes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish<'a> {
    #[serde(borrow)]
    channel: Cow<'a, str>,
    #[serde(default, borrow, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(default)]
    key: Option<Box<str>>,
    #[serde(default)]
    message_id: Option<Box<str>>,
    #[serde(default)]
    deleted: bool,
}

/// `null` is data too.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Where it went; `epoch` and `offset` are null on `event` channels.
#[derive(Debug, Serialize)]
struct Receipt {
    epoch: Option<String>,
    offset: Option<u64>,
    duplicate: bool,
}

pub(super) async fn publish(State(api): State<Api>, request: Request) -> Response {
    if media_type(&request) == "application/x-ndjson" {
        return stream::answer(api.gate.clone(), request.into_body());
    }
    match publish_one(&api, request).await {
        Ok(receipt) => axum::Json(receipt).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

async fn publish_one(api: &Api, request: Request) -> Result<Receipt, Refusal> {
    if media_type(&request) != "application/json" {
        return Err(Refusal::field("content-type", "has to be application/json or application/x-ndjson"));
    }
    let limit = api.settings.load().body;
    let body =
        Limited::new(request.into_body(), limit).collect().await.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => Refusal::new(ErrorCode::TooLarge, format!("the body is larger than {limit} bytes")),
            None => Refusal::new(ErrorCode::BadRequest, "the body ended early"),
        })?;
    send(&api.gate, parse(&body.to_bytes(), None)?).await
}

fn media_type(request: &Request) -> &str {
    let text = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim()
}

/// Reads a message; the error names the field. Most messages of a stream are on the channel of the one before, which is shared then.
pub(super) fn parse(text: &[u8], before: Option<&ChannelName>) -> Result<Publish, Refusal> {
    if !text.trim_ascii_start().starts_with(b"{") {
        return Err(Refusal::new(ErrorCode::BadRequest, "a message is a JSON object"));
    }
    let bad = |error: &dyn std::fmt::Display| Refusal::new(ErrorCode::BadRequest, error.to_string());
    let text = simdutf8::basic::from_utf8(text).map_err(|error| bad(&error))?;
    let wish: Wish<'_> = serde_json::from_str(text).map_err(|error| bad(&error))?;
    let channel = match before {
        Some(before) if before.as_str() == wish.channel => before.clone(),
        _ => ChannelName::new(&wish.channel).map_err(|error| Refusal::field("channel", error))?,
    };
    let body = match (wish.data, wish.deleted) {
        (Some(data), false) => Body::Data(Bytes::copy_from_slice(data.get().as_bytes())),
        (None, true) => Body::Deleted,
        (Some(_), true) => return Err(Refusal::field("deleted", "comes in place of data, not with it")),
        (None, false) => return Err(Refusal::field("data", "is missing")),
    };
    for (field, text) in [("message_id", &wish.message_id), ("key", &wish.key)] {
        if text.as_ref().is_some_and(|text| !(1..=NAME_BYTES).contains(&text.len())) {
            return Err(Refusal::field(field, format!("has to be 1 to {NAME_BYTES} bytes")));
        }
    }
    Ok(Publish { channel, message_id: wish.message_id.map(Into::into), key: wish.key, body })
}

/// Whether the channel's publishers wait for its subscribers.
pub(super) fn pauses(gate: &Gate, publish: &Publish) -> bool {
    gate.config().session.rule(&publish.channel).is_some_and(|rule| rule.overflow == Overflow::Pause)
}

/// Publishes. A channel whose publishers wait for subscribers may take as long as a stalled subscriber has; only the broker's part has
/// a deadline of its own.
async fn send(gate: &Gate, publish: Publish) -> Result<Receipt, Refusal> {
    let publisher = gate.publisher();
    if patiently(gate.config().session.outbox.stall, publisher.room(&publish.channel)).await.is_none() {
        return Err(crowded());
    }
    let (Published { position, duplicate }, pace) = patiently(BROKER_WITHIN, publisher.store(publish)).await.ok_or_else(unanswered)??;
    pace.await;
    let (epoch, offset) = position.map(|position| (position.epoch.to_string(), position.offset)).unzip();
    Ok(Receipt { epoch, offset, duplicate })
}

/// A publish that found no room on a channel whose publishers wait for its subscribers.
pub(super) fn crowded() -> Refusal {
    Refusal::new(ErrorCode::Unavailable, "subscribers of the channel don't keep up; the message is not stored")
}

/// A publish that the broker has not answered in time.
pub(super) fn unanswered() -> Refusal {
    Refusal::new(ErrorCode::Unavailable, "the broker does not answer; whether the message is stored is not known")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_message_is_told_by_its_field() {
        for (text, told) in [
            (r#"{"channel":"a","data":1"#, "EOF"),
            (r#"{"data":1}"#, "channel"),
            (r#"{"channel":"a b","data":1}"#, "channel"),
            (r#"{"channel":"a"}"#, "data: is missing"),
            (r#"{"channel":"a","data":1,"deleted":true}"#, "deleted"),
            (r#"{"channel":"a","data":1,"dta":2}"#, "dta"),
            (r#"{"channel":"a","data":1,"key":""}"#, "key"),
            (r#"{"channel":"a","data":1,"message_id":""}"#, "message_id"),
            ("[]", "object"),
            ("", "object"),
        ] {
            let refusal = serde_json::to_string(&parse(text.as_bytes(), None).unwrap_err()).unwrap();
            assert!(refusal.contains(told) && refusal.contains("bad_request"), "{text}: {refusal}");
        }
        assert_eq!(
            parse(br#"{"channel":"a","data": {"x" : 1.0} }"#, None).unwrap().body,
            Body::Data(Bytes::from_static(br#"{"x" : 1.0}"#))
        );
        for field in ["message_id", "key"] {
            let named = |bytes: usize| parse(format!(r#"{{"channel":"a","data":1,"{field}":"{}"}}"#, "n".repeat(bytes)).as_bytes(), None);
            assert!(named(255).is_ok() && named(256).is_err(), "{field}: as long as in the wire protocol");
        }
        assert_eq!(parse(br#"{"channel":"a","data":null}"#, None).unwrap().body, Body::Data(Bytes::from_static(b"null")));
    }
}
