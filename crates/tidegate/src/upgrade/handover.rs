//! The socket of an upgraded request, taken over from the HTTP server that read it.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::{Opened, Passed, open};
use crate::connection::{Connected, Foreign, Prefixed, Socket};
use crate::hub::Hub;

/// Waits for the server to let go of the socket. A task of its own, so that what HTTP needed is freed before the session begins.
pub(super) async fn open_when_upgraded(hub: Arc<Hub>, passed: Passed, on_upgrade: OnUpgrade) {
    let deadline = hub.config.load().upgrade.deadline;
    match tokio::time::timeout(deadline, on_upgrade).await {
        Ok(Ok(upgraded)) => {
            let (socket, already_read) = take_socket(upgraded);
            let driver = open(&hub, passed, Opened { socket, already_read, unsaid: None });
            tokio::spawn(Connected::Driven(driver));
        }
        Ok(Err(error)) => tracing::debug!(%error, "the socket was not handed over"),
        Err(_) => tracing::debug!("the socket was not handed over in time"),
    }
}

/// The socket itself where it is one of those that we know, so that nothing stands between it and the driver.
fn take_socket(upgraded: Upgraded) -> (Socket, Bytes) {
    let upgraded = match upgraded.downcast::<TokioIo<Prefixed>>() {
        Ok(parts) => {
            let (prefix, socket) = parts.io.into_inner().into_parts();
            return (socket, joined(parts.read_buf, prefix));
        }
        Err(upgraded) => upgraded,
    };
    let upgraded = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => return (Socket::plain(parts.io.into_inner()), parts.read_buf),
        Err(upgraded) => upgraded,
    };
    let upgraded = match upgraded.downcast::<TokioIo<TlsStream<TcpStream>>>() {
        Ok(parts) => return (Socket::Tls(Box::new(parts.io.into_inner())), parts.read_buf),
        Err(upgraded) => upgraded,
    };
    match auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(parts) => (Socket::plain(parts.io.into_inner()), parts.read_buf),
        Err(upgraded) => (Socket::Foreign(Box::new(TokioIo::new(upgraded)) as Box<dyn Foreign>), Bytes::new()),
    }
}

/// What the server read past the request, then what it had not read yet.
fn joined(read: Bytes, unread: Bytes) -> Bytes {
    if unread.is_empty() {
        return read;
    }
    let mut whole = BytesMut::with_capacity(read.len() + unread.len());
    whole.put(read);
    whole.put(unread);
    whole.freeze()
}
