//! Two runtimes, so that the kernel divides the processor between what is published and who is connected. In one, a message would stand in
//! the run queue behind ten thousand connections that are cut, or come back, in the same moment.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// Sockets of which a runtime hears at once: it wakes the tasks of all of them, and everybody else's turn comes after theirs. With its
/// own 1,024, whoever is served while 10,000 connections are cut waits for that many ends.
const EVENTS_IN_A_ROW: usize = 128;

/// Of the tasks that wait where connections are, every other one is taken from the queue in which those stand that a fan-out has woken. The
/// runtime's own measure is one in forty as long as sockets wake enough tasks: what is queued for subscribers would stand still while a crowd
/// comes or goes. (Of more than 256 that sockets woke, half stand in that queue too.)
const WOKEN_FROM_OUTSIDE: u32 = 2;

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
        let connections = builder("connections").global_queue_interval(WOKEN_FROM_OUTSIDE).build()?;
        Ok(Self { front: builder("front").build()?, connections })
    }

    /// Where connections are served.
    pub(crate) fn connections(&self) -> Handle {
        self.connections.handle().clone()
    }

    /// Ends them without waiting: what is left are peers that were cut, listeners, and fan-outs to nobody.
    pub(crate) fn end(self) {
        self.connections.shutdown_background();
        self.front.shutdown_background();
    }
}

/// The name is what `top -H` shows of its threads.
fn builder(name: &'static str) -> Builder {
    let mut builder = Builder::new_multi_thread();
    builder.thread_name(name).max_io_events_per_tick(EVENTS_IN_A_ROW).enable_all();
    builder
}
