//! What lanes want from history, one request at a time, as far as there is room for the answers.

use std::sync::Arc;

use super::Outbox;
use super::lane::{Asked, Stage, Want};
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
            let at = self.place(id);
            if let Some(at) = at
                && let Stage::Behind(behind) = &self.lanes[at].stage
                && behind.request == Asked::Due
                && behind.want == Want::Page
                && !self.budget.is_low()
            {
                return None;
            }
            self.pass_over_due();
            let Some(at) = at else { continue };
            let (cursor, tail) = self.lanes[at].cursors();
            let lane = &mut self.lanes[at];
            let Stage::Behind(behind) = &mut lane.stage else { continue };
            behind.listed = false;
            if behind.request != Asked::Due {
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
            return Some((id, lane.channel.clone(), lane.rule.clone(), request));
        }
        None
    }

    /// When the next pause of a failing history is over.
    pub(in crate::session) const fn next_retry(&self) -> Option<Moment> {
        if self.retry_at.as_ms() == Moment::NEVER.as_ms() { None } else { Some(self.retry_at) }
    }

    /// Ends the pauses that are over.
    pub(in crate::session) fn retry(&mut self, now: Moment) {
        self.retry_at = Moment::NEVER;
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
