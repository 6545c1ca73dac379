//! The accept loop: from a socket in the kernel's queue to a request that the router answers, within one deadline.

mod greeting;
mod head;
mod options;

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::FutureExt;
use tokio::net::{TcpListener, ToSocketAddrs};
use tokio::sync::Semaphore;

use self::greeting::Greeter;
use crate::connection::Connected;
use crate::metrics::Metrics;
use crate::settings::UpgradeSettings;
use crate::tls::Tls;

pub(crate) use greeting::Direct;

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
    /// The address can't be resolved or is taken, or the kernel refuses a socket option.
    pub async fn bind(address: impl ToSocketAddrs, bounds: UpgradeSettings) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        options::prepare_listening(&socket)?;
        Ok(Self { socket, tls: None, bounds, reserve: open_reserve() })
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

    /// Serves the router, and one path without it, until the future is dropped. Connections that were upgraded are no longer its
    /// concern.
    pub(crate) async fn serve(mut self, app: Router, direct: Option<Direct>, metrics: Arc<Metrics>) {
        let greeter = Arc::new(Greeter { app, direct, tls: self.tls.take(), bounds: self.bounds, metrics: Arc::clone(&metrics) });
        let places = Arc::new(Semaphore::new(self.bounds.handshakes));
        let mut pause = MIN_PAUSE;
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    pause = MIN_PAUSE;
                    let greeter = Arc::clone(&greeter);
                    tokio::spawn(Connected::Greeting(Box::pin(greeter.greet(stream, peer, place))));
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
