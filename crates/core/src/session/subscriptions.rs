//! Subscribing and unsubscribing: what is allowed, what is asked of hub and broker, what their answers mean.

use std::sync::Arc;

use super::outbox::{Request, Settled};
use super::timers::Timer;
use super::{Notice, Output, Session, SubscriptionId};
use crate::broker::{BrokerError, HistoryError, Page, Snapshot};
use crate::message::{CommandId, ServerMessage, Since};
use crate::{ChannelKind, ChannelName, ChannelRule, ErrorCode, Grants, HistoryAccess, Moment, Position};

/// What a subscriber whose broker did not come back is told to wait: as long as the longest pause between our own tries.
const ENDED_RETRY_MS: u64 = 5000;

impl Session {
    pub(super) fn grants(&self) -> Option<&Grants> {
        self.authority.identity.as_deref().map(|identity| &identity.grants)
    }

    pub(super) fn subscribe(&mut self, id: CommandId, channel: ChannelName, since: Option<Since>) {
        let rule = match self.may_subscribe(&channel, since) {
            Ok(rule) => rule,
            Err((code, why)) => return self.refuse(Some(id), code, why, None),
        };
        self.in_flight += 1;
        let subscription = self.outbox.open(channel.clone(), rule.clone(), id, since);
        self.outputs.push_back(Output::Attach { subscription, channel, rule });
    }

    /// The one place that decides it, in the order in which the protocol says the codes come.
    fn may_subscribe(&self, channel: &ChannelName, since: Option<Since>) -> Result<Arc<ChannelRule>, (ErrorCode, &'static str)> {
        let Some(grants) = self.grants().filter(|grants| grants.may_subscribe(channel)) else {
            return Err((ErrorCode::Forbidden, "no grant to subscribe there"));
        };
        let Some(rule) = self.settings.rule(channel) else {
            return Err((ErrorCode::UnknownChannel, "no channel rule covers the name"));
        };
        if self.outbox.find(channel).is_some() {
            return Err((ErrorCode::AlreadySubscribed, "the channel is subscribed to already"));
        }
        if self.outbox.subscriptions() >= self.settings.limits.subscriptions {
            return Err((ErrorCode::LimitExceeded, "as many channels as one connection may subscribe to"));
        }
        if since.is_some() && rule.kind == ChannelKind::Event {
            return Err((ErrorCode::BadRequest, "since: an event channel has no history"));
        }
        if since.is_some() && rule.history == HistoryAccess::Granted && !grants.may_read_history(channel) {
            return Err((ErrorCode::Forbidden, "no grant to read history there"));
        }
        Ok(rule.clone())
    }

    pub(super) fn unsubscribe(&mut self, id: CommandId, channel: &ChannelName) {
        let Some(subscription) = self.outbox.find(channel) else {
            return self.refuse(Some(id), ErrorCode::NotSubscribed, "the channel is not subscribed to", None);
        };
        self.end_subscription(subscription, ErrorCode::NotSubscribed, "unsubscribed before it began", None);
        self.outbox.control.tell(ServerMessage::Ok { id });
    }

    /// Takes a subscription away. If its `subscribe` has not been answered, this is the answer.
    pub(super) fn end_subscription(&mut self, subscription: SubscriptionId, code: ErrorCode, why: &str, retry_after_ms: Option<u64>) {
        if let Some((channel, unanswered)) = self.outbox.remove(subscription) {
            if let Some(id) = unanswered {
                self.in_flight = self.in_flight.saturating_sub(1);
                self.refuse(Some(id), code, why, retry_after_ms);
            }
            self.outputs.push_back(Output::Detach { subscription, channel });
        }
    }

    /// Leaves every channel, when the session begins to end.
    pub(super) fn leave_channels(&mut self) {
        for (subscription, channel) in self.outbox.channels_where(|_| true) {
            self.outputs.push_back(Output::Detach { subscription, channel });
        }
    }

    /// Lets a subscription hold its channel's name together with all others of the channel, instead of the copy that came in with the
    /// command.
    pub fn share_name(&mut self, subscription: SubscriptionId, name: &ChannelName) {
        self.outbox.share_name(subscription, name);
    }

    pub(super) fn attached(&mut self, subscription: SubscriptionId, result: Result<Option<Position>, BrokerError>) {
        match result {
            Ok(top) => {
                let settled = self.outbox.attached(subscription, top);
                self.settle_subscription(subscription, settled);
            }
            Err(error) => self.give_up(subscription, &error),
        }
    }

    pub(super) fn fetched(&mut self, now: Moment, subscription: SubscriptionId, result: Result<Page, HistoryError>) {
        let settled = self.outbox.fetched(now, subscription, result);
        self.settle_subscription(subscription, settled);
    }

    pub(super) fn snapshot_taken(&mut self, now: Moment, subscription: SubscriptionId, result: Result<Arc<Snapshot>, BrokerError>) {
        let settled = self.outbox.snapshot_taken(now, subscription, result);
        self.settle_subscription(subscription, settled);
    }

    fn settle_subscription(&mut self, subscription: SubscriptionId, settled: Settled) {
        match settled {
            Settled::Nothing => {}
            Settled::Answered => self.in_flight = self.in_flight.saturating_sub(1),
            Settled::Failed(error) => self.give_up(subscription, &error),
        }
    }

    /// The broker did not give what the subscription needs: an answer to its `subscribe`, or word of its end.
    fn give_up(&mut self, subscription: SubscriptionId, error: &BrokerError) {
        let Some((channel, unanswered)) = self.outbox.remove(subscription) else { return };
        self.outputs.push_back(Output::Detach { subscription, channel: channel.clone() });
        match unanswered {
            Some(id) => {
                self.in_flight = self.in_flight.saturating_sub(1);
                self.refuse_for(id, error);
            }
            None => self.outbox.control.tell(ServerMessage::Unsubscribed {
                channel,
                code: ErrorCode::Unavailable,
                retry_after_ms: Some(ENDED_RETRY_MS),
            }),
        }
    }

    /// Asks for history and snapshots as far as there is room for them.
    pub(super) fn ask_for_history(&mut self) {
        if !self.state.is_open() {
            return;
        }
        while let Some((subscription, channel, rule, request)) = self.outbox.poll_request() {
            self.outputs.push_back(match request {
                Request::Page(since, limit) => Output::Fetch { subscription, channel, rule, since, limit },
                Request::Snapshot => Output::Snapshot { subscription, channel, rule },
            });
        }
        match self.outbox.next_retry() {
            Some(at) => self.timers.set(Timer::Retry, at),
            None => self.timers.stop(Timer::Retry),
        }
    }

    /// Drops waiting events, and says how many of which rule.
    pub(super) fn shed_events(&mut self) {
        for (rule, dropped) in self.outbox.shed_events() {
            self.outputs.push_back(Output::Notice(Notice::Shed { rule, dropped }));
        }
    }
}
