//! Leaving without anybody noticing: announce, spread the connections' slots evenly, wait, and cut what is left at the deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use rand::seq::SliceRandom;
use tidegate_core::message::DepartReason;
use tidegate_core::session::Input;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::connection::Port;
use crate::hub::Hub;

/// Time for drivers to notice that they were cut, before the count is final.
const CUT_WITHIN: Duration = Duration::from_secs(1);

/// Where a node is in its life. It only ever goes down this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// It takes connections and wants more.
    Serving,
    /// It takes connections, and tells load balancers to look elsewhere (`/readyz` is 503).
    Announced,
    /// It answers upgrades with 503 and sends its connections away.
    Leaving,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections there were when slots were given out.
    pub connections: usize,
    /// Connections that had to be cut, at the deadline or by a second signal.
    pub cut: usize,
}

/// The phase, and the way to hurry.
#[derive(Debug, Default)]
pub(crate) struct Lifecycle {
    phase: AtomicU8,
    hurry: Notify,
}

impl Lifecycle {
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Serving,
            1 => Phase::Announced,
            _ => Phase::Leaving,
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::Relaxed);
    }

    /// Skips to the end.
    pub(crate) fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Sends everybody away. Ends when the last socket is gone, or at the deadline, which counts from now.
    pub(crate) async fn drain(&self, hub: &Hub) -> Drained {
        let settings = hub.config.load().drain;
        let deadline = Instant::now() + settings.deadline;
        self.enter(Phase::Announced);
        tracing::info!(announce_ms = settings.announce.as_millis() as u64, "draining");
        let hurried = timeout_at(deadline.min(Instant::now() + settings.announce), self.hurry.notified()).await.is_ok();
        self.enter(Phase::Leaving);
        let ports = hub.connections.all();
        let connections = ports.len();
        if !hurried {
            give_slots(hub, ports);
            tokio::select! {
                () = self.hurry.notified() => {}
                _ = timeout_at(deadline, hub.connections.emptied()) => {}
            }
        }
        let cut = cut_rest(hub).await;
        tracing::info!(connections, cut, "drained");
        Drained { connections, cut }
    }
}

/// Connection i of n gets a slot somewhere in the i-th n-th of the window: an even rate, and nobody can tell who is next to whom.
fn give_slots(hub: &Hub, mut ports: Vec<Arc<Port>>) {
    let config = hub.config.load();
    let count = ports.len().max(1) as f64;
    ports.shuffle(&mut rand::rng());
    let now = hub.clock.now();
    for (place, port) in ports.iter().enumerate() {
        let slot = config.drain.window.mul_f64((place as f64 + rand::random::<f64>()) / count);
        port.tell(now, departure(hub, now + slot));
    }
}

/// What a connection is told that has to go at this moment. Each comes back after a delay of its own if it stays to the end.
pub(crate) fn departure(hub: &Hub, at: tidegate_core::Moment) -> Input {
    let config = hub.config.load();
    let window_ms = u64::try_from(config.session.reconnect.window.as_millis()).unwrap_or(u64::MAX);
    let retry_ms = rand::random_range(0..=window_ms);
    Input::Depart { reason: DepartReason::Drain, at, grace: config.drain.grace, retry_ms }
}

async fn cut_rest(hub: &Hub) -> usize {
    let left = hub.connections.all();
    left.iter().for_each(|port| port.cut());
    let deadline = Instant::now() + CUT_WITHIN;
    if timeout_at(deadline, hub.connections.emptied()).await.is_err() {
        tracing::error!(connections = hub.connections.count(), "connections did not end when they were cut");
    }
    left.len()
}
