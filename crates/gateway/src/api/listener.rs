//! The internal listener: HTTP/1.1 with keep-alive, and a bound on everything.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::{Api, router};

/// Connections at once: backends, scrapers and operators, not clients.
const CONNECTIONS: usize = 1024;
/// Time for a request's head, and so for a connection that is kept without a request.
const HEAD_WITHIN: Duration = Duration::from_secs(60);
/// A pause after a failed accept, so that a process without descriptors does not spin.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until the process ends: an operator may look while the node drains.
pub(crate) async fn serve(socket: TcpListener, api: Api) {
    let router = router(api);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match socket.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, router).await {
                        tracing::debug!(%error, "internal connection ended");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
                    tracing::warn!(%error, "accept failed on the internal listener");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

async fn converse(stream: TcpStream, router: axum::Router) -> Result<(), hyper::Error> {
    // Answers to small publishes must not wait for each other.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY refused");
    }
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .half_close(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await
}
