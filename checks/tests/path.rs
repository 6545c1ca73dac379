//! The way between client and server: peers that vanish, proxies that cut what looks idle, paths that are slow or stutter.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bench::measure::{rest, subscribed};
use bench::{Swarm, Target};
use checks::chaos::{Chaos, Unkindness};
use checks::gateway::Setup;
use checks::subscriber::Witness;
use checks::verdict::{judge, summary};
use checks::{Gateway, has, http, measured, namespace, one_of_three, proxies, skip, wait_until};

const CUT_OFF: usize = 200;
const HEALTHY: usize = 50;

#[test]
fn half_open_peers_are_found_and_live_ones_kept() {
    if namespace::entered("half_open_peers_are_found_and_live_ones_kept") {
        let setup = Gateway::setup().set("heartbeat.ping", "1s").set("limits.close", "1s");
        let once = || half_open(&setup, Duration::from_secs(1), Duration::from_secs(1));
        one_of_three("the bound is 2.5 ping intervals, the close deadline and half a second", once);
    }
}

#[test]
#[ignore = "long: 95 s, the default heartbeat"]
fn half_open_peers_are_found_with_the_defaults() {
    if namespace::entered("half_open_peers_are_found_with_the_defaults") {
        half_open(&Gateway::setup(), Duration::from_secs(25), Duration::from_secs(5)).expect("all within the bound");
    }
}

/// 200 clients are cut off by dropped packets, 50 are not. How long it took until all were found, if that is too long.
fn half_open(setup: &Setup, ping: Duration, close: Duration) -> Result<(), Duration> {
    let (gateway, bound) = (setup.clone().start(), ping.mul_f64(2.5) + close);
    let cut_off = subscribed(&gateway.target("event:a"), CUT_OFF, &mut ()).expect("subscribers");
    let from_elsewhere = Target { sources: 0, ..gateway.target("event:a") };
    let mut healthy = subscribed(&from_elsewhere, HEALTHY, &mut ()).expect("subscribers");
    let files = gateway.process().open_files().expect("open files");
    assert_eq!(gateway.metric("tidegate_connections_open"), (CUT_OFF + HEALTHY) as f64);

    namespace::cut_off("127.0.1.0/24");
    let (started, limit) = (Instant::now(), bound * 3);
    while gateway.metric("tidegate_connections_open") > HEALTHY as f64 && started.elapsed() < limit {
        healthy.turn(Duration::from_millis(20), &mut ()).expect("a turn");
    }
    let took = started.elapsed();
    rest(&mut healthy, ping, &mut ()).expect("a turn");

    let counted = gateway.metric("tidegate_heartbeat_timeout_close_total");
    let freed = files.saturating_sub(gateway.process().open_files().expect("open files"));
    measured(
        "half-open peers",
        &format!(
            "{CUT_OFF} freed after {:.1} s (bound {:.1} s), {counted} counted, {freed} files freed",
            took.as_secs_f64(),
            bound.as_secs_f64()
        ),
    );
    assert_eq!(counted, CUT_OFF as f64, "each is counted with its cause");
    assert!(freed + 5 >= CUT_OFF, "their file descriptors are freed"); // the count itself comes over a connection or two
    assert_eq!(healthy.ready(), HEALTHY, "nobody else is harmed: {:?}", healthy.ends());
    namespace::let_through("127.0.1.0/24");
    drop(cut_off);
    if took <= bound + Duration::from_millis(500) { Ok(()) } else { Err(took) }
}

#[test]
fn idle_connections_stay_behind_proxies_that_cut_idle_ones() {
    let gateway = Gateway::setup().set("heartbeat.ping", "1s").start();
    behind_proxies(&gateway, "3s", Duration::from_secs(12));
}

#[test]
#[ignore = "long: 5 min, idle behind two proxies"]
fn idle_connections_stay_behind_proxies_with_the_defaults() {
    behind_proxies(&Gateway::setup().start(), "60s", Duration::from_secs(300));
}

/// The same proxies do cut when the gateway pings too seldom: what keeps connections is the ping, not the set-up.
#[test]
fn without_pings_in_time_the_proxies_do_cut() {
    let gateway = Gateway::setup().set("heartbeat.ping", "30s").start();
    for (proxy, name) in started(&gateway, "2s") {
        let mut swarm = subscribed(&through(&gateway, proxy.address), 5, &mut ()).expect("subscribers");
        rest(&mut swarm, Duration::from_secs(5), &mut ()).expect("turns");
        assert_eq!(swarm.ended(), 5, "{name} was meant to cut them");
    }
}

fn behind_proxies(gateway: &Gateway, idle: &str, time: Duration) {
    let running = started(gateway, idle);
    let mut swarms: Vec<Swarm> =
        running.iter().map(|(proxy, _)| subscribed(&through(gateway, proxy.address), 20, &mut ()).expect("subscribers")).collect();
    let end = Instant::now() + time;
    while Instant::now() < end {
        for swarm in &mut swarms {
            swarm.turn(Duration::from_millis(20), &mut ()).expect("a turn");
        }
    }
    for ((_, name), swarm) in running.iter().zip(&swarms) {
        measured("idle behind a proxy", &format!("{name}, limit {idle}: {} of 20 cut in {} s", swarm.ended(), time.as_secs()));
        assert_eq!((swarm.ready(), swarm.ended()), (20, 0), "{name}: {:?}", swarm.ends());
    }
}

fn started(gateway: &Gateway, idle: &str) -> Vec<(proxies::Proxy, &'static str)> {
    let mut running = Vec::new();
    for name in ["nginx", "haproxy"] {
        match name {
            _ if !has(name) => skip("idle behind a proxy", &format!("{name} is not installed")),
            "nginx" => running.push((proxies::nginx(gateway.public, idle), name)),
            _ => running.push((proxies::haproxy(gateway.public, gateway.internal, idle), name)),
        }
    }
    running
}

fn through(gateway: &Gateway, address: SocketAddr) -> Target {
    Target { address, sources: 0, ..gateway.target("event:a") }
}

/// New clients go to a gateway as long as its health check says so; those that it has stay until it moves them itself.
#[test]
fn haproxy_sends_nobody_to_a_gateway_that_drains() {
    if !has("haproxy") {
        return skip("HAProxy's health check", "haproxy is not installed");
    }
    let gateway = Gateway::setup().set("drain.announce", "60s").set("drain.deadline", "120s").start();
    let proxy = proxies::haproxy(gateway.public, gateway.internal, "60s");
    let status = || http::call(proxy.address, "GET", "/ws", "").map(|(status, _)| status).ok();
    let mut there = subscribed(&through(&gateway, proxy.address), 5, &mut ()).expect("subscribers");
    rest(&mut there, Duration::from_secs(4), &mut ()).expect("turns"); // two checks that failed would have shown by then
    assert_eq!(status(), Some(426), "the gateway itself answers: this is no upgrade");

    gateway.signal("TERM");
    let noticed = wait_until(Duration::from_secs(10), || status() == Some(503));
    measured("health check", &format!("HAProxy sends nobody to a draining gateway after {noticed:?}"));
    assert!(noticed.is_some_and(|after| after < Duration::from_secs(5)), "as long as a gateway announces its drain by default");
    assert_eq!(http::call(gateway.public, "GET", "/ws", "").map(|(status, _)| status).ok(), Some(426), "it does accept still");
    rest(&mut there, Duration::from_secs(1), &mut ()).expect("turns");
    assert_eq!(there.ready(), 5, "those that were there stay: {:?}", there.ends());
}

#[test]
fn nginx_keeps_tickets_out_of_its_log() {
    if !has("nginx") {
        return skip("nginx's log", "nginx is not installed");
    }
    let gateway = Gateway::setup().start();
    let proxy = proxies::nginx(gateway.public, "60s");
    let (status, _) = http::call(proxy.address, "GET", "/ws?ticket=canary-ticket", "").expect("an answer");
    assert_eq!(status, 426, "the gateway itself answers: this is no upgrade");
    assert!(wait_until(Duration::from_secs(5), || proxy.access_log().contains("\"GET /ws\" 426")).is_some(), "{}", proxy.access_log());
    assert!(!proxy.access_log().contains("canary"), "{}", proxy.access_log());
}

#[test]
fn slow_and_stuttering_paths_are_not_taken_for_dead() {
    // Who answers nothing for 2.5 pings is dead. A ping may fall due just before bytes stand still, so there are up to 4 s between two
    // answers, and a second is left for a machine that is busy.
    let gateway = Gateway::setup().set("heartbeat.ping", "2s").start();
    let stall = Duration::from_secs(2);
    let delayed = Unkindness { delay: Duration::from_millis(150), jitter: Duration::from_millis(300), drip: false };
    let dripping = Unkindness { drip: true, ..Unkindness::default() };
    for (what, unkindness, stall) in
        [("delayed", delayed, None), ("dripping", dripping, None), ("stalling 2 s", Unkindness::default(), Some(stall))]
    {
        let chaos = Chaos::start(gateway.public, unkindness);
        let target = Target { channel: "log:chaos".to_owned(), ..through(&gateway, chaos.address) };
        let mut witness = Witness::default();
        let mut swarm = subscribed(&target, 20, &mut witness).expect("subscribers");
        swarm.add_publisher().expect("a publisher");
        let (started, mut next_stall) = (Instant::now(), Duration::ZERO);
        while started.elapsed() < Duration::from_secs(12) {
            witness.publish(&mut swarm, 0, what, 50);
            if let Some(stall) = stall.filter(|_| started.elapsed() >= next_stall) {
                chaos.stall_for(stall);
                next_stall = started.elapsed() + stall + Duration::from_millis(2500);
            }
            rest(&mut swarm, Duration::from_millis(200), &mut witness).expect("turns");
        }
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end && !witness.all_seen(0..20) {
            rest(&mut swarm, Duration::from_millis(200), &mut witness).expect("turns");
        }
        rest(&mut swarm, Duration::from_secs(2), &mut witness).expect("turns");
        let faults = judge(&witness.history, &[]);
        measured(
            "unkind path",
            &format!("{what}: {} of 20 cut, {} published, {}", swarm.ended(), witness.acknowledged(), summary(&faults)),
        );
        assert!(swarm.ready() == 20 && faults.is_empty(), "{what}: {:?}", swarm.ends());
        assert!(witness.acknowledged() > 20, "publishing went on");
    }
    assert_eq!(gateway.metric("tidegate_heartbeat_timeout_close_total"), 0.0);
    assert!(wait_until(Duration::from_secs(5), || gateway.metric("tidegate_connections_open") == 0.0).is_some(), "all are gone at the end");
}
