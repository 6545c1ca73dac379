//! Members are those of a set, what is pending is for who was there, and neither depends on the crowd.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use tidegate_core::session::{Mode, Opening, Session};
use tidegate_core::{ChannelKind, ConnectionId, Moment, Pattern};

use super::*;
use crate::admission::{Admission, AdmissionSettings};
use crate::connection::Facts;
use crate::hub::crowd::Key;
use crate::hub::pending::{Item, Items};

fn port() -> Arc<Port> {
    let opening = Opening { mode: Mode::Raw, settings: Arc::default(), connection: ConnectionId::new(1), identity: None, seed: 1 };
    let place = Arc::new(Admission::default()).enter(&AdmissionSettings::default(), None).unwrap();
    let facts = Facts { address: [127, 0, 0, 1].into(), opened: Moment::ZERO, hints: Default::default() };
    Arc::new(Port::new(ConnectionId::new(rand::random()), facts, Session::new(Moment::ZERO, opening), place, true))
}

fn rule() -> Arc<ChannelRule> {
    Arc::new(ChannelRule::new(Pattern::new("**").unwrap(), ChannelKind::Event))
}

fn found(registry: &Registry, channel: &ChannelName) -> Vec<Key> {
    let mut keys: Vec<Key> = registry.members(channel).iter().map(Member::key).collect();
    keys.sort_unstable();
    keys
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whoever joins and leaves, also while a fan-out holds the list, a channel's members are those of a plain set.
    #[test]
    fn members_are_those_of_a_set(steps in proptest::collection::vec((any::<bool>(), 0u32..100, any::<bool>()), 0..600)) {
        let (registry, rule, port) = (Registry::new(), rule(), port());
        let channel = ChannelName::new("a:b").unwrap();
        let mut model = BTreeSet::new();
        let mut fan_out = None;
        for (joins, number, walks) in steps {
            let key = Key::new(&port, SubscriptionId(number));
            if joins && model.insert(key) {
                registry.join(&channel, &rule, Member::new(Arc::clone(&port), SubscriptionId(number)));
            } else if !joins {
                let was_last = model.remove(&key) && model.is_empty();
                prop_assert_eq!(registry.leave(&channel, &port, SubscriptionId(number)), was_last);
            }
            prop_assert_eq!(found(&registry, &channel), model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(registry.has_members(&channel), !model.is_empty());
            let member = Member::new(Arc::clone(&port), SubscriptionId(number));
            prop_assert_eq!(registry.find(&channel).is_some_and(|crowd| crowd.has(&member)), model.contains(&key));
            fan_out = if walks { Some(registry.members(&channel)) } else { fan_out };
        }
        drop(fan_out);
    }
}

/// What was published before somebody joined is not for them, though it is still pending; and a channel whose last subscriber
/// leaves meanwhile keeps its one task to the end.
#[test]
fn pending_items_are_for_who_was_there() {
    let (registry, rule, port) = (Registry::new(), rule(), port());
    let channel = ChannelName::new("a").unwrap();
    let join = |number| registry.join(&channel, &rule, Member::new(Arc::clone(&port), SubscriptionId(number)));
    let begins = || registry.find(&channel).is_some_and(|crowd| crowd.put(Item::Lost(None)).is_some());
    assert!(!begins(), "nobody is there");
    join(1);
    assert!(begins(), "the first begins the task");
    join(2);
    assert!(!begins());
    let skipped = || {
        let step = registry.take(&registry.find(&channel)?)?;
        Some(step.members.iter().map(|member| member.skips(step.first)).collect::<Vec<_>>())
    };
    assert_eq!(skipped(), Some(vec![0, 1]));
    assert_eq!(skipped(), Some(vec![0, 0]));
    for number in [1, 2] {
        assert_eq!(registry.leave(&channel, &port, SubscriptionId(number)), number == 2);
    }
    join(3);
    assert!(!begins(), "the task is still there");
    assert_eq!(skipped(), Some(vec![0]));
    let waits = |most| registry.find(&channel).is_some_and(|crowd| crowd.wait_for_pace(most).is_some());
    assert!(!waits(1) && waits(0));
    assert_eq!(skipped(), None);
    assert!(!waits(0));
    assert!(begins(), "another task for what comes later");
}

/// A channel is gone as soon as nobody is subscribed and nothing is pending, whichever comes last.
#[test]
fn nothing_is_left_of_a_channel_that_nobody_wants() {
    let (registry, rule, port) = (Registry::new(), rule(), port());
    let channel = ChannelName::new("a").unwrap();
    let join = || registry.join(&channel, &rule, Member::new(Arc::clone(&port), SubscriptionId(1)));
    let leave = || registry.leave(&channel, &port, SubscriptionId(1));
    let put = || registry.find(&channel).unwrap().put(Item::Lost(None)).is_some();
    join();
    assert!(leave() && registry.len() == 0);
    join();
    assert!(put() && leave() && registry.len() == 1, "its task is still there");
    assert!(!leave(), "who has left can't be the last");
    let crowd = registry.find(&channel).unwrap();
    assert!(registry.take(&crowd).is_some() && registry.take(&crowd).is_none() && registry.len() == 0);
    join();
    assert!(put() && leave());
    registry.abandon(&registry.find(&channel).unwrap());
    assert_eq!(registry.len(), 0);
}

/// Who found a channel a moment before all others left it gets nowhere with what it found, and who joins after the last has left, but before the
/// channel is taken out, keeps it.
#[test]
fn a_channel_that_has_gone_takes_nobody_and_one_that_is_wanted_again_stays() {
    let (registry, rule, port) = (Registry::new(), rule(), port());
    let channel = ChannelName::new("a").unwrap();
    let member = |number| Member::new(Arc::clone(&port), SubscriptionId(number));
    registry.join(&channel, &rule, member(1));
    let before = registry.find(&channel).unwrap();
    registry.leave(&channel, &port, SubscriptionId(1));
    assert!(before.join(member(2)).is_err() && before.put(Item::Lost(None)).is_none());
    registry.join(&channel, &rule, member(2));
    let after = registry.find(&channel).unwrap();
    assert!(!Arc::ptr_eq(&before, &after));

    let (was_last, left) = after.leave(&port, SubscriptionId(2));
    assert!(was_last && left == Left::Nothing);
    registry.join(&channel, &rule, member(3));
    registry.close(&after, left);
    registry.close(&before, left);
    assert!(Arc::ptr_eq(&after, &registry.find(&channel).unwrap()) && after.has(&member(3)));
    assert!(after.put(Item::Lost(None)).is_some(), "and it can be published to");
}

/// One thread joins and leaves, two publish and hand out as they like: what a channel was given is handed out in order, by one task at a time, and
/// nothing is left in the end.
#[test]
fn a_channel_has_one_task_whoever_comes_and_goes_meanwhile() {
    const CROWDS: usize = 500;
    let (registry, rule, port) = (Registry::new(), rule(), port());
    let channel = ChannelName::new("a").unwrap();
    let live = |number| {
        let (subscription, member) = (SubscriptionId(number), Member::new(Arc::clone(&port), SubscriptionId(number)));
        registry.join(&channel, &rule, member.clone());
        assert!(registry.find(&channel).is_some_and(|crowd| crowd.has(&member)));
        registry.leave(&channel, &port, subscription);
    };
    // Of each crowd the next item; `None` while a step of it is being handed out.
    let next: Mutex<HashMap<usize, Option<u64>>> = Mutex::default();
    let hand_out = |crowd: &Arc<Crowd>| {
        let key = Arc::as_ptr(crowd).addr();
        while let Some(Step { items, first, .. }) = registry.take(crowd) {
            let expected = next.lock().insert(key, None);
            assert!(expected.is_none_or(|expected| expected == Some(first)), "{expected:?} {first}");
            let Items::Lost(_) = items else { panic!("{items:?}") };
            std::thread::yield_now();
            next.lock().insert(key, Some(first + 1));
        }
    };
    let seen = AtomicUsize::new(0);
    let is_over = || seen.load(Ordering::Acquire) >= CROWDS;
    let publish = || {
        let mut crowds = Vec::new();
        while !is_over() {
            let Some(crowd) = registry.find(&channel) else { continue };
            if crowd.put(Item::Lost(None)).is_some() {
                hand_out(&crowd);
            }
            // With something pending it never goes: another time for the next one.
            while !is_over() && registry.find(&channel).is_some_and(|found| Arc::ptr_eq(&found, &crowd)) {
                std::thread::yield_now();
            }
            // Kept, so that no other comes to lie at the same address.
            crowds.push(crowd);
            seen.fetch_add(1, Ordering::AcqRel);
        }
        crowds
    };
    std::thread::scope(|scope| {
        let publishers = [scope.spawn(publish), scope.spawn(publish)];
        (0..).take_while(|_| !is_over()).for_each(live);
        publishers.into_iter().for_each(|publisher| drop(publisher.join().unwrap()));
    });
    assert_eq!(registry.len(), 0);
}

/// The same alone, in a crowd, and beside 10,000 other channels, by a margin that no noise reaches and no search stays within.
#[test]
fn joining_and_leaving_do_not_depend_on_the_crowd() {
    let pairs = |crowd: u32, channels: u32| {
        let (registry, rule, port) = (Registry::new(), rule(), port());
        let channel = ChannelName::new("a").unwrap();
        let join = |channel: &ChannelName, number| registry.join(channel, &rule, Member::new(Arc::clone(&port), SubscriptionId(number)));
        (0..crowd).for_each(|number| drop(join(&channel, number)));
        (0..channels).for_each(|number| drop(join(&ChannelName::new(&format!("c{number}")).unwrap(), 0)));
        // The least of several: what else the machine does only adds.
        let rounds = (0..5).map(|_| {
            let begun = std::time::Instant::now();
            for number in 0..5_000 {
                join(&channel, crowd + number);
                registry.leave(&channel, &port, SubscriptionId(crowd + number));
            }
            begun.elapsed().as_nanos() / 5_000
        });
        rounds.min().unwrap()
    };
    let (alone, crowd, channels) = (pairs(1, 0), pairs(19_000, 0), pairs(1, 10_000));
    println!("subscribe and unsubscribe: {alone} ns alone, {crowd} ns among 19,000, {channels} ns beside 10,000 channels");
    assert!(crowd.max(channels) < 20 * alone.max(100), "{alone} {crowd} {channels}");
}

/// 20,000 leave while fan-outs go on: linear, where a search of the list each time would take minutes.
#[test]
fn a_mass_exodus_is_linear() {
    let (registry, rule, port) = (Registry::new(), rule(), port());
    let channel = ChannelName::new("a").unwrap();
    for number in 0..20_000 {
        registry.join(&channel, &rule, Member::new(Arc::clone(&port), SubscriptionId(number)));
    }
    let begun = std::time::Instant::now();
    for number in 0..20_000 {
        let fan_out = (number % 100 == 0).then(|| registry.members(&channel));
        registry.leave(&channel, &port, SubscriptionId(number));
        drop(fan_out);
    }
    assert!(!registry.has_members(&channel));
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
}
