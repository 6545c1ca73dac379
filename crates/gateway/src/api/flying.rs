//! Lines of an NDJSON request between their being read and their answers.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use tidegate::broker::Published;
use tidegate::{Pace, PublishError};
use tokio::time::Instant;

use super::answer::Refusal;

type Outcomes = Vec<Result<Published, PublishError>>;
pub(super) type Publishing = Pin<Box<dyn Future<Output = (Outcomes, Pace)> + Send>>;

/// Lines that have no answer yet.
pub(super) enum Flying {
    /// Not published.
    Refused(Refusal),
    UnderWay {
        publishing: Publishing,
        lines: usize,
        bytes: usize,
        begun: Instant,
    },
    /// Published. The answers wait for the subscribers, and the broker's time is over.
    Paced {
        outcomes: Outcomes,
        pace: Pace,
        bytes: usize,
    },
    Done(std::vec::IntoIter<Result<Published, PublishError>>),
    /// So many whose time is over.
    Unanswered(usize),
}

/// Takes what the broker has answered while the first waits for its pace: theirs is that of the moment at which it is asked for, and what
/// others publish meanwhile would prolong it. The broker answers in order, but for moments: the search ends with the first that it has not.
pub(super) fn take_published(flying: &mut VecDeque<Flying>, context: &mut Context<'_>) {
    for next in flying.iter_mut().skip(1) {
        let Flying::UnderWay { publishing, bytes, .. } = next else { continue };
        let bytes = *bytes;
        let Poll::Ready((outcomes, pace)) = publishing.as_mut().poll(context) else { return };
        *next = Flying::Paced { outcomes, pace, bytes };
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::task::Waker;

    use super::*;

    #[test]
    fn what_is_published_behind_the_first_gets_its_pace() {
        let under_way = |publishing: Publishing| Flying::UnderWay { publishing, lines: 1, bytes: 7, begun: Instant::now() };
        let published = || under_way(Box::pin(ready((Vec::new(), Pace::default()))));
        let first = Flying::Paced { outcomes: Vec::new(), pace: Pace::default(), bytes: 7 };
        let mut flying = VecDeque::from([first, published(), Flying::Unanswered(1), published(), under_way(Box::pin(pending()))]);
        for _ in 0..2 {
            take_published(&mut flying, &mut Context::from_waker(Waker::noop()));
            let paced: Vec<bool> = flying.iter().map(|flying| matches!(flying, Flying::Paced { bytes: 7, .. })).collect();
            assert_eq!(paced, [true, true, false, true, false]);
        }
    }
}
