//! What is given up while the node is over its outbound budget: first what may be lost, then what is on the log, then the slowest.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tidegate_core::session::{Input, Shed};

use super::Hub;
use crate::connection::Port;

/// Time for what was given up to be let go by the drivers before it is asked for more.
const ROUND: Duration = Duration::from_millis(50);

/// Of the connections with anything waiting, one in so many goes per round: each was asked to be patient twice before.
const SLOWEST_SHARE: usize = 100;

/// Ports told in a row before other tasks get their turn.
const CHUNK: usize = 512;

/// Sheds whenever the node is over its budget, until the hub is gone.
pub(crate) async fn shed_when_over(hub: Weak<Hub>) {
    while let Some(budget) = hub.upgrade().map(|hub| Arc::clone(&hub.budget)) {
        budget.over().await;
        for step in [Shed::Events, Shed::Cursors, Shed::Connection] {
            let Some(hub) = hub.upgrade().filter(|hub| hub.budget.is_over()) else { break };
            shed(&hub, step).await;
            drop(hub);
            tokio::time::sleep(ROUND).await;
        }
    }
}

async fn shed(hub: &Hub, step: Shed) {
    hub.replay.clear();
    let mut waiting: Vec<(usize, Arc<Port>)> =
        hub.connections.all().into_iter().map(|port| (port.outbox_bytes(), port)).filter(|(bytes, _)| *bytes > 0).collect();
    if step == Shed::Connection {
        waiting.sort_unstable_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        waiting.truncate(waiting.len().div_ceil(SLOWEST_SHARE));
    }
    tracing::warn!(?step, connections = waiting.len(), "over the outbound budget");
    for chunk in waiting.chunks(CHUNK) {
        let now = hub.clock.now();
        for (_, port) in chunk {
            port.tell(now, Input::Shed(step));
            hub.metrics.shed(step);
        }
        tokio::task::yield_now().await;
    }
}
