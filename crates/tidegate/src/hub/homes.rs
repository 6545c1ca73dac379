//! Where fan-outs run, where the drivers do whom they wake, and how the one lets the other have its turn.

use std::future::ready;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::yield_now;
use tokio::time::timeout;

/// A runtime on which nothing had a turn for so long stands still, or is not polled any more: what is queued for it stays within the bounds of
/// outboxes, and the others' messages go on.
const LONGEST_TURN: Duration = Duration::from_secs(1);

/// The two runtimes, or the one that is both.
#[derive(Debug)]
pub(super) struct Homes {
    fanouts: Handle,
    /// Where the first connection was opened. Whoever serves the same gate on a further one has fan-outs that don't wait for its drivers; the
    /// bounds of outboxes hold there too.
    connections: OnceLock<Handle>,
}

impl Homes {
    pub(super) const fn new(fanouts: Handle) -> Self {
        Self { fanouts, connections: OnceLock::new() }
    }

    pub(super) const fn fanouts(&self) -> &Handle {
        &self.fanouts
    }

    /// A connection is opened on this runtime.
    pub(super) fn note_connections(&self, current: impl FnOnce() -> Handle) {
        self.connections.get_or_init(current);
    }

    /// Lets drivers have a turn that were woken by now: they stand in the queue of their runtime, and this goes to its end. (A worker that
    /// has taken some of them to itself may come to this before it has polled the last.)
    pub(super) async fn give_drivers_a_turn(&self) {
        let elsewhere = self.connections.get().filter(|connections| connections.id() != self.fanouts.id());
        let Some(connections) = elsewhere else { return yield_now().await };
        if let Ok(Err(_)) = timeout(LONGEST_TURN, connections.spawn(ready(()))).await {
            // It is closed: there is nobody to wait for but the others here.
            yield_now().await;
        }
    }
}
