//! What a channel can be read for, decided with its lock held: a page that is in memory, or what has to be read from disk for one.

use std::sync::Arc;

use tidegate_core::broker::{HistoryError, Page, PageLimit, Snapshot};
use tidegate_core::message::Since;
use tidegate_core::{ChannelKind, ChannelName, Position, Publication};

use super::channel::{Content, State};
use super::files::Place;
use super::log::{Filling, Log, Source, Stretch};
use super::table::{Entry, Table};

/// How a page is to be had.
pub(super) enum PagePlan {
    Ready(Page),
    /// The first messages may be too old: look at them first.
    Trim(Stretch),
    /// These parts of a log have to be read.
    Log {
        start: Position,
        top: Position,
        stretches: Vec<Stretch>,
    },
    /// These entries of a table, some of which have to be read.
    Table {
        start: Position,
        top: Position,
        items: Vec<(u64, Item)>,
        more: bool,
    },
}

/// A message in memory or on disk.
#[derive(Clone)]
pub(super) enum Item {
    Here(Arc<Publication>),
    At(Place),
}

/// How a snapshot is to be had.
pub(super) enum SnapshotPlan {
    Ready(Arc<Snapshot>),
    /// Some entries have to be read.
    Read {
        position: Position,
        items: Vec<(u64, Item)>,
    },
}

/// The page of a channel that nobody published on: its whole history is empty.
pub(super) fn empty_page(top: Position, oldest: Position, since: Since) -> Result<Page, HistoryError> {
    let start = start(since, oldest, top, Some)?;
    Ok(Page { start: Position { offset: start, ..top }, messages: Vec::new(), top, more: false })
}

/// Plans a page. What is too old was expired already, as exactly as memory can tell.
pub(super) fn page(
    state: &State,
    kind: ChannelKind,
    channel: &ChannelName,
    since: Since,
    limit: PageLimit,
    before_ms: u64,
) -> Result<PagePlan, HistoryError> {
    let top = state.position(state.top);
    match &state.content {
        Content::Log(log) if kind == ChannelKind::Log => log_page(state, log, since, limit, before_ms),
        Content::Table(table) if kind == ChannelKind::State => table_page(state, table, channel, since, limit),
        // Of a kind that the channel no longer is, nothing is told.
        Content::Log(_) | Content::Table(_) | Content::Nothing => empty_page(top, top, since).map(PagePlan::Ready),
    }
}

fn log_page(state: &State, log: &Log, since: Since, limit: PageLimit, before_ms: u64) -> Result<PagePlan, HistoryError> {
    if let Some(stretch) = log.to_trim(state.top, before_ms) {
        return Ok(PagePlan::Trim(stretch));
    }
    let (oldest, top) = (state.position(log.first - 1), state.position(state.top));
    let start = state.position(start(since, oldest, top, Some)?);
    Ok(match log.page(start.offset, state.top, limit) {
        Source::Memory(messages) => PagePlan::Ready(log_page_of(start, top, messages)),
        Source::Disk(stretches) => PagePlan::Log { start, top, stretches },
    })
}

/// A page of consecutive messages.
pub(super) fn log_page_of(start: Position, top: Position, messages: Vec<Arc<Publication>>) -> Page {
    let end = messages.last().map_or(start.offset, |last| last.offset());
    Page { start, messages, top, more: end < top.offset }
}

fn table_page(state: &State, table: &Table, channel: &ChannelName, since: Since, limit: PageLimit) -> Result<PagePlan, HistoryError> {
    let (oldest, top) = (state.position(table.floor), state.position(state.top));
    let start = match since {
        Since::Earliest => 0,
        Since::Last(count) => table.before_last(count).unwrap_or(state.top),
        // How many changes are gone isn't known: what replaced what isn't kept.
        Since::Position(_) => start(since, oldest, top, |_| None)?,
    };
    let (mut filling, mut after) = (Filling::new(limit), table.after(start).peekable());
    let mut items = Vec::new();
    while let Some((offset, entry)) = after.next_if(|_| !filling.is_full()) {
        filling.take(entry.cost(channel));
        items.push((offset, item(entry)));
    }
    let more = after.peek().is_some();
    let start = state.position(start);
    if items.iter().any(|(_, item)| matches!(item, Item::At(_))) {
        return Ok(PagePlan::Table { start, top, items, more });
    }
    let messages = items.into_iter().filter_map(|(_, item)| here(item)).collect();
    Ok(PagePlan::Ready(Page { start, messages, top, more }))
}

/// The offset after which a page begins.
fn start(since: Since, oldest: Position, top: Position, missed: impl FnOnce(u64) -> Option<u64>) -> Result<u64, HistoryError> {
    match since {
        Since::Earliest => Ok(oldest.offset),
        Since::Last(count) => Ok(top.offset.saturating_sub(count).max(oldest.offset)),
        Since::Position(position) if position.epoch != top.epoch || position.offset > top.offset => {
            Err(HistoryError::Epoch { oldest, top })
        }
        Since::Position(position) if position.offset < oldest.offset => {
            Err(HistoryError::Retention { oldest, top, missed: missed(oldest.offset - position.offset) })
        }
        Since::Position(position) => Ok(position.offset),
    }
}

/// Plans a snapshot.
pub(super) fn snapshot(state: &mut State) -> SnapshotPlan {
    let position = state.position(state.top);
    let Content::Table(table) = &mut state.content else {
        return SnapshotPlan::Ready(Arc::new(Snapshot { position, entries: Vec::new() }));
    };
    if let Some(snapshot) = &table.snapshot {
        return SnapshotPlan::Ready(snapshot.clone());
    }
    let items: Vec<(u64, Item)> = table.after(0).filter(|(_, entry)| !entry.deleted).map(|(offset, entry)| (offset, item(entry))).collect();
    if items.iter().any(|(_, item)| matches!(item, Item::At(_))) {
        return SnapshotPlan::Read { position, items };
    }
    let entries = items.into_iter().filter_map(|(_, item)| here(item)).collect();
    let snapshot = Arc::new(Snapshot { position, entries });
    table.snapshot = Some(snapshot.clone());
    SnapshotPlan::Ready(snapshot)
}

/// A snapshot that was read from disk: kept, if nothing was published meanwhile.
pub(super) fn keep_snapshot(state: &mut State, snapshot: &Arc<Snapshot>) {
    let position = state.position(state.top);
    if let Content::Table(table) = &mut state.content
        && position == snapshot.position
    {
        for entry in &snapshot.entries {
            table.keep_value(entry.offset(), entry);
        }
        table.snapshot = Some(snapshot.clone());
    }
}

fn item(entry: &Entry) -> Item {
    entry.value.as_ref().map_or(Item::At(entry.place), |value| Item::Here(value.clone()))
}

fn here(item: Item) -> Option<Arc<Publication>> {
    match item {
        Item::Here(publication) => Some(publication),
        Item::At(_) => None,
    }
}
