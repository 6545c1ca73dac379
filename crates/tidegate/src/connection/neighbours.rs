//! Which connections ping together: those that came one after another, since what belongs to them lies side by side in memory.
//!
//! After half a minute of quiet every page of memory is a visit to somewhere cold, in the kernel too. Of 64 connections picked at random each
//! pays for pages of its own; of 64 neighbours a ping finds most of its pages warm from the one before.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// So many have their pings at the same times: as many as alarms ring in a row, and a hundredth of a burst that would be felt.
const TOGETHER: u64 = 64;

/// Gives out the seeds of sessions' timers.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    opened: AtomicU64,
    hasher: RandomState,
}

impl Neighbours {
    /// The seed of the next session.
    pub(crate) fn seed(&self) -> u64 {
        let group = self.opened.fetch_add(1, Ordering::Relaxed) / TOGETHER;
        self.hasher.hash_one(group)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use tidegate_core::session::{Mode, Opening, Session};
    use tidegate_core::{ConnectionId, HeartbeatSettings, Identity, Moment, SessionSettings};

    use super::*;

    /// When a session pings first, as nothing else is due before.
    fn first_ping(seed: u64) -> Moment {
        let heartbeat = HeartbeatSettings { app_ping: None, ..HeartbeatSettings::default() };
        let settings = Arc::new(SessionSettings { heartbeat, ..SessionSettings::default() });
        let identity = Some(Arc::new(Identity::default()));
        let opening = Opening { mode: Mode::Tidegate, settings, connection: ConnectionId::new(1), identity, seed };
        Session::new(Moment::ZERO, opening).poll_timeout().unwrap()
    }

    #[test]
    fn neighbours_ping_together_and_a_crowd_that_comes_at_once_does_not() {
        let neighbours = Neighbours::default();
        let pings: Vec<Moment> = (0..10_000).map(|_| first_ping(neighbours.seed())).collect();
        assert!(pings.chunks(TOGETHER as usize).all(|group| group.iter().all(|ping| *ping == group[0])));
        let mut at_once: HashMap<Moment, usize> = HashMap::new();
        pings.iter().for_each(|ping| *at_once.entry(*ping).or_default() += 1);
        // Over a fifth of the interval, in steps of 250 ms: 500 each, on the average.
        let most = at_once.values().max().unwrap();
        assert!((18..=22).contains(&at_once.len()) && *most < 1500, "{most} of {at_once:?}");
    }
}
