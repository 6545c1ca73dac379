//! The HTTP API on the internal listener: publish, look, drain, health, metrics.

mod answer;
mod connections;
mod flying;
mod guard;
mod health;
mod lines;
mod listener;
mod patience;
mod publish;
mod read;
mod receipts;
mod stream;

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use tidegate::{ErrorCode, Gate};
use tokio::sync::Notify;

use crate::config::{Config, Secret};
use answer::Refusal;
pub(crate) use listener::serve;

/// What the API needs. Clones are handles to the same.
#[derive(Clone)]
pub(crate) struct Api {
    gate: Gate,
    settings: Arc<ArcSwap<Settings>>,
    drain: Arc<Notify>,
}

/// What a reload can change.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Bearer keys; none is good on loopback only.
    keys: Vec<Secret>,
    /// Bytes of a body that is taken as a whole.
    body: usize,
}

impl Settings {
    pub(crate) fn of(config: &Config) -> Self {
        Self { keys: config.internal.keys.clone(), body: config.limits.api_body.as_usize() }
    }
}

impl Api {
    /// An API of this gate. `drain` is told when somebody wants the node to go.
    pub(crate) fn new(gate: Gate, settings: Settings, drain: Arc<Notify>) -> Self {
        Self { gate, settings: Arc::new(ArcSwap::from_pointee(settings)), drain }
    }

    pub(crate) fn reconfigure(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }
}

/// Every route. Health is open; everything else is guarded.
fn router(api: Api) -> Router {
    let guarded = Router::new()
        .route("/v1/publish", post(publish::publish))
        .route("/v1/history", get(read::history))
        .route("/v1/snapshot", get(read::snapshot))
        .route("/v1/connections", get(connections::list))
        .route("/v1/connections/{id}", delete(connections::close))
        .route("/v1/drain", post(drain))
        .route("/v1/openapi.json", get(openapi))
        .route("/v1/tickets", post(not_yet))
        .route("/v1/revocations", post(not_yet))
        .route("/metrics", get(health::metrics))
        .fallback(async || Refusal::new(ErrorCode::BadRequest, "there is nothing at this path").with_status(StatusCode::NOT_FOUND))
        .method_not_allowed_fallback(async || {
            Refusal::new(ErrorCode::BadRequest, "not with this method").with_status(StatusCode::METHOD_NOT_ALLOWED)
        })
        .layer(middleware::from_fn_with_state(api.clone(), guard::guard));
    Router::new().route("/livez", get(health::live)).route("/readyz", get(health::ready)).merge(guarded).with_state(api)
}

async fn drain(State(api): State<Api>) -> StatusCode {
    api.drain.notify_one();
    StatusCode::ACCEPTED
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("openapi.json")).into_response()
}

/// Promised for a later version: said honestly, instead of "no such path".
async fn not_yet() -> Refusal {
    Refusal::new(ErrorCode::Unavailable, "not in this version yet").with_status(StatusCode::NOT_IMPLEMENTED)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use axum::body::Body;
    use axum::http::Request;
    use tower_service::Service;

    use super::*;
    use crate::config::Environment;

    async fn api() -> Api {
        let config = crate::config::read("", &Environment::default()).unwrap().config;
        let gate = Gate::builder(config.gate()).build().await.unwrap();
        Api::new(gate, Settings::of(&config), Arc::default())
    }

    /// Method and path of everything that the description names.
    fn described() -> BTreeSet<(String, String)> {
        let text: serde_json::Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
        let paths = text["paths"].as_object().unwrap();
        paths
            .iter()
            .flat_map(|(path, methods)| methods.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone())))
            .collect()
    }

    /// Method and path of everything that the router is given, read from its source, since a router can't be asked.
    fn routed() -> BTreeSet<(String, String)> {
        let source = include_str!("mod.rs");
        let mut routes = BTreeSet::new();
        for rest in source.split(".route(\"").skip(1) {
            let (Some((path, rest)), true) = (rest.split_once("\", "), rest.starts_with('/')) else { continue };
            let (method, rest) = rest.split_once('(').unwrap();
            if !rest.starts_with("not_yet") {
                routes.insert((method.to_uppercase(), path.to_owned()));
            }
        }
        routes
    }

    #[test]
    fn every_route_is_described_and_nothing_else() {
        assert_eq!(routed(), described());
        assert!(routed().len() >= 10);
    }

    #[test]
    fn the_page_names_every_route_and_nothing_else() {
        let page = include_str!("../../../../docs/reference/http-api.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
        let named = rows.filter_map(|(route, _)| route.split_once(" /")).map(|(method, path)| (method.to_owned(), format!("/{path}")));
        assert_eq!(named.collect::<BTreeSet<_>>(), routed());
    }

    #[tokio::test]
    async fn everything_that_is_described_is_there() {
        let mut router = router(api().await);
        for (method, path) in described() {
            let request = Request::builder().method(&*method).uri(path.replace("{id}", "abc")).header("host", "127.0.0.1:1");
            let response = router.call(request.body(Body::empty()).unwrap()).await.unwrap();
            let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
            let text = String::from_utf8_lossy(&body);
            assert!(!text.contains("nothing at this path") && !text.contains("not with this method"), "{method} {path}: {text}");
        }
    }
}
