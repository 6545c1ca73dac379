//! Liveness, readiness, metrics.

use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tidegate::broker::{HistoryError, PageLimit};
use tidegate::message::Since;
use tidegate::{ChannelKind, ChannelName, ChannelRule, ErrorCode, HistoryAccess, Overflow, Pattern, Phase, Retention};

use super::Api;
use super::answer::Refusal;

/// A broker that does not answer for so long is taken for gone.
const BROKER_WITHIN: Duration = Duration::from_secs(1);

/// What the broker is asked for to see whether it answers: the history of a channel that nobody publishes to.
const PROBE: &str = "tidegate-readiness-probe";

/// The process turns.
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// Whether load balancers should send clients here.
pub(super) async fn ready(State(api): State<Api>) -> Response {
    if api.gate.phase() != Phase::Serving {
        return Refusal::new(ErrorCode::Unavailable, "draining").into_response();
    }
    match tokio::time::timeout(BROKER_WITHIN, probe(&api)).await {
        Ok(Ok(())) => "ok\n".into_response(),
        Ok(Err(problem)) => Refusal::new(ErrorCode::Unavailable, problem).into_response(),
        Err(_) => Refusal::new(ErrorCode::Unavailable, "the broker does not answer").into_response(),
    }
}

async fn probe(api: &Api) -> Result<(), String> {
    let channel = ChannelName::new(PROBE).map_err(|error| error.to_string())?;
    let pattern = Pattern::new(PROBE).map_err(|error| error.to_string())?;
    let rule = ChannelRule {
        pattern,
        kind: ChannelKind::Log,
        overflow: Overflow::CatchUp,
        retention: Retention::default(),
        history: HistoryAccess::Granted,
    };
    match api.broker.history(&rule, &channel, Since::Earliest, PageLimit { messages: 1, bytes: 1 }).await {
        Err(HistoryError::Broker(error)) => Err(error.to_string()),
        Ok(_) | Err(HistoryError::Retention { .. } | HistoryError::Epoch { .. }) => Ok(()),
    }
}

/// Everything counted.
pub(super) async fn metrics(State(api): State<Api>) -> Response {
    let media = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    (StatusCode::OK, [(header::CONTENT_TYPE, media)], api.gate.metrics().encode()).into_response()
}
