//! Channels with few subscribers that have something to hand out: a task that has served one goes on with the next, since a task for each
//! would cost more than the writes it makes.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::crowd::Crowd;

/// Subscribers that are few: a sixteenth of what a fan-out writes in a row.
pub(super) const FEW: usize = 8;

/// Channels that may wait for each task before another one begins, if there is a core for it: no more than what a fan-out writes in a row.
const WAITING_EACH: usize = 16;

/// Batches of one channel in a row. Who has more to say gets a task of its own.
pub(super) const STEPS: usize = 4;

/// The channels that wait, and the tasks that serve them. What waits is bounded by the channels that there are: each stands here once.
#[derive(Debug)]
pub(super) struct Small {
    state: Mutex<State>,
    /// Tasks at once: as many as can run.
    most: usize,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Arc<Crowd>>,
    tasks: usize,
}

impl Small {
    pub(super) fn new(most: usize) -> Self {
        Self { state: Mutex::default(), most: most.max(1) }
    }

    /// A channel has something to hand out. Gives it back if a task has to begin with it.
    pub(super) fn enter(&self, crowd: Arc<Crowd>) -> Option<Arc<Crowd>> {
        let mut state = self.state.lock();
        if state.tasks < self.most && state.waiting.len() >= state.tasks * WAITING_EACH {
            state.tasks += 1;
            return Some(crowd);
        }
        state.waiting.push_back(crowd);
        None
    }

    /// What a task that has served its channel goes on with; without anything it is over.
    pub(super) fn next(&self) -> Option<Arc<Crowd>> {
        let mut state = self.state.lock();
        let next = state.waiting.pop_front();
        if next.is_none() {
            state.tasks -= 1;
            // After a burst of very many channels nothing of it is kept.
            state.waiting.shrink_to(WAITING_EACH);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::{ChannelKind, ChannelName, ChannelRule, Pattern};

    use super::*;

    fn crowd(number: usize) -> Arc<Crowd> {
        let rule = ChannelRule::new(Pattern::new("**").unwrap(), ChannelKind::Event);
        Arc::new(Crowd::new(ChannelName::new(&number.to_string()).unwrap(), Arc::new(rule)))
    }

    fn number(crowd: Arc<Crowd>) -> usize {
        crowd.channel.as_str().parse().unwrap()
    }

    #[test]
    fn a_task_goes_on_with_what_waits_and_another_helps_when_much_does() {
        let small = Small::new(2);
        let enter = |number| small.enter(crowd(number)).map(self::number);
        let next = || small.next().map(number);
        let begun: Vec<usize> = (0..100).filter_map(enter).collect();
        assert_eq!(begun, [0, WAITING_EACH + 1]);
        let waited: Vec<usize> = std::iter::from_fn(next).collect();
        assert_eq!(waited, (1..100).filter(|number| *number != WAITING_EACH + 1).collect::<Vec<_>>());
        // One of the two is over; the other serves on.
        assert_eq!(enter(0), None);
        assert_eq!((next(), next()), (Some(0), None));
        assert_eq!(enter(1), Some(1), "all tasks are over");
    }
}
