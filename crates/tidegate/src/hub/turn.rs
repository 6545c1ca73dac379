//! The task that hands out what a channel has pending: its turns, and what becomes of the channel when it ends.

use std::sync::Arc;

use tokio::task::yield_now;
use tokio::time::timeout;

use super::crowd::{Crowd, Step};
use super::fanout::{Delivery, FanOut};
use super::pending::Items;
use super::small::{self, FEW};
use super::stint::Stint;
use crate::connection::Batch;

/// A channel's turn: the one task that hands out what is pending, so that its order is kept. One that began with few subscribers goes on with
/// the next such channel.
pub(super) struct Turn {
    fanout: Arc<FanOut>,
    crowd: Arc<Crowd>,
    is_small: bool,
    stint: Stint,
    begun: bool,
    ended: bool,
}

impl Turn {
    pub(super) fn new(fanout: Arc<FanOut>, crowd: Arc<Crowd>, is_small: bool) -> Self {
        Self { fanout, crowd, is_small, stint: Stint::default(), begun: false, ended: false }
    }

    pub(super) async fn run(mut self) {
        self.begun = true;
        // Publishers that are ready go first: what they have to say shares the write.
        yield_now().await;
        self.empty().await;
        while self.is_small
            && let Some(next) = self.fanout.small.next()
        {
            (self.crowd, self.ended) = (next, false);
            self.empty().await;
        }
    }

    /// Hands out what is pending until nothing is, or by a task of its own what never ends.
    async fn empty(&mut self) {
        self.gather().await;
        let mut steps = 0;
        while let Some(step) = self.fanout.registry.take(&self.crowd) {
            let has_outgrown = step.members.len() > FEW;
            self.hand_out(step).await;
            steps += 1;
            if self.is_small && (has_outgrown || steps >= small::STEPS) && self.crowd.has_pending() {
                // The others that wait are not to wait for one that is never done.
                self.ended = true;
                return self.fanout.begin(Arc::clone(&self.crowd), false);
            }
            self.gather().await;
        }
        self.fanout.busy.end();
        self.ended = true;
    }

    /// Lets messages wait for each other, if the channel's rule says so, and no longer than until they fill a write.
    async fn gather(&self) {
        let flush_window = self.crowd.rule.flush_window;
        if flush_window.is_zero() {
            return;
        }
        if let Some(enough) = self.crowd.wait_for_batch() {
            let _paused = self.fanout.busy.pause();
            // Either way it is time to write.
            let _ = timeout(flush_window, enough).await;
        }
    }

    async fn hand_out(&mut self, step: Step) {
        let Step { members, items, first } = step;
        match items {
            Items::Messages(messages) => {
                let batch = Batch::new(messages, |frames| self.fanout.budget.charge(frames, 0));
                let delivery = Delivery { crowd: Arc::clone(&self.crowd), members, batch, first };
                self.fanout.deliver_all(delivery, &mut self.stint).await;
            }
            Items::Lost(position) => self.fanout.tell_of_loss(&members, first, position, &mut self.stint).await,
        }
    }

    /// Nobody will hand out what is pending, here or on the channels that wait for this task: their publishers wait no longer.
    fn abandon(&self) {
        let mut abandoned = Some(Arc::clone(&self.crowd));
        while let Some(crowd) = abandoned {
            self.fanout.registry.abandon(&crowd);
            self.fanout.busy.end();
            abandoned = if self.is_small { self.fanout.small.next() } else { None };
        }
    }
}

impl Drop for Turn {
    /// However it ends: after a panic another task goes on, and subscribers learn that there is a hole. One that is dropped otherwise, or
    /// never began, had a runtime that is closed, and so would all others.
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if !self.begun || !std::thread::panicking() {
            return self.abandon();
        }
        self.fanout.metrics.panic.inc();
        self.crowd.interrupted();
        self.fanout.begin(Arc::clone(&self.crowd), self.is_small);
    }
}
