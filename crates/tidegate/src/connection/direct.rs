//! The shortest way out: a fan-out writes to a sleeping connection's socket itself, and nobody is woken.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::TcpStream;

use super::unwritten::Unwritten;

/// How a fan-out wants a batch to reach the socket, if nothing waits before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Queued, for the driver to write together with what is about to come.
    Queue,
    /// Written at once where the connection has no other subscription, from which more could be about to come.
    WriteToSingle,
    /// Written at once.
    Write,
}

/// The socket for whoever holds the port's lock while the driver sleeps. Plain TCP without compression only.
#[derive(Debug, Default)]
pub(super) struct Direct {
    stream: Option<Arc<TcpStream>>,
    /// What the socket did not take: the driver's to write, before anything else. Boxed, since most never have one.
    rest: Option<Box<Unwritten>>,
}

impl Direct {
    pub(super) fn open(&mut self, stream: Option<Arc<TcpStream>>) {
        self.stream = stream;
    }

    /// Lets go of the socket, so that it is closed with its driver.
    pub(super) fn close(&mut self) {
        *self = Self::default();
    }

    pub(super) const fn is_open(&self) -> bool {
        self.stream.is_some() && self.rest.is_none()
    }

    /// Writes, and keeps what the socket does not take now. Says how much it took. A socket that failed takes nothing: the driver
    /// will find out.
    pub(super) fn write(&mut self, bytes: &Bytes) -> usize {
        let outcome = match &self.stream {
            Some(stream) => stream.try_write(bytes),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        let written = outcome.unwrap_or(0);
        if written < bytes.len() {
            self.rest = Unwritten::of_one(bytes, written);
        }
        written
    }

    pub(super) fn take_rest(&mut self) -> Option<Box<Unwritten>> {
        self.rest.take()
    }
}
