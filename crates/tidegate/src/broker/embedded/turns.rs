//! Two threads write the log in turns: while the disk has the batch of one, the other gives, encodes and writes the next, and begins to
//! sync that. A disk takes two syncs in little more time than one, and what the processor does for a batch no longer waits for it.

use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;

use super::line::Line;
use super::shared::Shared;
use super::store::Store;
use super::writer::{Turn, Writer};

/// What the threads have in common.
pub(super) struct Writers {
    pub(super) shared: Arc<Shared>,
    pub(super) line: Arc<Line>,
    /// One of them begins a batch at a time.
    pub(super) writer: Mutex<Writer>,
}

impl Writers {
    /// So many batches are under way at once, at most. A batch's header says whether one was before it: see [`Store::write`].
    pub(super) const COUNT: usize = 2;

    pub(super) fn new(shared: Arc<Shared>, store: Store) -> Self {
        let line = Arc::new(Line::default());
        let writer = Mutex::new(Writer::new(shared.clone(), line.clone(), store));
        Self { shared, line, writer }
    }

    /// What each of the threads does until the queue is closed and empty.
    pub(super) fn run(&self) {
        let _abandon = AbandonAtPanic(&self.line);
        loop {
            match self.turn() {
                Turn::Written(written) => {
                    let synced = written.unsynced.sync();
                    self.line.end(written, synced, &self.shared);
                }
                Turn::Done => {}
                Turn::Closed => return,
            }
        }
    }

    fn turn(&self) -> Turn {
        let mut writer = self.writer.lock();
        // Ends before the lock: the other thread must not go on from half of a batch.
        let _abandon = AbandonAtPanic(&self.line);
        writer.turn()
    }
}

/// The other thread must not wait for one that panicked.
struct AbandonAtPanic<'a>(&'a Line);

impl Drop for AbandonAtPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.abandon();
        }
    }
}
