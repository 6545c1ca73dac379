//! Channels and their subscribers on this node: what the broker delivers goes out, what sessions want done is done.

mod busy;
mod crowd;
mod fanout;
#[cfg(test)]
mod fanout_tests;
mod full;
mod homes;
mod line;
mod outside;
mod pending;
mod registry;
mod replay;
mod shed;
mod small;
mod stint;
mod turn;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tidegate_core::ChannelName;
use tidegate_core::broker::Broker;
use tokio::sync::{RwLock, Semaphore};

use crate::admission::Admission;
use crate::auth::Authenticate;
use crate::budget::Budget;
use crate::clock::Clock;
use crate::connection::{Alarms, Neighbours, Teardown};
use crate::connections::Connections;
use crate::drain::Lifecycle;
use crate::metrics::Metrics;
use crate::publish::Publisher;
use crate::request::HandleRequest;
use crate::settings::Config;

#[cfg(any(test, feature = "instructions"))]
pub(crate) use crowd::Member;
pub(crate) use fanout::FanOut;
pub(crate) use line::Lines;
pub(crate) use replay::Replay;
pub(crate) use shed::shed_when_over;

/// Locks that order a channel's first subscribe and last unsubscribe at the broker; channels share them by hash.
const STRIPES: usize = 256;

/// What all connections of a gate share.
pub(crate) struct Hub {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) fanout: Arc<FanOut>,
    pub(crate) connections: Connections,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Clock,
    pub(crate) budget: Arc<Budget>,
    pub(crate) config: Arc<ArcSwap<Config>>,
    pub(crate) authenticate: Option<Arc<dyn Authenticate>>,
    pub(crate) requests: Option<Arc<dyn HandleRequest>>,
    pub(crate) publisher: Publisher,
    pub(crate) reads: Semaphore,
    pub(crate) replay: Replay,
    pub(crate) commands: Arc<Semaphore>,
    pub(crate) lines: Lines,
    pub(crate) alarms: Arc<Alarms>,
    pub(crate) neighbours: Neighbours,
    pub(crate) teardown: Arc<Teardown>,
    pub(crate) subscribing: Subscribing,
    pub(crate) admission: Arc<Admission>,
    pub(crate) lifecycle: Lifecycle,
}

/// Subscribes of a channel share a lock, its last unsubscribe has it alone: so a subscribe that comes while the last one leaves
/// finds the channel either still subscribed at the broker or already not, never about to be ended.
pub(crate) struct Subscribing {
    stripes: Box<[RwLock<()>]>,
    hasher: RandomState,
}

impl Subscribing {
    pub(crate) fn new() -> Self {
        Self { stripes: (0..STRIPES).map(|_| RwLock::new(())).collect(), hasher: RandomState::new() }
    }

    fn of(&self, channel: &ChannelName) -> &RwLock<()> {
        &self.stripes[self.hasher.hash_one(channel) as usize % STRIPES]
    }
}
