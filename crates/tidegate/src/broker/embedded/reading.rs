//! The reading side of the broker: from memory where it can, else from the files, on a blocking thread, so many at a time.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tidegate_core::broker::{BrokerError, HistoryError, Page, PageLimit, Snapshot};
use tidegate_core::message::Since;
use tidegate_core::{ChannelName, ChannelRule, Position, Publication};

use super::Embedded;
use super::channel::Channel;
use super::files::{Files, Reader};
use super::log::Stretch;
use super::read;
use super::stats::EmbeddedStats;
use super::view::{self, Item, PagePlan, SnapshotPlan};

impl Embedded {
    pub(super) async fn read_history(
        &self,
        rule: &ChannelRule,
        name: &ChannelName,
        since: Since,
        limit: PageLimit,
    ) -> Result<Page, HistoryError> {
        let Some(channel) = self.shared.channels.get(name) else {
            let top = Position::start(self.shared.channels.epoch());
            return view::empty_page(top, top, since);
        };
        if let Some(page) = self.page_in_memory(self.plan(rule, &channel, since, limit)?.0, name, limit) {
            self.count(&self.shared.stats.cache_hits);
            return Ok(page);
        }
        let _permit = self.reads.acquire().await.map_err(|_| BrokerError::Closed)?;
        // While waiting for the permit, another reader or a publish may have changed what has to be read.
        let (mut plan, mut files) = self.plan(rule, &channel, since, limit)?;
        self.count(&self.shared.stats.cache_misses);
        if let PagePlan::Trim(stretch) = plan {
            self.trim(rule, &channel, files, stretch).await?;
            (plan, files) = self.plan(rule, &channel, since, limit)?;
        }
        match plan {
            PagePlan::Ready(page) => Ok(page),
            PagePlan::Log { start, top, stretches } => {
                if let Some(messages) = self.blocks.page(name, start.epoch, &stretches, limit) {
                    return Ok(view::log_page_of(start, top, messages));
                }
                let blocks = self.blocks.clone();
                let read = move |reader: &mut Reader, name: &ChannelName| blocks.read_page(reader, name, start.epoch, &stretches, limit);
                Ok(view::log_page_of(start, top, self.on_disk(name, files, read).await?))
            }
            PagePlan::Table { start, top, items, more } => Ok(Page { start, messages: self.fetch(name, files, items).await?, top, more }),
            PagePlan::Trim(_) => Err(BrokerError::Unavailable("messages grow old faster than they can be read".into()).into()),
        }
    }

    pub(super) async fn read_snapshot(&self, name: &ChannelName) -> Result<Arc<Snapshot>, BrokerError> {
        let Some(channel) = self.shared.channels.get(name) else {
            let position = Position::start(self.shared.channels.epoch());
            return Ok(Arc::new(Snapshot { position, entries: Vec::new() }));
        };
        if let SnapshotPlan::Ready(snapshot) = view::snapshot(&mut channel.state.lock()) {
            self.count(&self.shared.stats.cache_hits);
            return Ok(snapshot);
        }
        self.count(&self.shared.stats.cache_misses);
        let _permit = self.reads.acquire().await.map_err(|_| BrokerError::Closed)?;
        let (plan, files) = {
            let mut state = channel.state.lock();
            (view::snapshot(&mut state), self.open_files())
        };
        let (position, items) = match plan {
            SnapshotPlan::Ready(snapshot) => return Ok(snapshot),
            SnapshotPlan::Read { position, items } => (position, items),
        };
        let snapshot = Arc::new(Snapshot { position, entries: self.fetch(name, files, items).await? });
        {
            let mut state = channel.state.lock();
            view::keep_snapshot(&mut state, &snapshot);
            self.shared.memory.settle(&mut state);
        }
        self.shared.make_room(0);
        Ok(snapshot)
    }

    /// A page that is in memory.
    fn page_in_memory(&self, plan: PagePlan, name: &ChannelName, limit: PageLimit) -> Option<Page> {
        match plan {
            PagePlan::Ready(page) => Some(page),
            PagePlan::Log { start, top, stretches } => {
                Some(view::log_page_of(start, top, self.blocks.page(name, start.epoch, &stretches, limit)?))
            }
            PagePlan::Trim(_) | PagePlan::Table { .. } => None,
        }
    }

    /// Plans a page, with the files that its places are in.
    fn plan(
        &self,
        rule: &ChannelRule,
        channel: &Channel,
        since: Since,
        limit: PageLimit,
    ) -> Result<(PagePlan, Option<Arc<Files>>), HistoryError> {
        let now_ms = self.shared.settings.clock.now_ms();
        let mut state = channel.state.lock();
        state.retention = Some(rule.retention);
        let dropped = state.expire(now_ms);
        self.shared.memory.settle(&mut state);
        EmbeddedStats::count(&self.shared.stats.dropped_by_retention, dropped);
        let plan = view::page(&state, rule.kind, &channel.name, since, limit, oldest_ms(rule, now_ms))?;
        Ok((plan, self.open_files()))
    }

    /// The files there are now. Taken with the channel's lock held, so that a place it knows is in them: a file only goes after what
    /// was in it has been given another place.
    fn open_files(&self) -> Option<Arc<Files>> {
        self.files.as_ref().map(|files| files.load_full())
    }

    /// Reads the first group of a log to see which of its messages are too old.
    async fn trim(&self, rule: &ChannelRule, channel: &Channel, files: Option<Arc<Files>>, stretch: Stretch) -> Result<(), BrokerError> {
        let before_ms = oldest_ms(rule, self.shared.settings.clock.now_ms());
        let epoch = channel.state.lock().epoch;
        let messages = self.on_disk(&channel.name, files, move |reader, name| read::stretch(reader, name, &stretch)).await?;
        let kept = messages.iter().find(|(_, time_ms)| *time_ms >= before_ms);
        let (first, first_ms) = kept.map_or((stretch.to + 1, None), |(message, time_ms)| (message.offset(), Some(*time_ms)));
        let mut state = channel.state.lock();
        if state.epoch == epoch {
            let dropped = state.trim(first, first_ms);
            EmbeddedStats::count(&self.shared.stats.dropped_by_retention, dropped);
        }
        self.shared.memory.settle(&mut state);
        Ok(())
    }

    /// Reads those of the messages that aren't here.
    async fn fetch(
        &self,
        name: &ChannelName,
        files: Option<Arc<Files>>,
        items: Vec<(u64, Item)>,
    ) -> Result<Vec<Arc<Publication>>, BrokerError> {
        self.on_disk(name, files, move |reader, name| {
            items
                .into_iter()
                .map(|(offset, item)| match item {
                    Item::Here(publication) => Ok(publication),
                    Item::At(place) => read::message(reader, name, offset, place).map(|(publication, _)| Arc::new(publication)),
                })
                .collect()
        })
        .await
    }

    /// Runs a read on a blocking thread. The caller has a permit.
    async fn on_disk<T: Send + 'static>(
        &self,
        name: &ChannelName,
        files: Option<Arc<Files>>,
        read: impl FnOnce(&mut Reader, &ChannelName) -> io::Result<T> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let Some(files) = files else { return Err(BrokerError::Unavailable("there is no log on disk".into())) };
        let (mut reader, name) = (Reader::backwards(files), name.clone());
        let done = tokio::task::spawn_blocking(move || read(&mut reader, &name)).await;
        done.map_err(io::Error::other).and_then(|result| result).map_err(|error| {
            EmbeddedStats::count(&self.shared.stats.errors, 1);
            tracing::error!(%error, "the log can't be read");
            BrokerError::Unavailable(format!("the log can't be read: {error}").into())
        })
    }

    fn count(&self, counter: &AtomicU64) {
        EmbeddedStats::count(counter, 1);
    }
}

/// What is older than the rule keeps was published before this time.
fn oldest_ms(rule: &ChannelRule, now_ms: u64) -> u64 {
    now_ms.saturating_sub(u64::try_from(rule.retention.age.as_millis()).unwrap_or(u64::MAX))
}
