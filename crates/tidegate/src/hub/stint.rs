//! How much a fan-out does in a row before everybody else has a turn, and what the drivers it woke have done with theirs.

use tokio::task::yield_now;

use super::crowd::Member;
use super::homes::Homes;

/// Subscribers written to in a row, be it of one message or of several, before other tasks get their turn: about a millisecond.
pub(super) const WRITTEN_IN_A_ROW: usize = 128;

/// Subscribers in a row for whom a message is only queued, which takes less than half of that.
pub(super) const QUEUED_IN_A_ROW: usize = 1024;

/// What one subscriber gets in a row, in messages: an eighth of what an outbox takes by default. A few subscribers of a channel that has much to
/// say are to have written by then.
const MESSAGES_IN_A_ROW: usize = WRITTEN_IN_A_ROW;

/// The same in bytes: half of an outbox.
const BYTES_IN_A_ROW: usize = 256 * 1024;

/// Of a crowd so many are looked at to see whether it is at rest, evenly spread: drivers write in the order in which they were woken.
const LOOKED_AT: usize = 16;

/// Of those so many may be at work in a crowd that counts as at rest: a few always have something to do.
const AWAKE_AT_MOST: usize = LOOKED_AT / 4;

/// A crowd that is huge: others would wait for 60 ms and more until all of its drivers have written.
const HUGE: usize = 8192;

/// Turns that a fan-out gives the drivers of a huge crowd. They need some twenty; a subscriber that is never at rest because it has so
/// much to say holds up the others for so long only.
const TURNS_AT_MOST: usize = 64;

/// What a fan-out has done since others had their turn: subscribers served, or for a few with much to get, what one of them got.
#[derive(Debug, Default)]
pub(super) struct Stint {
    served: usize,
}

/// What each subscriber gets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl Load {
    /// A word of loss is next to nothing.
    pub(super) const WORD: Self = Self { messages: 1, bytes: 0 };

    /// For how many subscribers of a stint it stands, be there ever so few. Of a message alone only the bytes count: it is what a stint's
    /// number of subscribers is meant for.
    fn weight(self, in_a_row: usize) -> usize {
        let by_number = if self.messages > 1 { self.messages * in_a_row / MESSAGES_IN_A_ROW } else { 1 };
        by_number.max(self.bytes * in_a_row / BYTES_IN_A_ROW)
    }
}

impl Stint {
    /// Those who may be served before others get their turn, and the rest.
    pub(super) fn split<'m>(&self, members: &'m [Member], in_a_row: usize) -> (&'m [Member], &'m [Member]) {
        members.split_at(in_a_row.saturating_sub(self.served).clamp(1, members.len()))
    }

    /// These were given that much. Says whether it is time to give way.
    pub(super) fn add(&mut self, chunk: &[Member], each: Load, in_a_row: usize) -> bool {
        self.served += chunk.len().max(each.weight(in_a_row));
        let is_over = self.served >= in_a_row;
        if is_over {
            self.served = 0;
        }
        is_over
    }
}

/// Those served last in a stint.
#[derive(Clone, Copy)]
pub(super) struct Woken<'m> {
    pub(super) chunk: &'m [Member],
    /// For how many of them it was queued, to be written by a driver that was woken.
    pub(super) queued: usize,
    /// How many the whole crowd has.
    pub(super) crowd: usize,
}

/// Lets others have their turn; the drivers that were woken, too, unless they are but a few: what is queued faster than it is written
/// fills outboxes.
pub(super) async fn give_way(homes: &Homes, woken: Woken<'_>) {
    if woken.queued * LOOKED_AT <= woken.chunk.len() * AWAKE_AT_MOST {
        return yield_now().await;
    }
    homes.give_drivers_a_turn().await;
    if woken.crowd > HUGE {
        wait_for_drivers(homes, woken.chunk).await;
    }
}

/// Whether nearly all of a crowd have done what they were last woken for.
pub(super) fn is_at_rest(crowd: &[Member]) -> bool {
    // So few can't be enough to queue for: they need no look.
    crowd.len() <= AWAKE_AT_MOST || awake_in(crowd) <= AWAKE_AT_MOST
}

/// Of the members looked at, those whose drivers have not yet done what they were last woken for.
fn awake_in(crowd: &[Member]) -> usize {
    let spread = crowd.len().div_ceil(LOOKED_AT).max(1);
    crowd.iter().step_by(spread).filter(|member| !member.port.is_at_rest()).count()
}

/// Gives way until the drivers that were woken have written. Were the next ones woken before that, all of them would soon stand in the
/// run queue, in front of what everybody else has to do.
async fn wait_for_drivers(homes: &Homes, woken: &[Member]) {
    for _ in 0..TURNS_AT_MOST {
        if awake_in(woken) == 0 {
            return;
        }
        homes.give_drivers_a_turn().await;
    }
}
