//! The order of batches that are under way to the disk: two threads write and sync in turns, and what they synced is shown in line.
//!
//! A batch is shown only when all before it were. When one fails, whatever its own sync said, so does every batch that was begun after
//! it: offsets and links build on what was given before. They wait here until nothing is under way any more, and are taken back then.

use std::io;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::batch::Batch;
use super::queue::Gather;
use super::shared::Shared;
use super::store::Unsynced;

/// The line of batches under way.
#[derive(Default)]
pub(super) struct Line {
    inner: Mutex<Inner>,
    moved: Condvar,
}

/// A batch that was written.
pub(super) struct Written {
    pub(super) batch: Batch,
    pub(super) unsynced: Unsynced,
    /// Its place in line.
    number: u64,
}

#[derive(Default)]
struct Inner {
    begun: u64,
    ended: u64,
    failed: Option<Failed>,
    /// A thread has panicked: what waits for its turn waits in vain.
    abandoned: bool,
    gather: Gather,
}

/// A batch that failed, and those behind it.
pub(super) struct Failed {
    pub(super) error: io::Error,
    /// In their order.
    pub(super) batches: Vec<Written>,
}

impl Line {
    /// The batch stands in line. Called in the order of the log.
    pub(super) fn begin(&self, batch: Batch, unsynced: Unsynced) -> Written {
        let mut inner = self.inner.lock();
        let number = inner.begun;
        inner.begun += 1;
        Written { batch, unsynced, number }
    }

    /// Its sync has ended: when all before it were shown, shows the batch or keeps it as failed. Says whether it was shown.
    pub(super) fn end(&self, written: Written, synced: io::Result<Duration>, shared: &Shared) -> bool {
        let mut inner = self.inner.lock();
        while inner.ended != written.number && !inner.abandoned {
            self.moved.wait(&mut inner);
        }
        if inner.abandoned {
            return false; // Dropped: its publishers are told that the log is closed.
        }
        match (synced, &mut inner.failed) {
            (Ok(took), None) => {
                shared.stats.synced(took, written.unsynced.records, written.unsynced.bytes);
                inner.gather = Gather::after(written.batch.given.len(), took);
                MutexGuard::unlocked(&mut inner, || written.batch.show(shared));
            }
            (_, Some(failed)) => failed.batches.push(written),
            (Err(error), failed @ None) => *failed = Some(Failed { error, batches: vec![written] }),
        }
        let has_failed = inner.failed.is_some();
        inner.ended += 1;
        drop(inner);
        self.moved.notify_all();
        if has_failed {
            shared.queue.poke();
        }
        !has_failed
    }

    /// Waits until nothing is under way. Gives what failed.
    pub(super) fn wait(&self) -> Option<Failed> {
        let mut inner = self.inner.lock();
        while inner.ended != inner.begun && !inner.abandoned {
            self.moved.wait(&mut inner);
        }
        inner.failed.take()
    }

    /// Whether nothing is under way, and nothing has failed.
    pub(super) fn is_empty(&self) -> bool {
        let inner = self.inner.lock();
        inner.ended == inner.begun && inner.failed.is_none()
    }

    /// Whether something failed and was not taken back yet.
    pub(super) fn has_failed(&self) -> bool {
        self.inner.lock().failed.is_some()
    }

    /// What the last batch says about the next.
    pub(super) fn gather(&self) -> Gather {
        self.inner.lock().gather
    }

    /// Nothing more is shown, and nobody waits.
    pub(super) fn abandon(&self) {
        self.inner.lock().abandoned = true;
        self.moved.notify_all();
    }

    /// Whether a thread has panicked.
    pub(super) fn is_abandoned(&self) -> bool {
        self.inner.lock().abandoned
    }
}
