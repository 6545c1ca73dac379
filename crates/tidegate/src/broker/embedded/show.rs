//! Shows one batch while the next is on its way to the disk: what a processor does and what the disk does go on side by side.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::batch::Batch;
use super::shared::Shared;

/// A thread that shows batches, one at a time and in order.
pub(super) struct Show {
    batches: SyncSender<Batch>,
    shown: Receiver<()>,
    under_way: bool,
}

impl Show {
    /// Starts the thread. It ends with this value.
    pub(super) fn start(shared: Arc<Shared>) -> io::Result<Self> {
        let (batches, to_show) = sync_channel::<Batch>(1);
        let (done, shown) = sync_channel(1);
        thread::Builder::new().name("tidegate-show".into()).spawn(move || {
            while let Ok(batch) = to_show.recv() {
                batch.show(&shared);
                if done.send(()).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { batches, shown, under_way: false })
    }

    /// Shows a batch. The one before must have been waited for.
    ///
    /// # Errors
    /// The thread has ended: it panicked.
    pub(super) fn begin(&mut self, batch: Batch) -> io::Result<()> {
        debug_assert!(!self.under_way, "one batch at a time");
        self.under_way = true;
        self.batches.send(batch).map_err(|_| gone())
    }

    /// Waits until nothing is under way.
    ///
    /// # Errors
    /// The thread has ended: it panicked.
    pub(super) fn wait(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.under_way) { self.shown.recv().map_err(|_| gone()) } else { Ok(()) }
    }
}

fn gone() -> io::Error {
    io::Error::other("the thread that shows what was written has ended")
}
