//! What the broker's doors and its thread have in common: the channels, their memory, and the sink.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use parking_lot::MutexGuard;
use tidegate_core::broker::{BrokerError, Published, Sink};
use tidegate_core::message::Publish;
use tidegate_core::{ChannelName, Position, Publication};

use super::channel::{Channel, State, Verdict};
use super::channels::Channels;
use super::dedup::IdHasher;
use super::files::Place;
use super::memory::Memory;
use super::queue::Queue;
use super::record::{Record, RecordKind};
use super::settings::EmbeddedSettings;
use super::stats::EmbeddedStats;
use super::terms::Terms;

/// Everything but the store.
pub(super) struct Shared {
    pub(super) settings: EmbeddedSettings,
    pub(super) channels: Channels,
    pub(super) memory: Memory,
    pub(super) hasher: IdHasher,
    pub(super) queue: Queue,
    pub(super) stats: Arc<EmbeddedStats>,
    pub(super) sink: OnceLock<Arc<dyn Sink>>,
}

/// A message that is as durable as promised, and where it was written.
#[derive(Clone)]
pub(super) struct Durable<'a> {
    pub(super) terms: &'a Terms,
    pub(super) publication: &'a Arc<Publication>,
    pub(super) time_ms: u64,
    pub(super) written: Option<(Place, Record<'a>)>,
}

impl Shared {
    pub(super) fn new(settings: EmbeddedSettings, stats: Arc<EmbeddedStats>, on_disk: bool) -> Self {
        Self {
            channels: Channels::new(settings.channels),
            memory: Memory::new(&settings, on_disk),
            hasher: IdHasher::default(),
            // Two batches are under way at once: an eighth together.
            queue: Queue::new(settings.memory_bytes / 16),
            stats,
            sink: OnceLock::new(),
            settings,
        }
    }

    /// Takes in a record that was found when the log was opened; `known` are the channels found so far.
    pub(super) fn found(&self, known: &mut HashMap<Box<str>, Arc<Channel>>, place: Place, record: &Record<'_>, now_ms: u64) {
        if !known.contains_key(record.channel) {
            // The writer made the name from a channel's, and it is never refused: restoring knows no limit.
            let Ok(name) = ChannelName::new(record.channel) else { return };
            let Ok(channel) = self.channels.get_or_restore(&name) else { return };
            known.insert(record.channel.into(), channel);
        }
        let Some(channel) = known.get(record.channel) else { return };
        let mut state = channel.state.lock();
        state.found(place, record);
        if !record.drawn
            && let Some(id) = record.id
            && matches!(record.kind, RecordKind::Log | RecordKind::Value | RecordKind::Deletion)
        {
            let (before_ms, most) = self.ids_kept(&state, now_ms);
            if record.time_ms >= before_ms {
                state.dedup.remember(self.hasher.hash(id), record.offset, record.time_ms);
                state.dedup.expire(before_ms, most + 1);
            }
        }
        self.memory.settle(&mut state);
    }

    /// All records were found.
    pub(super) fn found_all(&self, now_ms: u64) {
        self.channels.for_each(|channel| {
            let mut state = channel.state.lock();
            state.found_all();
            let dropped = state.expire(now_ms);
            self.memory.settle(&mut state);
            EmbeddedStats::count(&self.stats.dropped_by_retention, dropped);
        });
        self.make_room(0);
    }

    /// Locks the channel and gives a message its offset, unless it is a repeat or refused.
    pub(super) fn give<'c>(
        &self,
        channel: &'c Arc<Channel>,
        terms: &Terms,
        publish: &Publish,
        id: Option<u128>,
        now_ms: u64,
    ) -> Result<(MutexGuard<'c, State>, Verdict), BrokerError> {
        let mut state = channel.state.lock();
        state.last_ms = state.last_ms.max(now_ms);
        if !state.forgotten && !state.fits(terms.kind) {
            // The configuration made it another kind. What was kept means nothing now, and its offsets must not seem to go on.
            self.channels.next_generation();
            state.begin_epoch(self.channels.epoch());
        }
        if id.is_some() {
            self.expire_ids(&mut state, now_ms);
        }
        // Before the message too: whether a deletion that is too old was let go must not depend on when somebody looked last.
        let dropped = state.expire(now_ms);
        EmbeddedStats::count(&self.stats.dropped_by_retention, dropped);
        let verdict = state.give(terms, publish, id, &self.memory);
        // What a new message takes is booked when it is committed.
        if dropped > 0 || !matches!(verdict, Ok(Verdict::New(_))) {
            self.memory.settle(&mut state);
        }
        Ok((state, verdict?))
    }

    /// Makes messages of a channel visible, in their order, and hands them to the sink. Calls for one channel must not overlap.
    pub(super) fn commit<'a>(&self, channel: &Channel, messages: impl Iterator<Item = Durable<'a>> + Clone) {
        let (mut state, mut last_ms) = (channel.state.lock(), 0);
        for Durable { terms, publication, time_ms, written } in messages.clone() {
            state.commit(terms, publication, time_ms, written);
            last_ms = time_ms;
        }
        let dropped = state.expire(last_ms);
        let subscribed = state.subscribed;
        self.memory.settle(&mut state);
        drop(state);
        EmbeddedStats::count(&self.stats.dropped_by_retention, dropped);
        if subscribed {
            messages.for_each(|message| self.deliver(message.publication));
        }
    }

    fn deliver(&self, publication: &Arc<Publication>) {
        if let Some(sink) = self.sink.get() {
            sink.deliver(publication);
        }
    }

    /// A publish on a `log` or `state` channel without a log on disk: all at once.
    pub(super) fn publish_in_memory(&self, terms: &Terms, publish: Publish, id: Option<u128>) -> Result<Published, BrokerError> {
        loop {
            let channel = self.channels.get_or_begin(&publish.channel)?;
            let order = channel.order.lock();
            let (state, verdict) = self.give(&channel, terms, &publish, id, self.settings.clock.now_ms())?;
            let (epoch, time_ms) = (state.epoch, state.last_ms);
            drop(state);
            let offset = match verdict {
                Verdict::New(offset) => offset,
                Verdict::Gone => continue,
                Verdict::Repeat(offset) => {
                    EmbeddedStats::count(&self.stats.duplicates, 1);
                    return Ok(Published { position: Some(Position { epoch, offset }), duplicate: true });
                }
            };
            let position = Some(Position { epoch, offset });
            let publication = Arc::new(Publication::new(channel.name.clone(), position, publish.message_id, publish.key, publish.body));
            self.commit(&channel, std::iter::once(Durable { terms, publication: &publication, time_ms, written: None }));
            drop(order);
            EmbeddedStats::count(&self.stats.appends, 1);
            self.make_room(1);
            return Ok(Published { position, duplicate: false });
        }
    }

    /// A publish on an `event` channel: to whoever is there.
    pub(super) fn publish_event(&self, publish: Publish, id: Option<u128>) -> Result<Published, BrokerError> {
        let channel = match id {
            Some(_) => Some(self.channels.get_or_begin(&publish.channel)?),
            // Nothing to remember and nobody there.
            None => self.channels.get(&publish.channel),
        };
        if let Some(channel) = channel {
            let order = channel.order.lock();
            let mut state = channel.state.lock();
            if state.forgotten {
                drop(state);
                drop(order);
                return self.publish_event(publish, id);
            }
            let now_ms = self.settings.clock.now_ms();
            state.last_ms = state.last_ms.max(now_ms);
            if let Some(id) = id {
                self.expire_ids(&mut state, now_ms);
                if state.dedup.find(id).is_some() {
                    EmbeddedStats::count(&self.stats.duplicates, 1);
                    return Ok(Published { position: None, duplicate: true });
                }
                state.dedup.remember(id, 0, now_ms);
                self.memory.settle(&mut state);
            }
            let subscribed = state.subscribed;
            drop(state);
            if subscribed {
                let publication = Publication::new(channel.name.clone(), None, publish.message_id, publish.key, publish.body);
                self.deliver(&Arc::new(publication));
            }
            drop(order);
        }
        EmbeddedStats::count(&self.stats.appends, 1);
        Ok(Published { position: None, duplicate: false })
    }

    fn expire_ids(&self, state: &mut State, now_ms: u64) {
        let (before_ms, most) = self.ids_kept(state, now_ms);
        state.dedup.expire(before_ms, most);
    }

    /// Since when and how many ids the channel remembers.
    pub(super) fn ids_kept(&self, state: &State, now_ms: u64) -> (u64, usize) {
        let window_ms = u64::try_from(self.settings.dedup_window.as_millis()).unwrap_or(u64::MAX);
        (now_ms.saturating_sub(window_ms), self.memory.ids_for(state.dedup.len(), self.settings.dedup_messages.saturating_sub(1)))
    }

    /// Lets go of messages until memory is within its bounds, after so many came.
    pub(super) fn make_room(&self, messages: usize) {
        self.memory.make_room(&self.channels, &self.stats, messages);
    }

    /// The log is gone: every channel begins another epoch, and subscribers are told where.
    pub(super) fn lose_everything(&self, log: u64) {
        self.channels.begin(log, 0);
        self.channels.for_each(|channel| {
            let mut state = channel.state.lock();
            state.begin_epoch(self.channels.epoch());
            self.memory.settle(&mut state);
            let (position, subscribed) = (state.position(0), state.subscribed);
            drop(state);
            if subscribed && let Some(sink) = self.sink.get() {
                sink.lost(&channel.name, Some(position));
            }
        });
    }
}
