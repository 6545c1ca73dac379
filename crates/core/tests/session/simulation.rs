//! Whole lives of a session, seeded: what a client receives over all its connections goes to the checker. The same with planted
//! bugs, to see that the checker sees.

use std::collections::BTreeSet;

use crate::world::{Bug, World};

const BUGS: [Bug; 9] = [
    Bug::HistoryHole,
    Bug::SilentLoss,
    Bug::StaleSnapshot,
    Bug::DoubleWrite,
    Bug::ForgottenWrite,
    Bug::Swap,
    Bug::Miscount,
    Bug::ShortGap,
    Bug::DoubleLive,
];

/// What the schedules have to meet between them, or they prove nothing.
const WANTED: [&str; 19] = [
    "Log Queued",
    "Log Parked",
    "Log Ignored",
    "State Queued",
    "State Conflated",
    "State Parked",
    "Event Queued",
    "Event Dropped",
    "Log recovery none",
    "Log recovery complete",
    "Log recovery gap",
    "State recovery none",
    "State recovery complete",
    "State recovery snapshot",
    "gap slow",
    "gap bus",
    "gap retention",
    "gap epoch",
    "a subscribe was refused",
];

const STEPS: usize = 600;

fn live_through(seeds: std::ops::Range<u64>) {
    let mut met = BTreeSet::new();
    for seed in seeds {
        let mut world = World::new(seed, Bug::None);
        if let Err(fault) = world.run(STEPS) {
            panic!("seed {seed}: {fault:?}");
        }
        met.append(&mut world.met);
    }
    for wanted in WANTED {
        assert!(met.contains(wanted), "no schedule met {wanted:?}: {met:?}");
    }
}

#[test]
fn nothing_is_lost_nothing_comes_twice_and_gaps_are_exact() {
    live_through(0..2000);
}

#[test]
#[ignore = "long: 130 s, a hundred thousand lives"]
fn nothing_is_lost_in_a_hundred_thousand_lives() {
    live_through(2000..102_000);
}

#[test]
fn the_checker_finds_planted_bugs() {
    for bug in BUGS {
        let found = (0..60).filter(|&seed| World::new(seed, bug).run(STEPS).is_err()).count();
        assert!(found >= 6, "{bug:?} was found in {found} of 60 lives");
    }
}
