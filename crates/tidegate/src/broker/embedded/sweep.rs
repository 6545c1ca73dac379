//! The rounds through all channels: what is too old goes even where nobody looks, and channels with nothing left are forgotten.

use std::sync::Arc;

use super::channel::{Channel, State};
use super::shared::Shared;
use super::stats::EmbeddedStats;

/// So many channels are looked at in one step: a few milliseconds. All of a hundred thousand take half a minute.
const CHANNELS_AT_ONCE: usize = 2048;

/// Where the round is.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    next: usize,
}

impl Sweep {
    /// Looks at the next few channels.
    pub(super) fn step(&mut self, shared: &Shared) {
        let some = shared.channels.slice(self.next, CHANNELS_AT_ONCE);
        self.next = if some.len() < CHANNELS_AT_ONCE { 0 } else { self.next + some.len() };
        let now_ms = shared.settings.clock.now_ms();
        for channel in &some {
            look(shared, channel, now_ms);
        }
        shared.make_room(0);
        let stats = &shared.stats;
        stats.channels.store(shared.channels.len() as u64, std::sync::atomic::Ordering::Relaxed);
        stats.cache_bytes.store(shared.memory.cache_bytes(), std::sync::atomic::Ordering::Relaxed);
    }
}

fn look(shared: &Shared, channel: &Arc<Channel>, now_ms: u64) {
    let mut state = channel.state.lock();
    let (before_ms, most) = shared.ids_kept(&state, now_ms);
    state.dedup.expire(before_ms, most);
    let dropped = state.expire(now_ms);
    shared.memory.settle(&mut state);
    EmbeddedStats::count(&shared.stats.dropped_by_retention, dropped);
    if !is_forgettable(shared, now_ms, &state) {
        return;
    }
    drop(state);
    shared.channels.forget(channel, || {
        let mut state = channel.state.lock();
        state.forgotten = is_forgettable(shared, now_ms, &state);
        if state.forgotten && state.top > 0 {
            // With the map locked: nobody begins it again before the epoch has changed.
            shared.channels.next_generation();
        }
        state.forgotten
    });
}

fn is_forgettable(shared: &Shared, now_ms: u64, state: &State) -> bool {
    let after_ms = u64::try_from(shared.settings.forget_after.as_millis()).unwrap_or(u64::MAX);
    // One that never had a position has nothing to go on from.
    let idle = state.top == 0 || state.last_ms.saturating_add(after_ms) <= now_ms;
    idle && !state.subscribed && state.given == state.top && state.is_empty() && state.dedup.len() == 0
}
