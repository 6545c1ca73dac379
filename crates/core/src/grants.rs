//! Who a session speaks for and what that lets it do. One policy point, default deny.

use std::sync::Arc;
use std::time::Duration;

use crate::{ChannelName, Pattern};

/// Which channels may be subscribed to, published to, and have their history read. Empty means nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Patterns of channels to subscribe to.
    pub subscribe: Vec<Pattern>,
    /// Patterns of channels to publish to.
    pub publish: Vec<Pattern>,
    /// Patterns of channels whose history may be read where the rule asks for a grant.
    pub history: Vec<Pattern>,
}

impl Grants {
    /// Whether the channel may be subscribed to.
    pub fn may_subscribe(&self, channel: &ChannelName) -> bool {
        covers(&self.subscribe, channel)
    }

    /// Whether the channel may be published to.
    pub fn may_publish(&self, channel: &ChannelName) -> bool {
        covers(&self.publish, channel)
    }

    /// Whether the channel's history may be read where the rule asks for a grant.
    pub fn may_read_history(&self, channel: &ChannelName) -> bool {
        covers(&self.history, channel)
    }

    /// Whether nothing at all is granted.
    pub fn is_empty(&self) -> bool {
        self.subscribe.is_empty() && self.publish.is_empty() && self.history.is_empty()
    }
}

fn covers(patterns: &[Pattern], channel: &ChannelName) -> bool {
    patterns.iter().any(|pattern| pattern.matches(channel))
}

/// What authentication found out. Shared: anonymous sessions all point to one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The user; `None` for anonymous sessions.
    pub user: Option<Arc<str>>,
    /// The login that the connection belongs to, by which it can be revoked.
    pub session: Option<Arc<str>>,
    /// Roles, by which it can be revoked.
    pub roles: Vec<Arc<str>>,
    /// What it may do.
    pub grants: Grants,
    /// How long from now its authority lasts; `None` means `auth.session`.
    pub expires_in: Option<Duration>,
}
