//! The accept loop: from a socket in the kernel's queue to a request that the router answers, within one deadline.

mod options;

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use futures_util::FutureExt;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::sync::Semaphore;

use crate::metrics::Metrics;
use crate::settings::UpgradeSettings;
use crate::tls::Tls;

/// The first pause after a failed accept, doubled by each that follows it.
const MIN_PAUSE: Duration = Duration::from_millis(10);
/// The longest: freed descriptors are used within it, and a node without any spends a thousandth of a core on asking.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// Peers turned away per pause while no descriptor is left, so that they try elsewhere instead of waiting for us.
const TURNED_AWAY: usize = 64;

/// A listening socket with what it needs to survive its peers: one deadline for each, and a bound on all of them.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    tls: Option<Tls>,
    bounds: UpgradeSettings,
    reserve: Option<File>,
}

impl Listener {
    /// Listens on an address.
    ///
    /// # Errors
    /// The address can't be resolved or is taken.
    pub async fn bind(address: impl ToSocketAddrs, bounds: UpgradeSettings) -> io::Result<Self> {
        Ok(Self { socket: TcpListener::bind(address).await?, tls: None, bounds, reserve: open_reserve() })
    }

    /// Speaks TLS.
    #[must_use]
    pub fn with_tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The kernel does not know.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves the router until the future is dropped. Connections that were upgraded are no longer its concern.
    pub(crate) async fn serve(mut self, app: Router, metrics: Arc<Metrics>) {
        let places = Arc::new(Semaphore::new(self.bounds.handshakes));
        let mut pause = MIN_PAUSE;
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    pause = MIN_PAUSE;
                    let greeting = Greeting { app: app.clone(), tls: self.tls.clone(), bounds: self.bounds, metrics: Arc::clone(&metrics) };
                    tokio::spawn(async move {
                        greeting.within_deadline(stream, peer).await;
                        drop(place);
                    });
                }
                Err(error) if is_peers_fault(&error) => {}
                Err(error) => {
                    metrics.accept_error.inc();
                    tracing::warn!(%error, pause_ms = pause.as_millis() as u64, "accept failed");
                    self.turn_away();
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                }
            }
        }
    }

    /// With the descriptor kept for it, accepts who waits and closes at once: a closed door is an answer, silence is none.
    fn turn_away(&mut self) {
        if self.reserve.take().is_some() {
            for _ in 0..TURNED_AWAY {
                if !matches!(self.socket.accept().now_or_never(), Some(Ok(_))) {
                    break;
                }
            }
        }
        self.reserve = open_reserve();
    }
}

fn open_reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

/// The peer went away while it waited in the queue: nothing is wrong with us.
fn is_peers_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// What one accepted socket needs.
struct Greeting {
    app: Router,
    tls: Option<Tls>,
    bounds: UpgradeSettings,
    metrics: Arc<Metrics>,
}

impl Greeting {
    async fn within_deadline(self, stream: TcpStream, peer: SocketAddr) {
        let metrics = Arc::clone(&self.metrics);
        let deadline = self.bounds.deadline;
        metrics.handshakes_open.inc();
        if tokio::time::timeout(deadline, self.greet(stream, peer)).await.is_err() {
            metrics.handshake_timeout.inc();
        }
        metrics.handshakes_open.dec();
    }

    async fn greet(self, stream: TcpStream, peer: SocketAddr) {
        if let Err(error) = options::prepare(&stream) {
            tracing::debug!(%error, "socket options refused");
            return;
        }
        match &self.tls {
            None => self.serve_one(stream, peer).await,
            Some(tls) => match tls.acceptor().accept(stream).await {
                Ok(stream) => self.serve_one(stream, peer).await,
                Err(error) => tracing::debug!(%error, "TLS handshake failed"),
            },
        }
    }

    /// One request: whoever is refused has to connect again, so that nothing sent after it is taken for a request of ours.
    async fn serve_one(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: SocketAddr) {
        let app = self.app;
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(axum::body::Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            let answered = tower_service::Service::call(&mut app.clone(), request);
            async move { answered.await.map(ending) }
        });
        let served = http1::Builder::new()
            // The deadline around everything has the head in it; hyper's own would only run beside it.
            .header_read_timeout(None)
            .max_buf_size(self.bounds.head_bytes.max(8192))
            .max_headers(self.bounds.fields)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "request failed");
        }
    }
}

/// Says that the connection ends, unless it was upgraded. (hyper's `keep_alive(false)` would say it on a 101 too, in the very header
/// in which clients look for exactly `Upgrade`.)
fn ending<B>(mut response: Response<B>) -> Response<B> {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
