//! What the operating system and the operator say: go, go now, read your configuration again.

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

/// SIGTERM, SIGINT, and whoever else wants the gateway to go.
pub(crate) struct Departure {
    terminate: Signal,
    interrupt: Signal,
    asked: Arc<Notify>,
}

impl Departure {
    /// Listens from now on. `asked` stands for the API.
    ///
    /// # Errors
    /// The system has no place for a handler.
    pub(crate) fn listen(asked: Arc<Notify>) -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())?, asked })
    }

    /// Waits for anyone to say it.
    pub(crate) async fn wanted(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => tracing::info!("SIGTERM"),
            _ = self.interrupt.recv() => tracing::info!("SIGINT"),
            () = self.asked.notified() => tracing::info!("asked to drain"),
        }
    }

    /// Waits for a signal that means: now. Asking the API twice changes nothing.
    pub(crate) async fn urgent(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        tracing::warn!("second signal: cutting what is left");
    }
}
