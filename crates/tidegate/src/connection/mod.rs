//! One connection: the port by which others reach its session, the driver that serves its socket, and what it wants from outside.

mod alarms;
mod batch;
mod compression;
mod direct;
mod driver;
mod frames;
mod neighbours;
mod port;
mod prefixed;
mod raw;
mod socket;
mod teardown;
mod unsent;
mod unwritten;

use std::sync::Arc;
use std::time::Duration;

use tidegate_core::ChannelName;
use tidegate_core::message::GapReason;
use tidegate_core::session::{Ending, Notice, Output, SubscriptionId};

use crate::clock::Clock;

pub(crate) use alarms::Alarms;
pub(crate) use batch::{BATCH_BYTES, BATCH_MESSAGES, Batch};
pub(crate) use direct::Route;
pub(crate) use driver::{Driver, Start};
pub(crate) use frames::{Codec, publication_frame};
pub(crate) use neighbours::Neighbours;
pub(crate) use port::{Facts, Hints, Port};
pub(crate) use prefixed::Prefixed;
pub use raw::{Closed, RawMessage, RawSocket};
pub(crate) use socket::{Foreign, Socket};
pub(crate) use teardown::{Connected, Teardown};

/// What a connection needs from the rest of the gate. It knows no hub, no broker and no settings.
pub(crate) trait Outside: Send + Sync + 'static {
    /// What time it is.
    fn clock(&self) -> Clock;

    /// Where a connection's alarm is set that is due when those of many others are.
    fn alarms(&self) -> &Arc<Alarms>;

    /// Where connections that have ended are taken apart.
    fn teardown(&self) -> &Arc<Teardown>;

    /// Does what the session wants done, now or in a task that answers through the port.
    fn perform(self: Arc<Self>, port: &Arc<Port>, output: Output);

    /// Takes a subscription out of the hub: the session ended without saying so itself.
    fn detach(self: Arc<Self>, port: &Port, subscription: SubscriptionId, channel: &ChannelName);

    /// Counts and logs.
    fn notice(&self, port: &Port, notice: Notice);

    /// A gap message went out.
    fn gap_sent(&self, reason: GapReason);

    /// The outbox holds so many bytes, before what is about to be written is taken from it.
    fn buffered(&self, bytes: usize);

    /// So many lanes more, or fewer, are behind.
    fn lanes_behind(&self, change: i64);

    /// The connection is over; its port answers nobody any more.
    fn ended(&self, port: &Port, age: Duration, ending: Ending);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every idle connection pays. The measured whole is in `tests/idle.rs`; this one says where it went when that fails.
    #[test]
    fn an_idle_connection_is_small() {
        let (driver, port) = (size_of::<Connected>(), size_of::<Port>());
        println!("driver {driver}, port {port}");
        // Beyond that the task that runs it takes a third line of 128 bytes.
        assert!(driver <= 152, "{driver}");
        assert!(port <= 632, "{port}");
    }
}
