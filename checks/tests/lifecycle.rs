//! Starting, running out of things, and leaving: what a connection costs, too many of them, and a drain.

use std::time::{Duration, Instant};

use bench::measure::drain::{self, Drained, busiest_second};
use bench::measure::{rest, subscribed};
use bench::peer::Options;
use bench::{End, Swarm};
use checks::subscriber::Witness;
use checks::tls::Certificate;
use checks::verdict::{judge, summary};
use checks::{Gateway, has, measured, one_of_three, skip, wait_until};

#[test]
fn an_idle_connection_costs_little_memory() {
    const CONNECTIONS: usize = 5000;
    let gateway = Gateway::setup().start();
    let warm = subscribed(&gateway.target("event:idle"), 100, &mut ()).expect("subscribers");
    drop(warm);
    let process = gateway.process();
    assert!(wait_until(Duration::from_secs(5), || gateway.metric("tidegate_connections_open") == 0.0).is_some());
    let rss = process.rss_kib().expect("memory");
    let mut swarm = subscribed(&gateway.target("event:idle"), CONNECTIONS, &mut ()).expect("subscribers");
    rest(&mut swarm, Duration::from_secs(3), &mut ()).expect("turns");
    let each = (process.rss_kib().expect("memory") - rss) as f64 / CONNECTIONS as f64;
    measured("idle memory", &format!("{each:.2} KiB for each of {CONNECTIONS} subscribed connections, {rss} KiB without"));
    assert!(each <= 4.0, "above 4 KiB a connection is a defect");
}

#[test]
fn an_idle_tls_connection_costs_little_memory() {
    const CONNECTIONS: usize = 150; // each client address may have 200
    if !has("openssl") {
        return skip("memory of a TLS connection", "openssl is not installed");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let certificate = Certificate::make(folder.path());
    let gateway = certificate.given_to(Gateway::setup()).start();
    let warm: Vec<_> = (0..20).map(|_| certificate.subscriber(gateway.public, "event:idle")).collect();
    let rss = gateway.process().rss_kib().expect("memory");
    let held: Vec<_> = (0..CONNECTIONS).map(|_| certificate.subscriber(gateway.public, "event:idle")).collect();
    std::thread::sleep(Duration::from_secs(1));
    let each = (gateway.process().rss_kib().expect("memory") - rss) as f64 / CONNECTIONS as f64;
    assert_eq!(gateway.metric("tidegate_connections_open"), (warm.len() + held.len()) as f64);
    measured("idle memory with TLS", &format!("{each:.2} KiB for each of {CONNECTIONS} subscribed connections"));
    assert!(each <= 24.0, "above 24 KiB a TLS connection is a defect");
}

#[test]
fn out_of_file_descriptors_is_survived() {
    if !has("prlimit") {
        return skip("out of file descriptors", "prlimit is not installed");
    }
    let gateway = Gateway::setup().under(&["prlimit", "--nofile=120:120"]).start();
    let mut swarm = Swarm::new(gateway.target("event:files")).expect("a swarm");
    swarm.add(300, Options::default());
    rest(&mut swarm, Duration::from_secs(3), &mut ()).expect("turns");
    let (full, cpu) = (swarm.ready(), gateway.process().cpu_seconds().expect("CPU"));
    rest(&mut swarm, Duration::from_secs(2), &mut ()).expect("turns");
    let spent = gateway.process().cpu_seconds().expect("CPU") - cpu;
    assert!(gateway.process().is_running(), "{}", gateway.log());
    assert!((20..120).contains(&full), "it serves up to the limit: {full}");
    assert!(spent <= 0.2, "the accept loop takes a tenth of a core at most: {spent} s in 2 s");
    assert_eq!(swarm.ready(), full, "those that are in stay: {:?}", swarm.ends());

    let started = Instant::now();
    (0..300).for_each(|peer| swarm.abort(peer));
    drop(swarm);
    // Who comes in the same instant may still be turned away, and comes again as clients do.
    let mut recovered = false;
    while !recovered && started.elapsed() <= Duration::from_secs(10) {
        let mut later = Swarm::new(gateway.target("event:files")).expect("a swarm");
        later.add(20, Options::default());
        recovered = later.run_until(Duration::from_secs(2), &mut (), |swarm| swarm.ready() == 20).expect("turns");
    }
    let took = started.elapsed().as_secs_f64();
    measured(
        "out of file descriptors",
        &format!("{full} of 300 admitted, {spent:.2} CPU-s in 2 s while full, served again after {took:.2} s"),
    );
    assert!(recovered, "not 20 ready after {took} s");
}

#[test]
fn connections_that_are_reset_leave_nothing_behind() {
    churn(5_000);
}

#[test]
#[ignore = "long: 21 s, 200,000 connections"]
fn two_hundred_thousand_resets_leave_nothing_behind() {
    churn(200_000);
}

/// Connects, subscribes and resets, over and over.
fn churn(times: usize) {
    const AT_ONCE: usize = 50;
    let gateway = Gateway::setup().start();
    let wave = || {
        let mut swarm = subscribed(&gateway.target("event:churn"), AT_ONCE, &mut ()).expect("subscribers");
        (0..AT_ONCE).for_each(|peer| swarm.abort(peer));
    };
    let gone = || wait_until(Duration::from_secs(5), || gateway.metric("tidegate_connections_open") == 0.0).is_some();
    (0..20).for_each(|_| wave());
    assert!(gone());
    let (files, rss) = (gateway.process().open_files().expect("files"), gateway.process().rss_kib().expect("memory"));
    (0..times / AT_ONCE).for_each(|_| wave());
    assert!(gone(), "{} connections are counted as open", gateway.metric("tidegate_connections_open"));
    let (files_after, rss_after) = (gateway.process().open_files().expect("files"), gateway.process().rss_kib().expect("memory"));
    measured("resets", &format!("{times}: open files {files}, then {files_after}; memory {rss} KiB, then {rss_after} KiB"));
    assert!(files_after <= files + 5, "file descriptors leak");
    assert!(rss_after <= rss + rss / 10 + 1024, "memory leaks");
}

/// The API answers a publish within 2 s, whatever the answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);

/// A machine that sleeps: the gateway could not read the pongs, so it must not hold their absence against the clients.
#[test]
fn a_frozen_gateway_keeps_its_clients_when_it_thaws() {
    let gateway = Gateway::setup().set("heartbeat.ping", "1s").start();
    let mut witness = Witness::default();
    let mut swarm = subscribed(&gateway.target("log:frozen"), 50, &mut witness).expect("subscribers");
    swarm.add_publisher().expect("a publisher");
    rest(&mut swarm, Duration::from_secs(2), &mut witness).expect("turns");
    gateway.signal("STOP");
    (0..20).for_each(|_| witness.publish(&mut swarm, 0, "f", 50));
    rest(&mut swarm, Duration::from_secs(5), &mut witness).expect("turns");
    gateway.signal("CONT");
    (0..20).for_each(|_| witness.publish(&mut swarm, 0, "g", 50));
    let thawed = Instant::now();
    all_answered(&mut swarm, &mut witness, 40);
    let took = thawed.elapsed();
    // Who is going to be taken for dead is within 2.5 ping intervals and the close deadline.
    rest(&mut swarm, Duration::from_secs(4), &mut witness).expect("turns");
    let faults = judge(&witness.history, &[]);
    measured(
        "frozen for 5 s",
        &format!(
            "{} of 50 cut, {} acknowledged within {:.2} s, refused {:?}, {}",
            swarm.ended(),
            witness.acknowledged(),
            took.as_secs_f64(),
            witness.refusals,
            summary(&faults)
        ),
    );
    assert_eq!(swarm.ready(), 50, "{:?}", swarm.ends());
    assert!(faults.is_empty());
    assert_eq!(witness.refusals, []);
    assert_eq!(witness.acknowledged(), 40);
}

/// A freeze in the middle of publishing: its time is no broker's, and so no reason to say that the broker does not answer.
#[test]
fn publishes_under_way_survive_a_freeze() {
    const PUBLISHERS: usize = 8;
    let gateway = Gateway::setup().start();
    let mut witness = Witness::default();
    let mut swarm = subscribed(&gateway.target("log:frozen"), 10, &mut witness).expect("subscribers");
    (0..PUBLISHERS).for_each(|_| swarm.add_publisher().expect("a publisher"));
    let mut published = 0;
    for _ in 0..3 {
        (0..400).for_each(|number| witness.publish(&mut swarm, number % PUBLISHERS, "m", 50));
        published += 400;
        rest(&mut swarm, Duration::from_millis(5), &mut witness).expect("turns");
        gateway.signal("STOP");
        assert!(witness.acknowledged() < published, "nothing is under way");
        std::thread::sleep(Duration::from_millis(2500));
        gateway.signal("CONT");
        all_answered(&mut swarm, &mut witness, published);
    }
    let faults = judge(&witness.history, &[]);
    measured(
        "frozen while publishing",
        &format!("{} of {published} acknowledged, refused {:?}, {}", witness.acknowledged(), witness.refusals, summary(&faults)),
    );
    assert_eq!(witness.refusals, []);
    assert_eq!(witness.acknowledged(), published);
    assert!(faults.is_empty());
}

/// Turns until each publish has its answer, whatever that is. Those of one connection are synced one after the other, so the disk
/// decides how long this takes; a publish that gets no answer at all is not waited for longer than any gets.
fn all_answered(swarm: &mut Swarm, witness: &mut Witness, published: usize) {
    let mut last = (0, Instant::now());
    loop {
        let answered = witness.acknowledged() + witness.refusals.len();
        if answered > last.0 {
            last = (answered, Instant::now());
        }
        if answered >= published || last.1.elapsed() > ANSWERED_WITHIN {
            return;
        }
        rest(swarm, Duration::from_millis(20), witness).expect("turns");
    }
}

/// A drain that fits into seconds: announce 1 s, grace 2 s, close 1 s.
fn draining(window: &str, deadline: &str) -> Gateway {
    let setup = Gateway::setup().set("drain.announce", "1s").set("drain.window", window).set("drain.grace", "2s");
    setup.set("limits.close", "1s").set("drain.deadline", deadline).start()
}

fn drained(gateway: &mut Gateway, connections: usize, unresponsive: usize) -> (Drained, Option<i32>) {
    let target = gateway.target("event:drain");
    let drained = drain::run(&target, gateway.process(), connections, unresponsive, Duration::from_secs(90)).expect("a drain");
    let mut status = None;
    wait_until(Duration::from_secs(5), || {
        status = gateway.try_wait();
        status.is_some()
    });
    measured("drain", &format!("{} exit {status:?}", drain::report(connections, &drained).line()));
    (drained, status.and_then(|status| status.code()))
}

#[test]
fn a_drain_is_even_and_ends_with_zero() {
    const CONNECTIONS: usize = 1000;
    one_of_three("the last is asked after the window, or the busiest second holds more than 1.2 times the mean", || {
        let (mut found, status) = drained(&mut draining("5s", "20s"), CONNECTIONS, 0);
        assert_eq!(status, Some(0));
        assert_eq!(found.healthy.get(&End::Cut), None, "no 1006");
        assert_eq!(found.healthy.get(&End::Closed(1000)), Some(&CONNECTIONS), "{:?}", found.healthy);
        found.healthy_s.sort_by(f64::total_cmp);
        assert!(found.healthy_s[0] >= 1.0, "nobody is asked to go before the load balancers know");
        let (last, clumping) = (found.healthy_s[CONNECTIONS - 1], busiest_second(&found.healthy_s));
        if last <= 6.5 && clumping <= 1.2 { Ok(()) } else { Err((last, clumping)) }
    });
}

#[test]
fn unresponsive_clients_hold_up_nobody() {
    one_of_three("others wait for them, or they stay beyond their deadline", || {
        let (found, status) = drained(&mut draining("5s", "20s"), 1000, 10);
        assert_eq!(status, Some(0), "the last socket is gone before the deadline");
        assert_eq!(found.healthy.get(&End::Closed(1000)), Some(&990), "{:?}", found.healthy);
        let last = found.healthy_s.iter().copied().fold(0.0, f64::max);
        // The last slot at 6 s, its grace of 2 s, its close deadline of 1 s; the deadline of all would be 20 s.
        if last <= 6.5 && found.gone_s.is_some_and(|at| at <= 10.0) { Ok(()) } else { Err((last, found.gone_s)) }
    });
}

#[test]
fn at_the_deadline_what_is_left_is_cut_and_the_status_says_so() {
    let (found, status) = drained(&mut draining("1s", "3500ms"), 200, 10);
    assert_eq!(status, Some(3));
    assert_eq!(found.healthy.get(&End::Closed(1000)), Some(&190), "{:?}", found.healthy);
    assert!(found.gone_s.is_some_and(|at| (3.4..=5.0).contains(&at)), "{:?}", found.gone_s);
}

#[test]
#[ignore = "long: 40 s, a drain with the defaults"]
fn a_drain_with_the_defaults_is_even() {
    let (mut found, status) = drained(&mut Gateway::setup().start(), 5000, 50);
    assert_eq!(status, Some(0));
    assert_eq!(found.healthy.get(&End::Closed(1000)), Some(&4950), "{:?}", found.healthy);
    found.healthy_s.sort_by(f64::total_cmp);
    assert!(busiest_second(&found.healthy_s) <= 1.2);
    assert!(found.gone_s.is_some_and(|at| at <= 41.0), "{:?}", found.gone_s);
}

#[test]
fn a_second_signal_skips_to_the_end() {
    let mut gateway = draining("5s", "60s");
    let swarm = subscribed(&gateway.target("event:drain"), 20, &mut ()).expect("subscribers");
    gateway.signal("TERM");
    std::thread::sleep(Duration::from_millis(300));
    gateway.signal("TERM");
    let mut status = None;
    let took = wait_until(Duration::from_secs(5), || {
        status = gateway.try_wait();
        status.is_some()
    });
    measured("second signal", &format!("gone after {took:?} with {status:?}"));
    assert_eq!(status.and_then(|status| status.code()), Some(3), "connections were cut");
    drop(swarm);
}
