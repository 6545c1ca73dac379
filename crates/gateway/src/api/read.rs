//! Reading what channels keep: history in pages, and the state of `state` channels.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidegate::broker::{HistoryError, PageLimit};
use tidegate::message::Since;
use tidegate::{Body, ChannelName, Epoch, ErrorCode, Position, Publication};

use super::Api;
use super::answer::Refusal;

/// A page that nobody sized.
const DEFAULT_LIMIT: usize = 100;
/// The largest page in messages, and in bytes: what one request may hold in memory.
const MAX_LIMIT: usize = 1000;
const MAX_BYTES: usize = 4 << 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    channel: Box<str>,
    epoch: Option<Box<str>>,
    offset: Option<u64>,
    limit: Option<usize>,
}

#[derive(Debug, Serialize)]
struct Page {
    epoch: String,
    messages: Vec<Message>,
    /// The offset to ask for next; null at the end.
    next: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Entries {
    epoch: String,
    offset: u64,
    entries: Vec<Message>,
}

/// A message as the API shows it.
#[derive(Debug, Serialize)]
struct Message {
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
}

impl Message {
    fn of(publication: &Arc<Publication>) -> Self {
        let data = match &publication.body {
            Body::Data(data) => std::str::from_utf8(data).ok().and_then(|text| RawValue::from_string(text.to_owned()).ok()),
            Body::Deleted => None,
        };
        Self {
            offset: publication.offset(),
            id: publication.id.as_deref().map(Into::into),
            key: publication.key.clone(),
            data,
            deleted: publication.body == Body::Deleted,
        }
    }
}

/// The messages after a position, or from the oldest kept.
pub(super) async fn history(State(api): State<Api>, query: Result<Query<Wanted>, QueryRejection>) -> Result<Response, Refusal> {
    let Query(from) = query.map_err(|error| Refusal::field("query", error.body_text()))?;
    let limit = from.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Refusal::field("limit", "has to be 1 to 1,000"));
    }
    let since = match (from.epoch, from.offset) {
        (None, None) => Since::Earliest,
        (Some(epoch), Some(offset)) => Since::Position(Position { epoch: epoch.parse().unwrap_or(Epoch::UNKNOWN), offset }),
        (Some(_), None) => return Err(Refusal::field("offset", "is missing; an epoch comes with an offset")),
        (None, Some(_)) => return Err(Refusal::field("epoch", "is missing; an offset comes with an epoch")),
    };
    exists(&api, &from.channel, false)?;
    match api.gate.history(&from.channel, since, PageLimit { messages: limit, bytes: MAX_BYTES }).await? {
        Ok(page) => {
            let next = if page.more { page.messages.last().map(|message| message.offset()) } else { None };
            let messages = page.messages.iter().map(Message::of).collect();
            Ok(Json(Page { epoch: page.top.epoch.to_string(), messages, next }).into_response())
        }
        Err(HistoryError::Retention { oldest, .. }) => Ok(gone(oldest, "messages after the position are no longer kept")),
        Err(HistoryError::Epoch { oldest, .. }) => Ok(gone(oldest, "the position is of another epoch")),
        Err(HistoryError::Broker(error)) => Err(tidegate::PublishError::from(error).into()),
    }
}

/// All entries of a `state` channel.
pub(super) async fn snapshot(State(api): State<Api>, query: Result<Query<Wanted>, QueryRejection>) -> Result<Response, Refusal> {
    let Query(from) = query.map_err(|error| Refusal::field("query", error.body_text()))?;
    exists(&api, &from.channel, true)?;
    let snapshot = api.gate.snapshot(&from.channel).await?;
    let entries = snapshot.entries.iter().map(Message::of).collect();
    let Position { epoch, offset } = snapshot.position;
    Ok(Json(Entries { epoch: epoch.to_string(), offset, entries }).into_response())
}

/// 410 with the oldest position that is still there.
fn gone(oldest: Position, why: &str) -> Response {
    let body = serde_json::json!({
        "code": "gone",
        "message": why,
        "retry_after_ms": null,
        "oldest": { "epoch": oldest.epoch.to_string(), "offset": oldest.offset },
    });
    (StatusCode::GONE, Json(body)).into_response()
}

/// Whether the channel keeps what is asked for.
fn exists(api: &Api, channel: &str, state: bool) -> Result<(), Refusal> {
    use tidegate::ChannelKind;
    let name = ChannelName::new(channel).map_err(|error| Refusal::field("channel", error))?;
    let config = api.gate.config();
    match config.session.rule(&name).map(|rule| rule.kind) {
        None => Err(Refusal::new(ErrorCode::UnknownChannel, format!("channel: no rule matches {name}"))),
        Some(ChannelKind::Event) => Err(Refusal::field("channel", "keeps nothing: it is of kind event")),
        Some(ChannelKind::Log) if state => Err(Refusal::field("channel", "has no snapshot: it is of kind log")),
        Some(ChannelKind::Log | ChannelKind::State) => Ok(()),
    }
}
