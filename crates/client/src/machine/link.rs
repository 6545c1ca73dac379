//! One connection, from the wish for a credential to its loss. What a link has been told dies with it.

use std::collections::HashMap;
use std::sync::Arc;

use tidegate_core::message::CommandId;
use tidegate_core::{ChannelName, Epoch, Publication};

use crate::client::Credential;

/// Deadline for each step of a try: getting a credential, and from there to `welcome`.
pub(super) const STEP_MS: u64 = 15_000;

/// How long a probe may stay unanswered. Any frame answers it.
const PROBE_MS: u64 = 10_000;

/// How far a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Credential,
    Opening,
    Opened,
    Ready,
}

/// How far a channel is on one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Serving {
    Asked,
    Replaying,
    Live,
}

/// What the server has said about one channel on one link.
#[derive(Debug)]
pub(super) struct Served {
    /// The id of the `subscribe`.
    pub(super) id: CommandId,
    pub(super) state: Serving,
    /// The epoch that offsets on this link belong to.
    pub(super) epoch: Epoch,
    /// Parts of a snapshot that is still coming.
    pub(super) entries: Vec<Arc<Publication>>,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) attempt: u64,
    pub(super) phase: Phase,
    pub(super) credential: Option<Credential>,
    /// End of the step that it is in; not used once it is ready.
    pub(super) deadline: u64,
    pub(super) ready_at: u64,
    pub(super) heard_at: u64,
    /// When a probe was sent that nothing has answered yet.
    pub(super) probed_at: Option<u64>,
    pub(super) served: HashMap<ChannelName, Served>,
}

impl Link {
    pub(super) fn new(attempt: u64, now: u64) -> Self {
        Self {
            attempt,
            phase: Phase::Credential,
            credential: None,
            deadline: now + STEP_MS,
            ready_at: 0,
            heard_at: now,
            probed_at: None,
            served: HashMap::new(),
        }
    }

    /// The next moment at which silence on this link means something.
    pub(super) fn liveness_deadline(&self, quiet_ms: u64) -> u64 {
        match (self.phase, self.probed_at) {
            (Phase::Ready, None) => self.heard_at + quiet_ms,
            (Phase::Ready, Some(probed_at)) => probed_at + PROBE_MS,
            _ => self.deadline,
        }
    }

    /// Subscribes that wait for their reply.
    pub(super) fn asked(&self) -> usize {
        self.served.values().filter(|served| served.state == Serving::Asked).count()
    }
}
