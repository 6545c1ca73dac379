//! Where a session is in its life.

use super::close::Closing;
use super::farewell::Farewell;

/// Where a session is in its life. It only ever goes down this list.
#[derive(Debug)]
pub(super) enum State {
    /// Nobody is known yet: only `auth` is taken.
    Opening,
    /// It is welcome, or a raw session, which is from the beginning.
    Open,
    /// What waits is written, nothing more is taken.
    Flushing(Box<Farewell>),
    /// A close frame is to be written or has been.
    Closing(Box<Closing>),
    /// [`super::Output::Terminate`] was said.
    Ended,
}

impl State {
    /// Whether commands are run and messages delivered.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    /// Whether its end has not begun.
    pub(super) const fn is_alive(&self) -> bool {
        matches!(self, Self::Opening | Self::Open | Self::Flushing(_))
    }
}
