//! Alarms that ring at their moment, once, whoever comes, goes or panics meanwhile.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

use super::*;

/// Counts how often it was woken.
#[derive(Default)]
struct Sleeper(AtomicUsize);

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Sleeper {
    fn woken(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn at(ms: u64) -> Moment {
    Moment::from_ms(ms)
}

/// Sets one for a sleeper of its own.
fn set(rounds: &mut Rounds, ms: u64) -> (Arc<Sleeper>, Option<Place>) {
    let sleeper = Arc::new(Sleeper::default());
    let place = rounds.set(at(ms), &Arc::clone(&sleeper).into());
    (sleeper, place)
}

async fn ring(rounds: &mut Rounds, now: u64) {
    while let Some((_, mut round)) = rounds.take_due(at(now)) {
        round.ring().await;
    }
}

fn count(rounds: &Rounds) -> usize {
    let is_set = |bell: &&Bell| matches!(bell, Bell::Set(_));
    rounds.by_moment.values().map(|round| round.bells.iter().filter(is_set).count()).sum()
}

#[tokio::test]
async fn each_rings_once_at_its_moment() {
    let mut rounds = Rounds::default();
    let sleepers = [500, 250, 500, 750].map(|ms| (ms, set(&mut rounds, ms).0));
    for now in (0..=1000).step_by(50) {
        ring(&mut rounds, now).await;
        for (ms, sleeper) in &sleepers {
            assert_eq!(sleeper.woken(), usize::from(*ms <= now), "set for {ms}, at {now}");
        }
    }
    assert_eq!(rounds.first(), None);
}

#[tokio::test]
async fn what_was_cleared_does_not_ring_and_leaves_its_place_to_the_next() {
    let mut rounds = Rounds::default();
    let (first, place) = set(&mut rounds, 250);
    let (second, _) = set(&mut rounds, 250);
    assert!(rounds.clear(at(250), place.unwrap()).is_some());
    assert!(rounds.clear(at(250), place.unwrap()).is_none());
    assert_eq!(Arc::strong_count(&first), 1, "its waker is gone at once");
    let (third, reused) = set(&mut rounds, 250);
    let (_, new) = set(&mut rounds, 250);
    assert_eq!((reused, new), (place, Some(Place(2))));
    ring(&mut rounds, 250).await;
    assert_eq!([&first, &second, &third].map(|sleeper| sleeper.woken()), [0, 1, 1]);
}

#[tokio::test]
async fn who_comes_too_late_is_told_and_takes_nobody_elses_place() {
    let mut rounds = Rounds::default();
    let rung = set(&mut rounds, 250).1.unwrap();
    ring(&mut rounds, 300).await;
    assert_eq!(set(&mut rounds, 250).1, None, "that round is over");
    let (past, place) = set(&mut rounds, 251);
    assert_eq!(place, Some(rung));
    assert!(rounds.clear(at(250), rung).is_none());
    ring(&mut rounds, 300).await;
    assert_eq!(past.woken(), 1, "a moment in the past that had no round is still to ring");
}

/// Whoever comes and goes, nobody's alarm is lost, and memory follows who is there at once.
#[tokio::test]
async fn nothing_is_lost_among_those_who_come_and_go() {
    let mut rounds = Rounds::default();
    let mut set_now: Vec<(u64, Place, Arc<Sleeper>)> = Vec::new();
    let mut random = 7_u64;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % below
    };
    for _ in 0..10_000 {
        if set_now.len() < 20 || next(2) == 0 && set_now.len() < 40 {
            let ms = 250 * (1 + next(4));
            let (sleeper, place) = set(&mut rounds, ms);
            set_now.push((ms, place.unwrap(), sleeper));
        } else {
            let (ms, place, _) = set_now.swap_remove(next(set_now.len() as u64) as usize);
            assert!(rounds.clear(at(ms), place).is_some());
        }
        assert_eq!(count(&rounds), set_now.len());
    }
    assert!(rounds.by_moment.values().all(|round| round.bells.len() <= 40));
    ring(&mut rounds, 1000).await;
    assert!(set_now.iter().all(|(_, _, sleeper)| sleeper.woken() == 1));
}

#[tokio::test]
async fn the_others_get_their_turns_between_very_many() {
    let mut rounds = Rounds::default();
    let sleepers: Vec<_> = (0..IN_A_ROW * 2 + 1).map(|_| set(&mut rounds, 250).0).collect();
    let woken = || sleepers.iter().filter(|sleeper| sleeper.woken() == 1).count();
    let (_, mut round) = rounds.take_due(at(250)).unwrap();
    let ringing = round.ring();
    let mut beside = Vec::new();
    tokio::join!(biased; ringing, async {
        for _ in 0..3 {
            beside.push(woken());
            yield_now().await;
        }
    });
    assert_eq!(beside, [IN_A_ROW, IN_A_ROW * 2, sleepers.len()]);
}

/// Waits for the next ring.
async fn woken(alarms: &Arc<Alarms>, in_ms: u64) {
    let (due, mut place) = (alarms.clock.now() + Duration::from_millis(in_ms), None);
    let ringing = std::future::poll_fn(|cx| {
        if place.is_some() {
            return std::task::Poll::Ready(());
        }
        place = alarms.set(due, cx.waker());
        std::task::Poll::Pending
    });
    timeout(Duration::from_secs(10), ringing).await.unwrap();
    assert!(alarms.clock.now() >= due);
}

#[tokio::test]
async fn an_earlier_one_is_not_kept_waiting_and_the_next_finds_somebody_who_waits() {
    let alarms = Arc::new(Alarms::new(Clock::start(), Handle::current()));
    let far = alarms.clock.now() + Duration::from_secs(3600);
    let place = alarms.set(far, std::task::Waker::noop()).unwrap();
    tokio::task::yield_now().await;
    woken(&alarms, 20).await;
    woken(&alarms, 1).await;
    alarms.clear(far, place);
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

/// Alarms that were set by others while they had a runtime: who rings has not begun, has begun, and waits.
fn left_behind(alarms: &Arc<Alarms>) -> [Arc<Sleeper>; 3] {
    [0, 1, 2].map(|turns| {
        let (sleeper, closing) = (Arc::new(Sleeper::default()), runtime());
        closing.block_on(async {
            alarms.set(alarms.clock.now() + Duration::from_millis(20), &Arc::clone(&sleeper).into()).unwrap();
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
        });
        sleeper
    })
}

#[test]
fn when_the_runtime_of_who_rings_them_closes_the_gates_own_takes_over() {
    let home = runtime();
    let alarms = Arc::new(Alarms::new(Clock::start(), home.handle().clone()));
    let sleepers = left_behind(&alarms);
    home.block_on(async {
        let woken = async {
            while sleepers.iter().any(|sleeper| sleeper.woken() == 0) {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(10), woken).await.unwrap();
    });
    assert_eq!(sleepers.map(|sleeper| sleeper.woken()), [1, 1, 1]);
}

#[test]
fn when_that_is_closed_too_the_next_who_sets_one_takes_over() {
    let alarms = Arc::new(Alarms::new(Clock::start(), runtime().handle().clone()));
    let sleepers = left_behind(&alarms);
    runtime().block_on(woken(&alarms, 40));
    assert_eq!(sleepers.map(|sleeper| sleeper.woken()), [1, 1, 1]);
}

/// One whose waking panics.
struct Broken;

impl Wake for Broken {
    fn wake(self: Arc<Self>) {
        panic!("waking this sleeper panics");
    }
}

#[tokio::test]
async fn a_panic_leaves_the_others_to_the_next_task() {
    let alarms = Arc::new(Alarms::new(Clock::start(), Handle::current()));
    let sleepers: [Arc<Sleeper>; 2] = Default::default();
    let [before, after] = sleepers.clone();
    let due = alarms.clock.now() + Duration::from_millis(1);
    for waker in [before.into(), Arc::new(Broken).into(), after.into()] {
        alarms.set(due, &waker).unwrap();
    }
    while alarms.rounds.lock().is_served {
        sleep(Duration::from_millis(1)).await;
    }
    woken(&alarms, 1).await;
    assert_eq!(sleepers.map(|sleeper| sleeper.woken()), [1, 1]);
}
