//! How long an answer of the broker is waited for, in time that this process ran: while it is frozen (SIGSTOP, a machine that sleeps, a
//! guest that is moved) the broker is too, and its silence says nothing.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// The alarm rings at least so often while it is waited for, so that a freeze shows wherever it falls.
const PART: Duration = Duration::from_millis(300);
/// An alarm that is so late was held up: this process did not run.
const FROZEN: Duration = Duration::from_millis(200);
/// So often the time begins anew for one wait; a process that never runs when it should has to answer some time too.
const THAWS: u32 = 3;

/// Waits, for one answer after the other. Costs nothing until an answer is really waited for.
pub(super) struct Patience {
    within: Duration,
    alarm: Option<Pin<Box<Sleep>>>,
    /// When a freeze was last noticed: what waits since before it, waits since then.
    thawed: Option<Instant>,
    thaws: u32,
}

impl Patience {
    pub(super) const fn new(within: Duration) -> Self {
        Self { within, alarm: None, thawed: None, thaws: 0 }
    }

    /// Ready once what `begun` then has not been answered for too long. Ask for the answer first: it may have come with the thaw.
    pub(super) fn poll_over(&mut self, context: &mut Context<'_>, begun: Instant) -> Poll<()> {
        let Self { within, alarm, thawed, thaws } = self;
        if thawed.is_none_or(|thawed| thawed < begun) {
            (*thawed, *thaws) = (None, 0);
        }
        let mut due = thawed.unwrap_or(begun) + *within;
        let first = due.min(begun + PART);
        let alarm = alarm.get_or_insert_with(|| Box::pin(sleep_until(first)));
        loop {
            ready!(alarm.as_mut().poll(context));
            let now = Instant::now();
            // One that was set for another answer, long ago, rang unheard.
            let was_waited_for = alarm.deadline() > begun;
            if was_waited_for && now - alarm.deadline() >= FROZEN && *thaws < THAWS {
                (*thawed, *thaws, due) = (Some(now), *thaws + 1, now + *within);
            }
            if due <= now {
                return Poll::Ready(());
            }
            alarm.as_mut().reset(due.min(now + PART));
        }
    }
}

/// The answer, or none within the time.
pub(super) async fn patiently<T>(within: Duration, answer: impl Future<Output = T>) -> Option<T> {
    let (mut answer, mut patience, begun) = (pin!(answer), Patience::new(within), Instant::now());
    poll_fn(|context| match answer.as_mut().poll(context) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending => patience.poll_over(context, begun).map(|()| None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep};

    use super::*;

    const WITHIN: Duration = Duration::from_millis(1800);

    /// Waits for an answer that comes after so long in which this process ran, of which it is frozen at `at` for `frozen`.
    async fn wait(answer_ms: u64, at_ms: u64, frozen: Duration) -> Option<()> {
        let ran = async move {
            for _ in 0..answer_ms {
                sleep(Duration::from_millis(1)).await;
            }
        };
        let waiting = tokio::spawn(patiently(WITHIN, ran));
        sleep(Duration::from_millis(at_ms)).await;
        advance(frozen).await;
        waiting.await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_has_its_time_and_no_more() {
        for (answer_ms, comes) in [(0, true), (1700, true), (1900, false), (10_000, false)] {
            let begun = Instant::now();
            assert_eq!(wait(answer_ms, 0, Duration::ZERO).await.is_some(), comes, "{answer_ms}");
            assert!(begun.elapsed() <= WITHIN + Duration::from_millis(2));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_freeze_is_nobodys() {
        for at_ms in (0..1790).step_by(149).chain([1790]) {
            for frozen in [PART + FROZEN, WITHIN, Duration::from_secs(5), Duration::from_secs(86_400)] {
                assert_eq!(wait(1795, at_ms, frozen).await, Some(()), "frozen after {at_ms} ms for {frozen:?}");
                let thawed = Instant::now();
                assert_eq!(wait(10_000, at_ms, frozen).await, None);
                assert!(thawed.elapsed() <= frozen + 2 * WITHIN, "{:?}", thawed.elapsed());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_hardly_runs_answers_all_the_same() {
        let waiting = tokio::spawn(patiently(WITHIN, std::future::pending::<()>()));
        let mut freezes = 0;
        while !waiting.is_finished() {
            sleep(Duration::from_millis(1)).await;
            advance(PART + FROZEN).await;
            freezes += 1;
            assert!(freezes < 20);
        }
        assert!(freezes > THAWS);
    }

    /// One wait after the other: the alarm of the one before rings unheard, and that is no freeze.
    #[tokio::test(start_paused = true)]
    async fn what_was_not_waited_for_was_not_frozen() {
        let mut patience = Patience::new(WITHIN);
        for _ in 0..3 {
            let begun = Instant::now();
            poll_fn(|context| patience.poll_over(context, begun)).await;
            assert!((WITHIN..WITHIN + Duration::from_millis(2)).contains(&begun.elapsed()));
            let begun = Instant::now();
            poll_fn(|context| Poll::Ready(patience.poll_over(context, begun).is_ready())).await;
            sleep(Duration::from_secs(60)).await;
        }
    }
}
