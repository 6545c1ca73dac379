//! Starting, running out of things, and leaving: what a connection costs, too many of them, and a drain.

use std::time::{Duration, Instant};

use bench::measure::drain::{self, Drained, busiest_second};
use bench::measure::{rest, subscribed};
use bench::peer::Options;
use bench::{End, Swarm};
use checks::{Gateway, has, measured, skip, wait_until};

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
    (0..300).for_each(|peer| swarm.abort(peer));
    drop(swarm);

    let started = Instant::now();
    let mut later = Swarm::new(gateway.target("event:files")).expect("a swarm");
    later.add(20, Options::default());
    let recovered = later.run_until(Duration::from_secs(10), &mut (), |swarm| swarm.ready() == 20).expect("turns");
    measured(
        "out of file descriptors",
        &format!("{full} of 300 admitted, {spent:.2} CPU-s in 2 s while full, served again after {:.2} s", started.elapsed().as_secs_f64()),
    );
    assert!((20..120).contains(&full), "it served up to the limit");
    assert!(spent < 1.0, "the accept loop spins");
    assert!(recovered, "{} of 20 ready, {:?}", later.ready(), later.ends());
}

/// A drain that fits into seconds: announce 1 s, window 5 s, grace 2 s.
fn draining(deadline: &str) -> Gateway {
    let setup = Gateway::setup().set("drain.announce", "1s").set("drain.window", "5s").set("drain.grace", "2s");
    setup.set("limits.close", "1s").set("drain.deadline", deadline).start()
}

fn drained(gateway: &mut Gateway, connections: usize, unresponsive: usize) -> (Drained, Option<i32>) {
    let target = gateway.target("event:drain");
    let drained = drain::run(&target, gateway.process(), connections, unresponsive, Duration::from_secs(90)).expect("a drain");
    let status = gateway.try_wait();
    measured("drain", &format!("{} exit {status:?}", drain::report(connections, &drained).line()));
    (drained, status.and_then(|status| status.code()))
}

#[test]
fn a_drain_is_even_and_ends_with_zero() {
    const CONNECTIONS: usize = 1000;
    let (mut found, status) = drained(&mut draining("20s"), CONNECTIONS, 0);
    assert_eq!(status, Some(0));
    assert_eq!(found.healthy.get(&End::Cut), None, "no 1006");
    assert_eq!(found.healthy.get(&End::Closed(1000)), Some(&CONNECTIONS), "{:?}", found.healthy);
    found.healthy_s.sort_by(f64::total_cmp);
    assert!(found.healthy_s[0] >= 1.0, "nobody is asked to go before the load balancers know");
    assert!(found.healthy_s[CONNECTIONS - 1] <= 6.5, "all are asked within the window");
    let clumping = busiest_second(&found.healthy_s);
    assert!(clumping <= 1.2, "the busiest second holds {clumping} times the mean");
}

#[test]
fn unresponsive_clients_hold_up_nobody() {
    let (found, status) = drained(&mut draining("20s"), 1000, 10);
    assert_eq!(status, Some(0), "the last socket is gone before the deadline");
    assert_eq!(found.healthy.get(&End::Closed(1000)), Some(&990), "{:?}", found.healthy);
    assert!(found.healthy_s.iter().all(|at| *at <= 6.5), "nobody else waits");
    // The last slot at 6 s, its grace of 2 s, its close deadline of 1 s.
    assert!(found.gone_s.is_some_and(|at| at <= 10.0), "it ends at their deadline: {:?}", found.gone_s);
}

#[test]
fn at_the_deadline_what_is_left_is_cut_and_the_status_says_so() {
    let (found, status) = drained(&mut draining("7s"), 200, 10);
    assert_eq!(status, Some(3));
    assert!(found.gone_s.is_some_and(|at| (6.5..=8.5).contains(&at)), "{:?}", found.gone_s);
}

#[test]
#[ignore = "long: a drain with the defaults, 40 s"]
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
    let mut gateway = draining("60s");
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
