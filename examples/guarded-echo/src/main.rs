//! An echo server whose sockets are guarded: heartbeats, a bounded outbox, an idle stop, an origin list, and a drain on SIGTERM.
//!
//! ```text
//! guarded-echo [HOST:PORT]                 default 127.0.0.1:8080
//! GUARDED_ECHO_ORIGINS=https://a.example   pages that may connect, comma-separated; without any, browsers are refused
//! GUARDED_ECHO_MESSAGE_BYTES=65536         the largest message
//! GUARDED_ECHO_IDLE_MS=300000              closes with 1000 `idle hard stop` after so long without a message
//! GUARDED_ECHO_DEFLATE=1                   offers permessage-deflate
//! ```
//! Exit status: 0 drained, 1 failed, 2 bad usage, 3 connections were cut at the deadline.

use std::env;
use std::error::Error;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tidegate::{Config, DrainSettings, Gate, HeartbeatSettings, LimitSettings, Listener, Origin, Origins, RawSocket, SessionSettings};
use tokio::signal::unix::{SignalKind, signal};

/// The whole application.
async fn echo(socket: RawSocket) {
    while let Some(message) = socket.recv().await {
        // Waits while the outbox (512 KiB, a part of them for what arrives) has no room; whoever stops reading is closed with
        // 1008 `client too slow`.
        if socket.send(message).await.is_err() {
            break;
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let config = match config() {
        Ok(config) => config,
        Err(problem) => {
            eprintln!("guarded-echo: {problem}");
            return ExitCode::from(2);
        }
    };
    match serve(config).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_cut) => ExitCode::from(3),
        Err(error) => {
            eprintln!("guarded-echo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until SIGTERM, then until the last connection is gone. Says how many had to be cut.
async fn serve(config: Config) -> Result<usize, Box<dyn Error>> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".into());
    let listener = Listener::bind(&address, config.upgrade).await?;
    let (mut first, mut second) = (signal(SignalKind::terminate())?, signal(SignalKind::terminate())?);
    eprintln!("guarded-echo: ws://{}/", listener.local_addr()?);

    let gate = Gate::builder(config).build().await?;
    let echo = gate.raw(echo);
    let app = axum::Router::new().route("/", echo.clone()).route("/ws", echo);
    tokio::spawn({
        let gate = gate.clone();
        async move {
            second.recv().await;
            second.recv().await;
            gate.hurry();
        }
    });
    let term = async {
        first.recv().await;
    };
    tokio::select! {
        () = gate.serve(listener, app) => Err("the listener ended".into()),
        drained = gate.drain_on(term) => Ok(drained.cut),
    }
}

/// What the environment says, where it says something.
fn config() -> Result<Config, String> {
    let limits = LimitSettings { message_bytes: read("GUARDED_ECHO_MESSAGE_BYTES", 64 * 1024)?, ..LimitSettings::default() };
    let idle = Duration::from_millis(read("GUARDED_ECHO_IDLE_MS", 5 * 60 * 1000)?);
    let heartbeat = HeartbeatSettings { idle: Some(idle), ..HeartbeatSettings::default() };
    let origins = env::var("GUARDED_ECHO_ORIGINS").unwrap_or_default();
    let origins = origins
        .split(',')
        .filter(|text| !text.is_empty())
        .map(|text| Origin::parse(text).map_err(|problem| format!("GUARDED_ECHO_ORIGINS: {text}: {problem}")));
    Ok(Config {
        session: Arc::new(SessionSettings { heartbeat, limits, ..SessionSettings::default() }),
        origins: Origins::new(origins.collect::<Result<_, _>>()?),
        drain: DrainSettings {
            announce: Duration::ZERO,
            window: Duration::ZERO,
            deadline: Duration::from_secs(10),
            ..DrainSettings::default()
        },
        compression: read("GUARDED_ECHO_DEFLATE", 0u8)? != 0,
        ..Config::default()
    })
}

fn read<T: FromStr<Err: std::fmt::Display>>(name: &str, default: T) -> Result<T, String> {
    match env::var(name) {
        Ok(text) => text.parse().map_err(|problem| format!("{name}: {text}: {problem}")),
        Err(_) => Ok(default),
    }
}
