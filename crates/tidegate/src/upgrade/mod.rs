//! From a request to a connection: draining? limits? a proper handshake? an allowed origin? who? Then 101, and a driver of its own.

mod handover;
mod offer;
mod refusal;
mod switching;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use tidegate_core::session::{Mode, Opening, Session};
use tidegate_core::{ConnectionId, Identity};

use crate::admission::Place;
use crate::auth::{Admitted, Denied, UpgradeRequest};
use crate::connection::{Codec, Driver, Facts, Hints, Outside, Port, RawSocket, Socket, Start};
use crate::drain::{Phase, departure};
use crate::hub::Hub;

use offer::Offer;
pub(crate) use offer::Speech;
pub(crate) use refusal::Refusal;
use switching::Switching;

/// What is done with a raw connection: called with its socket, in a task of its own.
pub(crate) type ServeRaw = Arc<dyn Fn(RawSocket) + Send + Sync>;

/// A request that passed: what the connection will begin with.
struct Passed {
    id: ConnectionId,
    address: Option<IpAddr>,
    place: Place,
    identity: Option<Arc<Identity>>,
    hints: Hints,
    codec: Codec,
    raw: Option<ServeRaw>,
}

/// Answers a request on a WebSocket endpoint that an HTTP server has read; the connection begins when that lets go of the socket.
pub(crate) async fn answer(hub: Arc<Hub>, raw: Option<ServeRaw>, mut request: Request<Body>) -> Response<Body> {
    let on_upgrade = hyper::upgrade::on(&mut request);
    let (parts, _body) = request.into_parts();
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    match examine(&hub, raw, peer, &parts).await {
        Ok((passed, switching)) => {
            tokio::spawn(handover::open_when_upgraded(hub, passed, on_upgrade));
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            *response.headers_mut() = switching.into_headers();
            response
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// Answers a request of the Tidegate protocol for which no HTTP server is needed: either the connection is open, to be driven, its 101
/// before everything else it says, or the socket comes back with the refusal that it is owed.
pub(crate) async fn answer_directly(
    hub: &Arc<Hub>,
    peer: IpAddr,
    parts: Parts,
    socket: Socket,
    already_read: Bytes,
) -> Result<Driver, (Socket, Refusal)> {
    match examine(hub, None, Some(peer), &parts).await {
        Ok((passed, switching)) => Ok(open(hub, passed, Opened { socket, already_read, unsaid: Some(switching.head()) })),
        Err(refusal) => Err((socket, refusal)),
    }
}

/// Everything that is judged before the 101, whoever read the request; with what passes comes its 101.
async fn examine(hub: &Arc<Hub>, raw: Option<ServeRaw>, peer: Option<IpAddr>, parts: &Parts) -> Result<(Passed, Switching), Refusal> {
    let examined = judge(hub, raw, peer, parts).await;
    if let Err(refusal) = &examined {
        hub.metrics.upgrade_refused(refusal.code());
        tracing::debug!(reason = refusal.code(), "upgrade refused");
    }
    examined
}

async fn judge(hub: &Arc<Hub>, raw: Option<ServeRaw>, peer: Option<IpAddr>, parts: &Parts) -> Result<(Passed, Switching), Refusal> {
    if hub.lifecycle.phase() == Phase::Leaving {
        return Err(Refusal::Draining);
    }
    let config = hub.config.load_full();
    let address = peer.map(|peer| config.trusted_proxies.client_of(peer, &parts.headers));
    let mut place = hub.admission.enter(&config.admission, address).map_err(Refusal::Full)?;
    let speech = if raw.is_some() { Speech::Raw } else { Speech::Tidegate };
    let offer = Offer::read(parts, &config.origins, speech)?;
    let id = ConnectionId::new(rand::random());
    let identity = authenticate(hub, id, address, parts, &offer, speech).await?;
    match &identity {
        Some(identity) => place.identify(&config.admission, identity.user.as_ref()).map_err(Refusal::Full)?,
        None if speech == Speech::Raw => {}
        None => place.await_authentication(&config.admission).map_err(Refusal::Full)?,
    }
    // Compression would let strangers make us inflate, so it is for those who are known.
    let may_compress = config.compression && (identity.is_some() || speech == Speech::Raw);
    let (codec, extensions) = Codec::negotiate(speech, &config.session.limits, may_compress.then(|| offer::extensions(&parts.headers)));
    let switching = Switching { accept: offer.accept, subprotocol: offer.subprotocol, extensions };
    Ok((Passed { id, address, place, identity, hints: offer::hints(&parts.headers), codec, raw }, switching))
}

/// Without an authenticator a raw endpoint is open, and one of this protocol has nobody to let in.
async fn authenticate(
    hub: &Hub,
    connection: ConnectionId,
    address: Option<IpAddr>,
    parts: &Parts,
    offer: &Offer,
    speech: Speech,
) -> Result<Option<Arc<Identity>>, Refusal> {
    let Some(authenticate) = &hub.authenticate else {
        return match speech {
            Speech::Raw => Ok(None),
            Speech::Tidegate => Err(Refusal::Denied(Denied::Unauthorized("nobody is let in here"))),
        };
    };
    let address = address.unwrap_or(UNKNOWN_ADDRESS);
    let request = UpgradeRequest { connection, address, uri: &parts.uri, headers: &parts.headers, from_page: offer.from_page };
    match authenticate.admit(&request).await.map_err(Refusal::Denied)? {
        Admitted::Identified(identity) => Ok(Some(identity)),
        Admitted::Unidentified => Ok(None),
    }
}

/// What is said of a peer whose server did not tell its address.
const UNKNOWN_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// A socket that is a connection's from now on.
struct Opened {
    socket: Socket,
    /// What was read past the request.
    already_read: Bytes,
    /// The 101, where it is not said yet.
    unsaid: Option<Bytes>,
}

/// Makes it a connection: everybody can reach it, and its driver is to be polled from now on.
fn open(hub: &Arc<Hub>, passed: Passed, opened: Opened) -> Driver {
    let Opened { socket, already_read, unsaid } = opened;
    let Passed { id, address, place, identity, hints, codec, raw } = passed;
    let now = hub.clock.now();
    let settings = Arc::clone(&hub.config.load().session);
    let mode = if raw.is_some() { Mode::Raw } else { Mode::Tidegate };
    let opening = Opening { mode, settings, connection: id, identity, seed: hub.neighbours.seed() };
    let facts = Facts { address: address.unwrap_or(UNKNOWN_ADDRESS), opened: now, hints };
    let port = Arc::new(Port::new(id, facts, Session::new(now, opening), place, raw.is_some()));
    hub.fanout.note_connections();
    hub.metrics.connection_open.inc();
    hub.metrics.connections_open.inc();
    hub.connections.insert(Arc::clone(&port));
    if hub.lifecycle.phase() == Phase::Leaving {
        // It passed the door while it was still open, and was not there when the slots were given out.
        port.tell(now, departure(hub, now));
    }
    let outside: Arc<dyn Outside> = Arc::clone(hub) as _;
    let driver = Driver::new(Start { socket, port: Arc::clone(&port), outside, codec, already_read, unsaid });
    if let Some(serve) = raw {
        serve(RawSocket::new(port, hub.clock, Arc::clone(&hub.budget)));
    }
    driver
}
