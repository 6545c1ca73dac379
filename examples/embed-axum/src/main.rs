//! A gate inside a service that was there before: one more route, a publisher in a handler, a drain beside axum's own shutdown.
//!
//! ```text
//! embed-axum [HOST:PORT]                                     default 127.0.0.1:8080
//! websocat ws://127.0.0.1:8080/ws                            {"type":"subscribe","id":1,"channel":"orders:eu"}
//! curl -d '{"id":42,"state":"paid"}' -H content-type:application/json http://127.0.0.1:8080/orders/eu
//! ```

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tidegate::auth::Anonymous;
use tidegate::{ChannelKind, ChannelRule, Config, Gate, Grants, Pattern, Phase, SessionSettings};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".into());
    let orders = Pattern::new("orders:*")?;
    let grants = Grants { subscribe: vec![orders.clone()], ..Grants::default() };
    let gate = Gate::builder(config(orders)).authenticate(Anonymous::new(grants)).build().await?;

    let app = Router::new()
        .route("/ws", gate.route())
        .route("/orders/{region}", post(place_order))
        .route("/health", get(health))
        .with_state(gate.clone())
        .into_make_service_with_connect_info::<SocketAddr>();

    let listener = tokio::net::TcpListener::bind(&address).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    let drained = gate.drain_on(async move {
        terminate.recv().await;
    });
    // The listener stays open while the gate drains, to say 503; axum's own shutdown does not follow upgraded sockets.
    tokio::select! {
        served = async { axum::serve(listener, app).await } => served.map(|()| ExitCode::SUCCESS).map_err(Into::into),
        drained = drained => Ok(if drained.cut == 0 { ExitCode::SUCCESS } else { ExitCode::from(3) }),
    }
}

/// A handler that was there before, and now tells everyone who watches.
async fn place_order(State(gate): State<Gate>, Path(region): Path<String>, Json(order): Json<Value>) -> (StatusCode, Json<Value>) {
    match gate.publisher().publish(&format!("orders:{region}"), &order).await {
        Ok(published) => (StatusCode::CREATED, Json(json!({ "offset": published.position.map(|position| position.offset) }))),
        Err(error) => (StatusCode::BAD_REQUEST, Json(json!({ "code": error.code().name(), "message": error.to_string() }))),
    }
}

async fn health(State(gate): State<Gate>) -> StatusCode {
    if gate.phase() == Phase::Serving { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn config(orders: Pattern) -> Config {
    let rule = ChannelRule::new(orders, ChannelKind::Log);
    let session = SessionSettings { channels: vec![Arc::new(rule)], ..SessionSettings::default() };
    Config { session: Arc::new(session), ..Config::default() }
}
