//! What one accepted socket needs until it is a connection or refused: TLS, a glance at its request, and HTTP for what is no upgrade.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use futures_util::FutureExt;
use http::header::CONNECTION;
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use super::{head, options};
use crate::connection::{Driver, Prefixed, Socket};
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::settings::UpgradeSettings;
use crate::tls::Tls;
use crate::upgrade::{self, Refusal};

/// What all sockets of a listener are greeted with.
pub(super) struct Greeter {
    pub(super) app: Router,
    pub(super) direct: Option<Direct>,
    pub(super) tls: Option<Tls>,
    pub(super) bounds: UpgradeSettings,
    pub(super) metrics: Arc<Metrics>,
}

type Following<'a> = Pin<Box<dyn Future<Output = Option<Driver>> + Send + 'a>>;

/// Where the Tidegate protocol is spoken without an HTTP server in between.
pub(crate) struct Direct {
    pub(crate) path: Box<str>,
    pub(crate) hub: Arc<Hub>,
}

/// A handshake under way, counted until it is over, however that comes: also with the runtime, or by a panic of an embedder's part in it.
struct Handshake<'a>(&'a Metrics);

impl<'a> Handshake<'a> {
    fn begin(metrics: &'a Metrics) -> Self {
        metrics.handshakes_open.inc();
        Self(metrics)
    }
}

impl Drop for Handshake<'_> {
    fn drop(&mut self) {
        self.0.handshakes_open.dec();
        if std::thread::panicking() {
            self.0.panic.inc();
        }
    }
}

impl Greeter {
    /// Greets within the one deadline that everything before the 101 has, and gives back the place then. What has become a connection is
    /// to be driven.
    pub(super) async fn greet(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) -> Option<Driver> {
        let handshake = Handshake::begin(&self.metrics);
        let greeted = tokio::time::timeout(self.bounds.deadline, self.take_in(stream, peer)).await;
        if greeted.is_err() {
            self.metrics.handshake_timeout.inc();
        }
        drop(handshake);
        drop(place);
        greeted.ok().flatten()
    }

    /// Waits for what comes first. Whatever is done about that has a box of its own, so that who says nothing costs little, and what a
    /// connection leaves behind when it is greeted has a place that fits the next.
    async fn take_in(&self, stream: TcpStream, peer: SocketAddr) -> Option<Driver> {
        if let Err(error) = options::prepare_accepted(&stream) {
            tracing::debug!(%error, "socket options refused");
            return None;
        }
        let mut socket = match &self.tls {
            None => Socket::plain(stream),
            Some(tls) => Box::pin(secure(tls, stream)).await?,
        };
        let Some(direct) = &self.direct else {
            Box::pin(self.serve_app(Prefixed::new(Bytes::new(), socket), peer)).await;
            return None;
        };
        let first = socket.first_bytes().await.inspect_err(|error| tracing::debug!(%error, "no request")).ok()?;
        if first.is_empty() {
            return None;
        }
        self.follow(direct, first, socket, peer).await
    }

    /// What follows the first bytes. Most often they are a whole upgrade request, and then there is nothing for an HTTP server to do.
    fn follow<'a>(&'a self, direct: &'a Direct, first: Bytes, socket: Socket, peer: SocketAddr) -> Following<'a> {
        match head::upgrade_on(&direct.path, &first, self.bounds.fields) {
            Some((parts, rest)) => Box::pin(self.answer(&direct.hub, peer, parts, rest, first, socket)),
            None => Box::pin(self.serve_app(Prefixed::new(first, socket), peer).map(|()| None)),
        }
    }

    async fn answer(&self, hub: &Arc<Hub>, peer: SocketAddr, parts: Parts, rest: Bytes, first: Bytes, socket: Socket) -> Option<Driver> {
        match upgrade::answer_directly(hub, peer.ip(), parts, socket, rest).await {
            Ok(driver) => Some(driver),
            Err((socket, refusal)) => {
                Box::pin(self.refuse(Prefixed::new(first, socket), refusal)).await;
                None
            }
        }
    }

    async fn serve_app(&self, stream: Prefixed, peer: SocketAddr) {
        let app = self.app.clone();
        let answer = move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            tower_service::Service::call(&mut app.clone(), request)
        };
        self.serve_one(stream, answer).await;
    }

    /// Says no to a request that was judged already. HTTP says it, since it knows how to end what it refuses.
    async fn refuse(&self, stream: Prefixed, refusal: Refusal) {
        self.serve_one(stream, move |_| ready(Ok(refusal.clone().into_response()))).await;
    }

    /// One request: whoever is refused has to connect again, so that nothing sent after it is taken for a request of ours.
    async fn serve_one<F>(&self, stream: Prefixed, answer: impl Fn(Request<Incoming>) -> F)
    where
        F: Future<Output = Result<Response<Body>, Infallible>>,
    {
        let service = service_fn(|request| {
            let answered = answer(request);
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

async fn secure(tls: &Tls, stream: TcpStream) -> Option<Socket> {
    let accepted = tls.acceptor().accept(stream).await.inspect_err(|error| tracing::debug!(%error, "TLS handshake failed"));
    accepted.ok().map(|stream| Socket::Tls(Box::new(stream)))
}

/// Says that the connection ends, unless it was upgraded. (hyper's `keep_alive(false)` would say it on a 101 too, in the very header
/// in which clients look for exactly `Upgrade`.)
fn ending<B>(mut response: Response<B>) -> Response<B> {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every connection needs until its 101, and leaves to the next. With twice as much a connection's port took its place, and
    /// the hole beside it was a tenth of the memory of idle connections.
    #[test]
    fn a_greeting_is_small() {
        const fn size_of_answer<G, S, P, L, F>(_: &impl Fn(G, S, P, L) -> F) -> usize {
            size_of::<F>()
        }
        let size = size_of_answer(&Greeter::greet);
        println!("greeting {size}");
        assert!(size <= 512, "{size}");
    }
}
