//! The gate's clock: milliseconds since it was built, as the rules want time.

use tidegate_core::Moment;
use tokio::time::Instant;

/// Converts between the runtime's instants (which a test may pause) and the rules' moments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    pub(crate) fn now(self) -> Moment {
        Moment::from_ms(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn instant(self, moment: Moment) -> Instant {
        self.origin + std::time::Duration::from_millis(moment.as_ms())
    }
}
