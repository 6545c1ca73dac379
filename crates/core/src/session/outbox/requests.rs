//! What lanes want from history, one request at a time, as far as there is room for the answers.

use std::sync::Arc;

use super::lane::{Asked, Stage, Want};
use super::{NEVER, Outbox};
use crate::broker::PageLimit;
use crate::message::Since;
use crate::session::SubscriptionId;
use crate::{ChannelName, ChannelRule, Moment};

/// What a lane wants from the broker.
#[derive(Debug)]
pub(in crate::session) enum Request {
    Page(Since, PageLimit),
    Snapshot,
}

impl Outbox {
    /// A request that there is room for now.
    pub(in crate::session) fn poll_request(&mut self) -> Option<(SubscriptionId, ChannelName, Arc<ChannelRule>, Request)> {
        while !self.held {
            let id = self.first_due()?;
            let Some(at) = self.place(id) else {
                self.pass_over_due();
                continue;
            };
            let (cursor, tail) = self.lanes[at].cursors();
            let lane = &mut self.lanes[at];
            let Stage::Behind(behind) = &mut lane.stage else {
                self.pass_over_due();
                continue;
            };
            if behind.request == Asked::Due && behind.want == Want::Page && !self.budget.is_low() {
                return None;
            }
            behind.listed = false;
            if behind.request != Asked::Due {
                self.pass_over_due();
                continue;
            }
            let request = match behind.want {
                Want::Page => {
                    let limit = self.budget.reserve();
                    behind.ask(limit, tail);
                    Request::Page(cursor, limit)
                }
                Want::Snapshot => {
                    behind.ask(PageLimit { messages: 0, bytes: 0 }, tail);
                    Request::Snapshot
                }
            };
            let wish = (id, lane.channel.clone(), lane.rule.clone(), request);
            self.pass_over_due();
            return Some(wish);
        }
        None
    }

    /// When the next pause of a failing history is over.
    pub(in crate::session) const fn next_retry(&self) -> Option<Moment> {
        if self.retry_at.as_ms() == NEVER.as_ms() { None } else { Some(self.retry_at) }
    }

    /// Ends the pauses that are over.
    pub(in crate::session) fn retry(&mut self, now: Moment) {
        self.retry_at = NEVER;
        for at in 0..self.lanes.len() {
            if let Stage::Behind(behind) = &mut self.lanes[at].stage
                && let Asked::Later(then) = behind.request
                && then <= now
            {
                behind.request = Asked::Due;
            }
            self.list(at);
        }
    }

    fn first_due(&self) -> Option<SubscriptionId> {
        self.due.as_ref()?.front().copied()
    }

    fn pass_over_due(&mut self) {
        if let Some(due) = &mut self.due {
            due.pop_front();
            if due.is_empty() {
                self.due = None;
            }
        }
    }
}
