//! What is read back for many at once: a message that several subscribers catch up with has one frame, charged once; and pages come
//! one at a time, so that those who are up to date are not kept waiting.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_core::broker::{Page, Snapshot};
use tidegate_core::{Body, Publication};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::FanOut;
use crate::budget::Budget;

/// Bytes of messages that stay for the next who reads them. Subscribers that come back together read the same pages within
/// moments of each other: this is some sixty pages of them.
const KEPT_BYTES: usize = 8 * 1024 * 1024;
/// After so many messages every other task of this runtime that is ready runs first: a full page. Many who missed a few messages each don't wait for
/// as many rounds.
const TURN_MESSAGES: usize = 256;
/// How long the next page waits for fan-outs under way, so that those have a core to themselves. (The timer rounds it up to two at most.) A page
/// takes a tenth of it: a node that fans out all the time still hands out more than a hundred thousand messages a second.
const LIVE_FIRST: Duration = Duration::from_millis(1);
/// Snapshots that somebody still writes are found again, the latest so many.
const SNAPSHOTS: usize = 64;

/// What was read back lately. Nothing is kept once nobody catches up any more.
pub(crate) struct Replay {
    kept: Mutex<Kept>,
    is_empty: AtomicBool,
    /// Who has it hands out a page.
    turn: Semaphore,
    /// Messages handed out since all other tasks last ran.
    handed_out: AtomicUsize,
    kept_bytes: usize,
}

#[derive(Default)]
struct Kept {
    /// Ours by the address of the broker's, which `order` keeps alive.
    ours: HashMap<usize, Arc<Publication>>,
    /// The broker's, oldest first.
    order: VecDeque<Arc<Publication>>,
    bytes: usize,
    /// The broker's and ours.
    snapshots: VecDeque<(Weak<Snapshot>, Weak<Snapshot>)>,
}

impl Default for Replay {
    fn default() -> Self {
        Self::new(KEPT_BYTES)
    }
}

impl Replay {
    fn new(kept_bytes: usize) -> Self {
        Self {
            kept: Mutex::default(),
            is_empty: AtomicBool::new(true),
            turn: Semaphore::new(1),
            handed_out: AtomicUsize::new(0),
            kept_bytes,
        }
    }

    /// Waits until a page may be handed out.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.turn.acquire().await.ok()
    }

    /// So many messages were handed out. Where that is enough, lets everybody else run before the turn is given on, and what is live be
    /// handed out.
    pub(super) async fn rest(&self, _turn: Option<SemaphorePermit<'_>>, messages: usize, live: &FanOut) {
        if self.handed_out.fetch_add(messages, Ordering::Relaxed) + messages >= TURN_MESSAGES {
            self.handed_out.store(0, Ordering::Relaxed);
            tokio::task::yield_now().await;
            live.busy.wait_for_none(LIVE_FIRST).await;
        }
    }

    /// Puts our messages, charged and with their frames, in place of the broker's.
    pub(super) fn charge_page(&self, page: &mut Page, fanout: &FanOut) {
        let mut kept = self.kept.lock();
        for message in &mut page.messages {
            *message = kept.ours(message, fanout);
        }
        let evicted = kept.evict(self.kept_bytes);
        self.is_empty.store(false, Ordering::Release);
        drop(kept);
        drop(evicted);
    }

    /// The same for a snapshot: whoever still writes one of its entries keeps what the entries take charged.
    pub(super) fn charge_snapshot(&self, snapshot: &Arc<Snapshot>, budget: &Arc<Budget>) -> Arc<Snapshot> {
        let mut kept = self.kept.lock();
        kept.snapshots.retain(|(_, ours)| ours.strong_count() > 0);
        let known = kept.snapshots.iter().find(|(theirs, _)| theirs.as_ptr() == Arc::as_ptr(snapshot));
        if let Some(ours) = known.and_then(|(_, ours)| ours.upgrade()) {
            return ours;
        }
        let entries = snapshot.entries.iter().map(|entry| Arc::new(charged_entry(entry, budget))).collect();
        let ours = Arc::new(Snapshot { position: snapshot.position, entries });
        if kept.snapshots.len() == SNAPSHOTS {
            kept.snapshots.pop_front();
        }
        kept.snapshots.push_back((Arc::downgrade(snapshot), Arc::downgrade(&ours)));
        ours
    }

    /// Nobody catches up any more, or memory is needed.
    pub(super) fn clear(&self) {
        if self.is_empty.swap(true, Ordering::AcqRel) {
            return;
        }
        let dropped = {
            let mut kept = self.kept.lock();
            kept.bytes = 0;
            (std::mem::take(&mut kept.ours), std::mem::take(&mut kept.order))
        };
        drop(dropped);
    }
}

impl Kept {
    fn ours(&mut self, theirs: &Arc<Publication>, fanout: &FanOut) -> Arc<Publication> {
        let address = Arc::as_ptr(theirs) as usize;
        if let Some(ours) = self.ours.get(&address) {
            return ours.clone();
        }
        let ours = fanout.charged(theirs);
        self.ours.insert(address, ours.clone());
        self.order.push_back(theirs.clone());
        self.bytes += theirs.cost();
        ours
    }

    /// Takes out the oldest that are too many.
    fn evict(&mut self, most: usize) -> Vec<(Arc<Publication>, Option<Arc<Publication>>)> {
        let mut evicted = Vec::new();
        while self.bytes > most
            && let Some(theirs) = self.order.pop_front()
        {
            self.bytes -= theirs.cost();
            let ours = self.ours.remove(&(Arc::as_ptr(&theirs) as usize));
            evicted.push((theirs, ours));
        }
        evicted
    }
}

/// An entry whose data is charged: it is written as a part of a snapshot's message, and has no frame of its own.
fn charged_entry(entry: &Publication, budget: &Arc<Budget>) -> Publication {
    let body = match &entry.body {
        Body::Data(data) => Body::Data(budget.charge(data.clone(), entry.cost().saturating_sub(data.len()))),
        Body::Deleted => Body::Deleted,
    };
    Publication::new(entry.channel.clone(), entry.position, entry.id.clone(), entry.key.clone(), body)
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::gauge::Gauge;
    use tidegate_core::{ChannelName, Epoch, Position};

    use super::*;
    use crate::clock::Clock;
    use crate::metrics::Metrics;
    use crate::settings::OutboundMemory;

    fn message(offset: u64) -> Arc<Publication> {
        let position = Position { epoch: Epoch::new(1), offset };
        let data = Body::Data(bytes::Bytes::from(vec![b'1'; 100]));
        Arc::new(Publication::new(ChannelName::new("a").unwrap(), Some(position), None, None, data))
    }

    fn page(messages: &[Arc<Publication>]) -> Page {
        let top = messages.last().unwrap().position.unwrap();
        Page { start: Position { offset: 0, ..top }, messages: messages.to_vec(), top, more: false }
    }

    fn setup() -> (Arc<Budget>, Arc<FanOut>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let budget = Arc::new(Budget::new(OutboundMemory::Bytes(1 << 30), Gauge::default()));
        (budget.clone(), FanOut::new(Arc::new(Metrics::new()), budget, Clock::start(), runtime.handle().clone()))
    }

    #[test]
    fn who_reads_the_same_page_gets_the_same_frames() {
        let (budget, fanout) = setup();
        let (replay, messages) = (Replay::default(), (1..=10).map(message).collect::<Vec<_>>());
        let (mut first, mut second) = (page(&messages), page(&messages[5..]));
        replay.charge_page(&mut first, &fanout);
        let charged = budget.used();
        assert!(charged > 1000);
        replay.charge_page(&mut second, &fanout);
        assert!(first.messages[5..].iter().zip(&second.messages).all(|(one, other)| Arc::ptr_eq(one, other)));
        assert!(!Arc::ptr_eq(&first.messages[0], &messages[0]), "the broker's own must not keep a frame alive");
        assert_eq!(budget.used(), charged);
        replay.clear();
        assert_eq!(budget.used(), charged, "the pages are still held");
        drop((first, second));
        assert_eq!(budget.used(), 0);
    }

    /// A page is followed by a wait for fan-outs under way, and a few messages by none.
    #[test]
    fn a_page_lets_fan_outs_go_first() {
        let (_, fanout) = setup();
        let replay = Replay::default();
        let paused = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        paused.block_on(async {
            let started = tokio::time::Instant::now();
            replay.rest(None, TURN_MESSAGES, &fanout).await;
            fanout.busy.begin();
            replay.rest(None, TURN_MESSAGES - 1, &fanout).await;
            assert_eq!(started.elapsed(), Duration::ZERO);
            replay.rest(None, 1, &fanout).await;
            assert_eq!(started.elapsed(), LIVE_FIRST);
        });
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (budget, fanout) = setup();
        let replay = Replay::new(5000);
        for offset in 1..1000 {
            replay.charge_page(&mut page(&[message(offset)]), &fanout);
            assert!(replay.kept.lock().bytes <= 5000 && budget.used() < 20_000);
        }
        let kept = replay.kept.lock();
        assert!(kept.order.len() > 10 && kept.order.len() == kept.ours.len());
    }

    #[test]
    fn a_snapshot_is_charged_once_while_somebody_has_it() {
        let (budget, _) = setup();
        let replay = Replay::default();
        let snapshot = Arc::new(Snapshot { position: message(9).position.unwrap(), entries: (1..=9).map(message).collect() });
        let first = replay.charge_snapshot(&snapshot, &budget);
        let cost: usize = snapshot.entries.iter().map(|entry| entry.cost()).sum();
        assert_eq!(budget.used(), cost as i64);
        let second = replay.charge_snapshot(&snapshot, &budget);
        assert!(Arc::ptr_eq(&first, &second));
        let entry = second.entries[0].clone();
        drop((first, second));
        assert_eq!(budget.used(), entry.cost() as i64, "an entry that is being written stays charged");
        drop(entry);
        assert_eq!(budget.used(), 0);
    }
}
