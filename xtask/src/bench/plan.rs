//! What is to be run: who, with which measure and how often; and how long that takes.

use std::time::Duration;

use super::measures::Measure;
use super::peers::Peer;

/// One measure of one peer.
pub(super) struct Step {
    pub(super) peer: &'static Peer,
    pub(super) measure: &'static Measure,
    /// Runs that are to be made.
    pub(super) runs: usize,
}

impl Step {
    fn time(&self) -> Duration {
        Duration::from_secs(self.measure.seconds * self.runs as u64)
    }
}

/// Every measure that fits a peer, peer by peer; `runs` instead of what is usual, and without those that were `done` before.
pub(super) fn steps(
    peers: &[&'static Peer],
    measures: &[&'static Measure],
    runs: Option<usize>,
    done: impl Fn(&Peer, &Measure) -> usize,
) -> Vec<Step> {
    let all = peers.iter().flat_map(|peer| measures.iter().filter(|measure| measure.fits(peer)).map(|measure| (*peer, *measure)));
    let step = |(peer, measure): (&'static Peer, &'static Measure)| {
        let wanted = if measure.repeats { runs.unwrap_or(peer.runs) } else { 1 };
        let runs = wanted.saturating_sub(done(peer, measure));
        (runs > 0).then_some(Step { peer, measure, runs })
    };
    all.filter_map(step).collect()
}

/// How long they take, about.
pub(super) fn time(steps: &[Step]) -> Duration {
    steps.iter().map(Step::time).sum()
}

/// How long the steps from `next` on take, going by how long those before it took.
pub(super) fn left(steps: &[Step], next: usize, elapsed: Duration) -> Duration {
    // What a few short ones took says little about the others.
    const ENOUGH: Duration = Duration::from_secs(60);
    let (past, to_come) = (time(&steps[..next]), time(&steps[next..]));
    if past < ENOUGH { to_come } else { to_come.mul_f64(elapsed.as_secs_f64() / past.as_secs_f64()) }
}

/// A time for people: minutes, rounded up.
pub(super) fn minutes(time: Duration) -> String {
    format!("{} min", time.as_secs().div_ceil(60))
}

#[cfg(test)]
mod tests {
    use super::super::measures::MEASURES;
    use super::super::peers::PEERS;
    use super::*;

    fn everything(runs: Option<usize>, done: impl Fn(&Peer, &Measure) -> usize) -> Vec<Step> {
        steps(&PEERS.iter().collect::<Vec<_>>(), &MEASURES.iter().collect::<Vec<_>>(), runs, done)
    }

    #[test]
    fn what_was_done_is_not_done_again() {
        let is_fanout = |measure: &Measure| usize::from(measure.id == "fanout-1000-one");
        let runs = |steps: &[Step], peer: &str| {
            steps.iter().find(|step| step.peer.name == peer && is_fanout(step.measure) == 1).map(|step| step.runs)
        };
        let (fresh, rest) = (everything(None, |_, _| 0), everything(None, |_, measure| is_fanout(measure)));
        assert_eq!((runs(&fresh, "tidegate"), runs(&fresh, "nchan"), runs(&fresh, "floor")), (Some(3), Some(1), None));
        assert_eq!((runs(&rest, "tidegate"), runs(&rest, "nchan")), (Some(2), None));
        assert!(everything(None, |_, _| 3).is_empty());
        assert_eq!(runs(&everything(Some(5), |_, _| 0), "nchan"), Some(5));
    }

    #[test]
    fn everything_fits_an_hour_and_a_half() {
        assert!(time(&everything(None, |_, _| 0)) < Duration::from_secs(90 * 60), "{}", minutes(time(&everything(None, |_, _| 0))));
    }

    #[test]
    fn the_time_left_goes_by_the_time_that_passed() {
        let all = everything(None, |_, _| 0);
        let half = all.len() / 2;
        let (past, to_come) = (time(&all[..half]), time(&all[half..]));
        assert_eq!(left(&all, half, past), to_come);
        assert_eq!(left(&all, half, 2 * past).as_secs(), 2 * to_come.as_secs());
        assert_eq!(left(&all, 1, 9 * past), time(&all[1..]), "one step says nothing");
        assert_eq!(minutes(Duration::from_secs(61)), "2 min");
    }
}
