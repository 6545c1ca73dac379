//! The way past the outbox: what need not wait is never put in.

use std::sync::Arc;

use super::Outbox;
use super::lane::{Lane, Queue, Stage};
use crate::Publication;
use crate::session::SubscriptionId;

impl Outbox {
    /// Whether messages may go past an outbox in which nothing waits: then the lane is where it would be had it sent them.
    pub(in crate::session) fn pass(&mut self, id: SubscriptionId, publications: &[Arc<Publication>]) -> bool {
        if self.has_next() {
            return false;
        }
        let Some(at) = self.place(id) else { return false };
        let Lane { stage: Stage::Current, queue, .. } = &mut self.lanes[at] else { return false };
        match queue {
            Queue::Event(lane) => !lane.has_next(),
            Queue::Log(lane) => lane.pass(publications),
            // What is sent is decided by what else has changed.
            Queue::State(_) => false,
        }
    }
}
