//! What is to be run: who, with which measure and how often; and how long that takes.

use std::time::Duration;

use super::measures::Measure;
use super::peers::Peer;

/// One run of one measure of one peer.
pub(super) struct Step {
    pub(super) peer: &'static Peer,
    pub(super) measure: &'static Measure,
}

/// Every measure that fits a peer; `runs` instead of what is usual, and without those that were `done` before. Measure by measure, a fan-out
/// together with its floor, and in rounds over the peers: a machine that is shared has slow minutes, and who is held against another is to
/// have the same ones.
pub(super) fn steps(
    peers: &[&'static Peer],
    measures: &[&'static Measure],
    runs: Option<usize>,
    done: impl Fn(&Peer, &Measure) -> usize,
) -> Vec<Step> {
    let mut steps = Vec::new();
    for group in measures.chunk_by(|floor, next| next.floor() == Some(floor.id)) {
        let pairs = group.iter().flat_map(|measure| peers.iter().filter(|peer| measure.fits(peer)).map(|peer| (*peer, *measure)));
        let missing = |(peer, measure): (&'static Peer, &'static Measure)| {
            let wanted = if measure.repeats { runs.unwrap_or(peer.runs) } else { 1 };
            (Step { peer, measure }, wanted.saturating_sub(done(peer, measure)))
        };
        let missing: Vec<(Step, usize)> = pairs.map(missing).collect();
        let rounds = missing.iter().map(|(_, runs)| *runs).max().unwrap_or(0);
        for round in 0..rounds {
            steps.extend(missing.iter().filter(|(_, runs)| round < *runs).map(|(step, _)| Step { ..*step }));
        }
    }
    steps
}

/// How long they take, about.
pub(super) fn time(steps: &[Step]) -> Duration {
    steps.iter().map(|step| Duration::from_secs(step.measure.seconds)).sum()
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
    use super::super::peers::PEERS;
    use super::super::set::MEASURES;
    use super::*;

    fn everything(runs: Option<usize>, done: impl Fn(&Peer, &Measure) -> usize) -> Vec<Step> {
        steps(&PEERS.iter().collect::<Vec<_>>(), &MEASURES.iter().collect::<Vec<_>>(), runs, done)
    }

    #[test]
    fn what_was_done_is_not_done_again() {
        let is_fanout = |measure: &Measure| usize::from(measure.id == "fanout-1000-one");
        let runs = |steps: &[Step], peer: &str| steps.iter().filter(|step| step.peer.name == peer && is_fanout(step.measure) == 1).count();
        let (fresh, rest) = (everything(None, |_, _| 0), everything(None, |_, measure| is_fanout(measure)));
        assert_eq!((runs(&fresh, "tidegate"), runs(&fresh, "nchan"), runs(&fresh, "floor")), (3, 1, 0));
        assert_eq!((runs(&rest, "tidegate"), runs(&rest, "nchan")), (2, 0));
        assert!(everything(None, |_, _| 3).is_empty());
        assert_eq!(runs(&everything(Some(5), |_, _| 0), "nchan"), 5);
    }

    #[test]
    fn who_is_held_against_another_runs_beside_it() {
        let all = everything(None, |_, _| 0);
        let is_pair = |step: &&Step| ["floor-1000-round", "fanout-1000-one"].contains(&step.measure.id);
        let first = all.iter().position(|step| is_pair(&step)).unwrap();
        let names: Vec<&str> = all[first..].iter().take_while(is_pair).map(|step| step.peer.name).collect();
        assert_eq!(names.len(), all.iter().filter(is_pair).count(), "nothing comes between");
        let often = ["floor", "tidegate", "uwebsockets"];
        assert_eq!(&names[..3], often);
        assert_eq!(names[names.len() - 6..], [often, often].concat());
    }

    #[test]
    fn every_floor_stands_before_what_is_held_against_it() {
        for (at, measure) in MEASURES.iter().enumerate().filter(|(_, measure)| measure.floor().is_some()) {
            assert_eq!(at.checked_sub(1).map(|before| MEASURES[before].id), measure.floor(), "{}", measure.id);
        }
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
