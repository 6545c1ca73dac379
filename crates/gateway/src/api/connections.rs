//! Who is connected, in pages; and closing one.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use tidegate::{ChannelName, CloseCode, ConnectionFilter, ConnectionId, ConnectionPage, ErrorCode};

use super::Api;
use super::answer::Refusal;

/// A page that nobody sized: a screen or two.
const DEFAULT_LIMIT: usize = 100;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    user: Option<Box<str>>,
    channel: Option<Box<str>>,
    limit: Option<usize>,
    after: Option<Box<str>>,
}

pub(super) async fn list(State(api): State<Api>, query: Result<Query<Filter>, QueryRejection>) -> Result<Json<ConnectionPage>, Refusal> {
    let Query(query) = query.map_err(|error| Refusal::field("query", error.body_text()))?;
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=1000).contains(&limit) {
        return Err(Refusal::field("limit", "has to be 1 to 1,000"));
    }
    let channel = query.channel.as_deref().map(ChannelName::new).transpose().map_err(|error| Refusal::field("channel", error))?;
    let after = query.after.map(|after| after.parse::<ConnectionId>()).transpose().map_err(|error| Refusal::field("after", error))?;
    Ok(Json(api.gate.connections(&ConnectionFilter { user: query.user, channel, after, limit })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Closing {
    code: Option<u16>,
    reason: Option<Box<str>>,
}

/// Closes one; 4203 (`revoked`) unless another code is given.
pub(super) async fn close(
    State(api): State<Api>,
    Path(id): Path<Box<str>>,
    query: Result<Query<Closing>, QueryRejection>,
) -> Result<StatusCode, Refusal> {
    let Query(closing) = query.map_err(|error| Refusal::field("query", error.body_text()))?;
    let missing = || Refusal::new(ErrorCode::BadRequest, "no such connection").with_status(StatusCode::NOT_FOUND);
    let id = id.parse::<ConnectionId>().map_err(|_| missing())?;
    let code = match closing.code {
        None => CloseCode::Revoked,
        Some(number) => CloseCode::from_number(number).ok_or_else(|| Refusal::field("code", "is not a close code of the protocol"))?,
    };
    if closing.reason.as_ref().is_some_and(|reason| reason.len() > 100) {
        return Err(Refusal::field("reason", "is longer than 100 bytes"));
    }
    if api.gate.close(id, code, closing.reason.as_deref()) { Ok(StatusCode::NO_CONTENT) } else { Err(missing()) }
}
