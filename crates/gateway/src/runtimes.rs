//! Two runtimes, so that the kernel divides the processor between what is published and who is connected. In one, a message would stand in
//! the run queue behind ten thousand connections that are cut, or come back, in the same moment.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// Sockets of which a runtime hears at once: it wakes the tasks of all of them, and everybody else's turn comes after theirs. With its
/// own 1,024, whoever is served while 10,000 connections are cut waits for that many ends.
const EVENTS_IN_A_ROW: usize = 128;

/// Both, with a thread for each core: one that has nothing to do costs nothing.
pub(crate) struct Runtimes {
    /// The API, and the fan-outs of what is published there or anywhere.
    pub(crate) front: Runtime,
    /// Connections, from their accept to their end.
    connections: Runtime,
}

impl Runtimes {
    /// Starts them.
    ///
    /// # Errors
    /// The system has no threads left.
    pub(crate) fn start() -> io::Result<Self> {
        Ok(Self { front: start("front")?, connections: start("connections")? })
    }

    /// Where connections are served.
    pub(crate) fn connections(&self) -> Handle {
        self.connections.handle().clone()
    }

    /// Ends them; what is left are tasks of peers that were cut, and nobody waits for those.
    pub(crate) fn end(self) {
        self.connections.shutdown_background();
        self.front.shutdown_background();
    }
}

/// The name is what `top -H` shows of its threads.
fn start(name: &'static str) -> io::Result<Runtime> {
    Builder::new_multi_thread().thread_name(name).max_io_events_per_tick(EVENTS_IN_A_ROW).enable_all().build()
}
