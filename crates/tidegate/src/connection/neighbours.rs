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
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    use tidegate_core::session::{Mode, Opening, Session};
    use tidegate_core::{ConnectionId, HeartbeatSettings, Identity, Moment, SessionSettings};

    use super::*;

    const CROWD: u64 = 10_000;

    /// What is due first in each session of a crowd that comes at once.
    fn first_due(heartbeat: HeartbeatSettings) -> Vec<Moment> {
        let settings = Arc::new(SessionSettings { heartbeat, ..SessionSettings::default() });
        let (identity, neighbours) = (Arc::new(Identity::default()), Neighbours::default());
        let due = |number: u64| {
            let opening = Opening {
                mode: Mode::Tidegate,
                settings: Arc::clone(&settings),
                connection: ConnectionId::new(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                identity: Some(Arc::clone(&identity)),
                seed: neighbours.seed(),
            };
            Session::new(Moment::ZERO, opening).poll_timeout().unwrap()
        };
        (0..CROWD).map(due).collect()
    }

    #[test]
    fn neighbours_ping_together_and_a_crowd_that_comes_at_once_does_not() {
        let pings = first_due(HeartbeatSettings { app_ping: None, ..HeartbeatSettings::default() });
        assert!(pings.chunks(TOGETHER as usize).all(|group| group.iter().all(|ping| *ping == group[0])));
        let mut at_once: BTreeMap<Moment, usize> = BTreeMap::new();
        pings.iter().for_each(|ping| *at_once.entry(*ping).or_default() += 1);
        // Over a fifth of the interval, in steps of 250 ms: 500 each on the average, of some 157 groups that fall where they will.
        let most = at_once.values().max().unwrap();
        assert!((15..=22).contains(&at_once.len()) && *most < 2000, "{at_once:?}");
    }

    #[test]
    fn neighbours_do_not_leave_together() {
        let max_age = Some(Duration::from_secs(20));
        let ages = first_due(HeartbeatSettings { app_ping: None, max_age, ..HeartbeatSettings::default() });
        for group in ages.chunks_exact(TOGETHER as usize) {
            // Over the last tenth of it.
            let (first, last) = (group.iter().min().unwrap(), group.iter().max().unwrap());
            assert!(last.since(*first) > Duration::from_secs(1), "{first:?} {last:?}");
        }
    }
}
