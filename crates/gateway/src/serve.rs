//! `tidegate serve` and `tidegate dev`: from a configuration to a gateway, until somebody wants it to go.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use tidegate::broker::Embedded;
use tidegate::broker::embedded::OpenError;
use tidegate::{Drained, Gate, Listener, Tls, UpgradeSettings};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::api::{self, Api};
use crate::config::{Certificate, Config, Environment, Loaded};
use crate::doors::Doors;
use crate::exit::{self, Exit, Failure};
use crate::logging::{self, LogFilter};
use crate::reload::{Running, Watch};
use crate::runtimes::Runtimes;
use crate::signals::Departure;
use crate::{dev, page};

/// What it is run for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Trying things out on one machine.
    Dev,
    /// Serving, with the configuration of this file.
    Serve(PathBuf),
}

/// Why it can't start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// It can't listen.
    #[error("{key}: can't listen on {address}: {error}")]
    Listen {
        /// The setting.
        key: &'static str,
        /// Its value.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// The certificate can't be used.
    #[error("public.tls: {0}")]
    Tls(#[from] tidegate::TlsError),
    /// The broker can't be opened.
    #[error("broker: {0}")]
    Broker(#[from] OpenError),
    /// The gate can't be built.
    #[error(transparent)]
    Gate(#[from] tidegate::BuildError),
    /// Something of the operating system does not work.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Runs it to its end.
pub(crate) fn run(loaded: Loaded, purpose: Purpose, environment: &Environment) -> Result<Exit, Failure> {
    let level = environment.get(logging::VARIABLE).unwrap_or(&loaded.config.log.level);
    let filter = logging::start(level);
    if purpose != Purpose::Dev {
        loaded.risks.iter().for_each(|risk| tracing::warn!("{risk}"));
    }
    let runtimes = Runtimes::start()?;
    let drained = runtimes.front.block_on(async {
        let gateway = Gateway::start(loaded.config, purpose, filter, runtimes.connections()).await?;
        gateway.until_drained().await
    });
    runtimes.end();
    Ok(if drained?.cut > 0 { Exit::Cut } else { Exit::Done })
}

/// A gateway that listens. It is started where its messages are fanned out; connections are served elsewhere.
struct Gateway {
    gate: Gate,
    departure: Departure,
}

impl Gateway {
    async fn start(mut config: Config, purpose: Purpose, filter: LogFilter, connections: Handle) -> Result<Self, StartError> {
        // What is changed while the log is read counts too.
        let watch = match &purpose {
            Purpose::Dev => None,
            Purpose::Serve(file) => Some(Watch::begin(file.clone())?),
        };
        let broker = open_broker(&config).await?;
        let doors = Doors::new(config.anonymous(), purpose == Purpose::Dev);
        let gate = Gate::builder(gate_settings(&config, &purpose)).authenticate(doors.clone()).embedded(broker).build().await?;

        // Who sees that it listens may tell it to go.
        let asked = Arc::new(Notify::new());
        let departure = Departure::listen(Arc::clone(&asked))?;
        let tls = config.public.tls.as_ref().map(certificate).transpose()?;
        let public =
            connections.spawn(listen_public(config.public.listen, config.upgrade(), tls.clone())).await.map_err(io::Error::other)??;
        let internal = listen_internal(&config).await?;
        config.public.listen = public.local_addr()?;
        config.internal.listen = internal.local_addr()?;

        let api = Api::new(gate.clone(), api::Settings::of(&config), asked);
        let app = if purpose == Purpose::Dev { page::routes() } else { Router::new() };
        connections.spawn(serve_public(gate.clone(), config.public.path.clone(), public, app));
        tokio::spawn(api::serve(internal, api.clone()));

        tracing::info!(public = %config.public.listen, internal = %config.internal.listen, node = %gate.config().session.node, "listening");
        match watch {
            None => {
                let (public, internal) = (config.public.listen, config.internal.listen);
                let text = dev::welcome(public, internal, &config.public.path, &config.broker.path);
                exit::say(&text).map_err(|_| io::Error::from(io::ErrorKind::WriteZero))?;
            }
            Some(watch) => {
                let running = Running { config, gate: gate.clone(), doors, api, tls, filter };
                tokio::spawn(watch.reload(running));
            }
        }
        Ok(Self { gate, departure })
    }

    /// Serves until somebody wants it to go, then sends everybody away.
    async fn until_drained(self) -> Result<Drained, Failure> {
        let Self { gate, mut departure } = self;
        departure.wanted().await;
        let drain = gate.drain_on(std::future::ready(()));
        tokio::pin!(drain);
        tokio::select! {
            drained = &mut drain => return Ok(drained),
            () = departure.urgent() => gate.hurry(),
        }
        Ok(drain.await)
    }
}

/// What the gate does; in development it lets pages of this machine in.
pub(crate) fn gate_settings(config: &Config, purpose: &Purpose) -> tidegate::Config {
    let mut settings = config.gate();
    if *purpose == Purpose::Dev {
        settings.origins = settings.origins.or_loopback();
    }
    settings
}

async fn serve_public(gate: Gate, path: String, listener: Listener, app: Router) {
    gate.serve_at(&path, listener, app).await;
}

fn certificate(files: &Certificate) -> Result<Tls, tidegate::TlsError> {
    Tls::from_files(&files.cert.0, &files.key.0)
}

async fn listen_public(address: SocketAddr, bounds: UpgradeSettings, tls: Option<Tls>) -> Result<Listener, StartError> {
    let listener = Listener::bind(address, bounds).await;
    let listener = listener.map_err(|error| StartError::Listen { key: "public.listen", address, error })?;
    Ok(match tls {
        Some(tls) => listener.with_tls(tls),
        None => listener,
    })
}

async fn listen_internal(config: &Config) -> Result<TcpListener, StartError> {
    let address = config.internal.listen;
    TcpListener::bind(address).await.map_err(|error| StartError::Listen { key: "internal.listen", address, error })
}

/// Opens the log; it reads all of it, so a thread of its own does.
async fn open_broker(config: &Config) -> Result<Embedded, StartError> {
    let settings = config.broker();
    let opened = tokio::task::spawn_blocking(move || Embedded::open(settings)).await;
    Ok(opened.map_err(io::Error::other)??)
}
