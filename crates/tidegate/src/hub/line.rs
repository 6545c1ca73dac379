//! Publishes that can't begin at once (too much is under way, or the channel's publishers wait for subscribers): a line for each
//! connection, so that its messages reach the broker in the order in which they came.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tidegate_core::message::{CommandId, Publish};
use tidegate_core::{ChannelRule, ConnectionId, Overflow};
use tokio::sync::OwnedSemaphorePermit;

use super::Hub;
use super::outside::Task;

/// The lines there are. What stands in one is bounded by its session's commands in flight.
#[derive(Default)]
pub(crate) struct Lines {
    lines: Mutex<HashMap<ConnectionId, VecDeque<Wish>>>,
    /// How many: nobody takes the lock while there is none.
    count: AtomicUsize,
}

/// A publish that a session wants.
pub(super) struct Wish {
    pub(super) task: Task,
    pub(super) id: CommandId,
    pub(super) rule: Arc<ChannelRule>,
    pub(super) publish: Publish,
}

impl Hub {
    /// Begins the publish, or puts it in its connection's line. A connection's publishes come one after the other.
    pub(super) fn publish(self: &Arc<Self>, connection: ConnectionId, wish: Wish) {
        let Some(wish) = self.lines.join(connection, wish) else { return };
        if wish.rule.overflow != Overflow::Pause
            && let Ok(permit) = Arc::clone(&self.commands).try_acquire_owned()
        {
            wish.begin(permit);
            return;
        }
        self.lines.form(connection, wish);
        tokio::spawn(Arc::clone(self).serve(connection));
    }

    /// Begins one after the other until the line is empty.
    async fn serve(self: Arc<Self>, connection: ConnectionId) {
        while let Some(wish) = self.lines.next(connection) {
            let Some(permit) = self.turn(&wish).await else { return };
            wish.begin(permit);
        }
    }

    /// Comes when there is room on the channel and a permit. Neither is held while the other is waited for: what everybody else wants
    /// must not wait for the subscribers of one channel.
    async fn turn(&self, wish: &Wish) -> Option<OwnedSemaphorePermit> {
        let pauses = wish.rule.overflow == Overflow::Pause;
        loop {
            if pauses {
                self.fanout.room_in(&wish.publish.channel).await;
            }
            // Closed never: it lives as long as the hub.
            let permit = Arc::clone(&self.commands).acquire_owned().await.ok()?;
            if !pauses || self.fanout.has_room(&wish.publish.channel) {
                return Some(permit);
            }
        }
    }
}

impl Lines {
    /// Puts it at the end of the connection's line; gives it back if there is none.
    fn join(&self, connection: ConnectionId, wish: Wish) -> Option<Wish> {
        if self.count.load(Ordering::Acquire) == 0 {
            return Some(wish);
        }
        match self.lines.lock().get_mut(&connection) {
            Some(line) => {
                line.push_back(wish);
                None
            }
            None => Some(wish),
        }
    }

    fn form(&self, connection: ConnectionId, first: Wish) {
        let mut lines = self.lines.lock();
        lines.insert(connection, VecDeque::from([first]));
        self.count.store(lines.len(), Ordering::Release);
    }

    /// The first in the line. An empty line is dissolved: by then everything that stood in it has begun.
    fn next(&self, connection: ConnectionId) -> Option<Wish> {
        let mut lines = self.lines.lock();
        let first = lines.get_mut(&connection)?.pop_front();
        if first.is_none() {
            lines.remove(&connection);
            self.count.store(lines.len(), Ordering::Release);
        }
        first
    }
}
