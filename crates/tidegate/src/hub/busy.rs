//! Channels that are being handed out now, without those that only wait for more: who has time lets them go first.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

/// How many there are.
#[derive(Debug, Default)]
pub(super) struct Busy {
    channels: AtomicUsize,
    none: Notify,
}

impl Busy {
    pub(super) fn begin(&self) {
        self.channels.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn end(&self) {
        if self.channels.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.none.notify_waiters();
        }
    }

    /// One of them only waits for more to hand out, as long as this is held.
    pub(super) fn pause(&self) -> Paused<'_> {
        self.end();
        Paused(self)
    }

    pub(super) fn channels(&self) -> usize {
        self.channels.load(Ordering::Acquire)
    }

    /// Waits until there are none, but no longer than that.
    pub(super) async fn wait_for_none(&self, longest: Duration) {
        // Before the look: an end that comes after it is heard.
        let none = self.none.notified();
        if self.channels() > 0 {
            // Either way the wait is over.
            let _ = timeout(longest, none).await;
        }
    }
}

/// Goes on when it is dropped.
#[must_use]
pub(super) struct Paused<'b>(&'b Busy);

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.0.begin();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const LONGEST: Duration = Duration::from_millis(7);

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_where_there_are_none() {
        let (busy, started) = (Busy::default(), Instant::now());
        busy.begin();
        busy.end();
        busy.wait_for_none(LONGEST).await;
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_ends_with_the_last_of_them() {
        let (busy, started) = (Busy::default(), Instant::now());
        busy.begin();
        busy.begin();
        tokio::join!(busy.wait_for_none(LONGEST), async {
            for _ in 0..2 {
                tokio::time::sleep(Duration::from_millis(2)).await;
                busy.end();
            }
        });
        assert_eq!((started.elapsed(), busy.channels()), (Duration::from_millis(4), 0));
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_never_end_are_not_waited_for() {
        let (busy, started) = (Busy::default(), Instant::now());
        busy.begin();
        busy.wait_for_none(LONGEST).await;
        assert_eq!((started.elapsed(), busy.channels()), (LONGEST, 1));
    }
}
