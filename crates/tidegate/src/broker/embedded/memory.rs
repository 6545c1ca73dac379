//! What all channels take in memory together, and who has to give when it is too much.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::channel::{Content, State};
use super::channels::Channels;
use super::settings::EmbeddedSettings;
use super::stats::EmbeddedStats;

/// The parts of the budget.
#[derive(Debug)]
pub(super) struct Memory {
    /// Whether there is a log on disk, so that what is in memory is only a cache.
    pub(super) on_disk: bool,
    cache: AtomicUsize,
    cache_limit: usize,
    fixed: AtomicUsize,
    fixed_limit: usize,
    ids: AtomicUsize,
    ids_limit: usize,
    /// Bytes of the log on disk that are needed.
    disk: AtomicU64,
    random: AtomicU64,
}

/// What a channel's state was charged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Charged {
    /// Recent messages and values that can be dropped.
    cache: usize,
    /// Keys and indexes; without a log on disk also the values.
    fixed: usize,
    /// Remembered message ids.
    ids: usize,
    disk: u64,
}

/// So many channels are compared to find whose messages are the oldest. All of them would cost too much, and eight come close.
const SAMPLE: usize = 8;
/// So many messages go at once.
const EVICTED_AT_ONCE: u64 = 32;
/// So many times it is tried, and once more for every eight messages that came: each makes room for dozens.
const TRIES: usize = 16;

impl Memory {
    pub(super) fn new(settings: &EmbeddedSettings, on_disk: bool) -> Self {
        let bytes = settings.memory_bytes;
        Self {
            on_disk,
            cache: AtomicUsize::new(0),
            // What was read from disk lately has a sixteenth.
            cache_limit: if on_disk { bytes / 16 * 7 } else { bytes / 2 },
            fixed: AtomicUsize::new(0),
            fixed_limit: bytes / 4,
            ids: AtomicUsize::new(0),
            ids_limit: bytes / 8,
            disk: AtomicU64::new(0),
            random: AtomicU64::new(0x9e37_79b9_7f4a_7c15),
        }
    }

    /// Books what the state takes now. Call before its lock is given back.
    pub(super) fn settle(&self, state: &mut State) {
        let now = self.costs(state);
        let before = std::mem::replace(&mut state.charged, now);
        let book = |part: &AtomicUsize, before: usize, now: usize| match now.cmp(&before) {
            std::cmp::Ordering::Greater => drop(part.fetch_add(now - before, Ordering::Relaxed)),
            std::cmp::Ordering::Less => drop(part.fetch_sub(before - now, Ordering::Relaxed)),
            std::cmp::Ordering::Equal => {}
        };
        book(&self.cache, before.cache, now.cache);
        book(&self.fixed, before.fixed, now.fixed);
        book(&self.ids, before.ids, now.ids);
        if now.disk != before.disk {
            // Wrapping: what is taken away is added as its complement.
            self.disk.fetch_add(now.disk.wrapping_sub(before.disk), Ordering::Relaxed);
        }
    }

    fn costs(&self, state: &State) -> Charged {
        let (ids, disk) = (state.dedup.cost(), state.disk());
        match &state.content {
            Content::Nothing => Charged { cache: 0, fixed: 0, ids, disk },
            Content::Log(log) => Charged { cache: log.ring.cost(), fixed: log.index_cost(), ids, disk },
            Content::Table(table) if self.on_disk => Charged { cache: table.value_cost(), fixed: table.fixed_cost(), ids, disk },
            Content::Table(table) => Charged { cache: 0, fixed: table.fixed_cost() + table.value_cost(), ids, disk },
        }
    }

    /// Whether keys and indexes take all of their part.
    pub(super) fn is_full(&self) -> bool {
        self.fixed.load(Ordering::Relaxed) >= self.fixed_limit
    }

    /// How many ids a channel with so many may keep. While all together have too many, each new one pushes two old ones out.
    pub(super) fn ids_for(&self, ids: usize, most: usize) -> usize {
        if self.ids.load(Ordering::Relaxed) > self.ids_limit { most.min(ids.saturating_sub(2)) } else { most }
    }

    /// Bytes of the log on disk that are needed; the rest could go.
    pub(super) fn disk_needed(&self) -> u64 {
        self.disk.load(Ordering::Relaxed)
    }

    pub(super) fn cache_bytes(&self) -> u64 {
        self.cache.load(Ordering::Relaxed) as u64
    }

    /// Drops the oldest messages of others until there is room, after so many came. Call without any channel's lock.
    pub(super) fn make_room(&self, channels: &Channels, stats: &EmbeddedStats, messages: usize) {
        for _ in 0..TRIES + messages / 8 {
            let (too_much_cache, full) = (self.cache.load(Ordering::Relaxed) > self.cache_limit, self.is_full());
            if !too_much_cache && !full {
                return;
            }
            let oldest = channels.sample(SAMPLE, self.random()).into_iter().min_by_key(|channel| {
                let state = channel.state.lock();
                if too_much_cache { cached_since(&state) } else { indexed_since(&state) }
            });
            let Some(channel) = oldest else { return };
            let mut state = channel.state.lock();
            let dropped = if too_much_cache { self.evict(&mut state) } else { drop_group(&mut state) };
            self.settle(&mut state);
            EmbeddedStats::count(&stats.dropped_by_memory, dropped);
        }
    }

    /// Gives how many messages are lost by it.
    fn evict(&self, state: &mut State) -> u64 {
        match &mut state.content {
            Content::Nothing => 0,
            Content::Log(log) if self.on_disk => {
                for _ in 0..EVICTED_AT_ONCE {
                    log.ring.pop();
                }
                0
            }
            Content::Log(log) => log.drop_before((log.first + EVICTED_AT_ONCE).min(state.top + 1)),
            Content::Table(table) if self.on_disk => {
                table.drop_values();
                0
            }
            Content::Table(_) => 0,
        }
    }

    fn random(&self) -> u64 {
        // A counter through a mixer: nothing depends on its quality.
        let mut number = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number ^ (number >> 31)
    }
}

fn cached_since(state: &State) -> u64 {
    match &state.content {
        Content::Log(log) => log.ring.oldest_ms().unwrap_or(u64::MAX),
        Content::Table(table) if table.value_cost() > 0 => table.oldest_ms(),
        Content::Table(_) | Content::Nothing => u64::MAX,
    }
}

fn indexed_since(state: &State) -> u64 {
    match &state.content {
        Content::Log(log) => log.groups.as_ref().map_or(u64::MAX, super::groups::Groups::oldest_ms),
        Content::Table(_) | Content::Nothing => u64::MAX,
    }
}

/// The index is full: the oldest messages can't be found any more, so they are let go.
fn drop_group(state: &mut State) -> u64 {
    match &mut state.content {
        Content::Log(log) => {
            let Some(groups) = &log.groups else { return 0 };
            let end = groups.first_group_end();
            log.drop_before((end + 1).min(state.top + 1))
        }
        Content::Table(_) | Content::Nothing => 0,
    }
}
