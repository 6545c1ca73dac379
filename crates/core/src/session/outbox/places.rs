//! Memory of a queue beyond what waits in it.

use std::collections::VecDeque;

/// A queue that has been emptied keeps no more than this many places, and none where what it had was the opening's notices: the next
/// message may be hours away.
pub(super) const KEPT: usize = 16;

/// What nothing waits in takes no memory.
pub(super) fn give_back<T>(queue: &mut VecDeque<T>) {
    if queue.is_empty() {
        *queue = VecDeque::new();
    }
}
