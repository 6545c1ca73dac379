//! Liveness, readiness, metrics.

use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tidegate::{ErrorCode, Phase};

use super::Api;
use super::answer::Refusal;
use super::patience::patiently;

/// A broker that does not answer for so long is taken for gone.
const BROKER_WITHIN: Duration = Duration::from_secs(1);

/// The process turns.
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// Whether load balancers should send clients here.
pub(super) async fn ready(State(api): State<Api>) -> Response {
    if api.gate.phase() != Phase::Serving {
        return Refusal::new(ErrorCode::Unavailable, "draining").into_response();
    }
    match patiently(BROKER_WITHIN, api.gate.broker_answers()).await {
        Some(Ok(())) => "ok\n".into_response(),
        Some(Err(error)) => Refusal::new(ErrorCode::Unavailable, error.to_string()).into_response(),
        None => Refusal::new(ErrorCode::Unavailable, "the broker does not answer").into_response(),
    }
}

/// Everything counted.
pub(super) async fn metrics(State(api): State<Api>) -> Response {
    let media = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    (StatusCode::OK, [(header::CONTENT_TYPE, media)], api.gate.metrics().encode()).into_response()
}
