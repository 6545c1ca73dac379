//! Slow and stopped readers: what they cost, that only they pay, and that a log loses nothing on them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bench::measure::{make_ready, rest, stall};
use bench::peer::Options;
use bench::process::kernel_bytes;
use bench::{End, State, Swarm, Target, frames};
use checks::gateway::Program;
use checks::subscriber::Witness;
use checks::verdict::{judge, summary};
use checks::{Gateway, measured, one_of_three, pin_to_load_core};

#[test]
fn stalled_subscribers_hurt_only_themselves() {
    stalled(stall::Stall { subscribers: 1000, stalled: 100, pad: 1024, per_second: 20.0, time: Duration::from_secs(8) });
}

#[test]
#[ignore = "long: 42 s, 5,000 subscribers"]
fn a_thousand_stalled_subscribers_hurt_only_themselves() {
    stalled(stall::Stall { subscribers: 5000, stalled: 1000, pad: 1024, per_second: 20.0, time: Duration::from_secs(20) });
}

fn stalled(what: stall::Stall) {
    pin_to_load_core();
    one_of_three("healthy subscribers were hurt", || {
        let gateway = Gateway::setup().pinned().start();
        let found = stall::run(&gateway.target("event:stall"), gateway.process(), what).expect("a measure");
        measured("stalled subscribers", &stall::report(what, &found).line());
        // Messages are shared: what piles up is counted once, plus bookkeeping for each connection that is behind.
        let budget_kib = 64 * 1024;
        assert!(found.growth_kib <= budget_kib, "memory grew by {} KiB", found.growth_kib);
        // The quantiles come from one process that reads for thousands: below 10 ms their ratio says nothing.
        if found.p99_stalled_ms <= found.p99_before_ms * 1.2 + 10.0 { Ok(()) } else { Err(found) }
    });
}

#[test]
fn a_reader_with_a_closed_window_is_cut_at_the_stall_deadline() {
    one_of_three("stall deadline and close deadline are 3 s", || {
        let took = closed_window();
        if (1.5..=4.0).contains(&took) { Ok(()) } else { Err(took) }
    });
}

/// How long a reader was left whose window is closed, in seconds.
fn closed_window() -> f64 {
    let gateway = Gateway::setup().set("outbox.stall", "2s").set("limits.close", "1s").start();
    let target = Target { sources: 1, ..gateway.target("log:window") };
    let mut witness = Witness::default();
    let mut swarm = Swarm::new(target.clone()).expect("a swarm");
    swarm.add(1, Options { receive_buffer: Some(4096), stalls: true });
    make_ready(&mut swarm, 1, &mut witness).expect("a subscriber");
    swarm.add_publisher().expect("a publisher");
    let client = swarm.local_address(0).expect("an address");

    let started = Instant::now();
    let (mut arrived, mut progress) = (0, Instant::now());
    let mut highest = 0;
    while gateway.metric("tidegate_connections_open") > 0.0 {
        assert!(started.elapsed() < Duration::from_secs(30), "it was not cut within 30 s");
        for _ in 0..20 {
            witness.publish(&mut swarm, 0, "w", 1024);
        }
        rest(&mut swarm, Duration::from_millis(50), &mut witness).expect("turns");
        let now = kernel_bytes(client, target.address).expect("the kernel's table");
        highest = now.server_send.max(highest);
        // What has arrived at the client only grows until its window is closed.
        if now.client_receive > arrived {
            (arrived, progress) = (now.client_receive, Instant::now());
        }
    }
    let took = progress.elapsed().as_secs_f64();
    let high_water = gateway.metric("tidegate_buffered_amount_high_water_bytes");
    measured(
        "closed window",
        &format!(
            "freed {took:.2} s after the last byte moved (stall 2 s, close 1 s), {highest} B hidden in the kernel, outbox at most {high_water} B"
        ),
    );
    assert!(highest <= 64 * 1024, "bytes hide in the kernel");
    assert!(high_water <= 512.0 * 1024.0, "the outbox keeps to its limit");
    took
}

#[test]
fn a_log_serves_slow_readers_at_their_pace() {
    slow_readers(Duration::from_secs(12), Duration::from_secs(4), "6s");
}

#[test]
#[ignore = "long: 63 s"]
fn a_log_serves_slow_readers_at_their_pace_with_the_defaults() {
    slow_readers(Duration::from_secs(60), Duration::from_secs(20), "30s");
}

/// 500 messages a second; one reads at a tenth of that, one stops for a while, one stops for good, is cut, and comes back.
fn slow_readers(time: Duration, pause: Duration, stall: &str) {
    let gateway = Gateway::setup().set("outbox.stall", stall).set("limits.close", "1s").start();
    let target = gateway.target("log:slow");
    let mut seen = Witness::default();
    let mut swarm = Swarm::new(target.clone()).expect("a swarm");
    let [healthy, slow, pausing, stopped] = [0, 1, 2, 3];
    swarm.add(4, Options { receive_buffer: Some(8192), stalls: false });
    make_ready(&mut swarm, 4, &mut seen).expect("subscribers");
    (0..8).for_each(|_| swarm.add_publisher().expect("a publisher"));
    [slow, pausing, stopped].into_iter().for_each(|peer| swarm.stall(peer));

    let rss = gateway.process().rss_kib().expect("memory");
    let (started, mut highest) = (Instant::now(), rss);
    let mut published = 0;
    while started.elapsed() < time {
        while f64::from(published) < started.elapsed().as_secs_f64() * 500.0 {
            seen.publish(&mut swarm, published as usize % 8, "m", 400);
            published += 1;
        }
        rest(&mut swarm, Duration::from_millis(50), &mut seen).expect("turns");
        swarm.sip(slow, 50 * 500 / 20, &mut seen);
        if started.elapsed() > pause {
            swarm.resume(pausing, &mut seen);
        }
        highest = highest.max(gateway.process().rss_kib().expect("memory"));
    }
    swarm.resume(slow, &mut seen);
    swarm.resume(stopped, &mut seen);
    let reached = |seen: &Witness, peer| seen.reached.get(&peer).copied().unwrap_or(0);
    let caught_up = |seen: &Witness| [slow, pausing].iter().all(|peer| reached(seen, *peer) == reached(seen, healthy));
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end && !(seen.acknowledged() >= published as usize && caught_up(&seen)) {
        rest(&mut swarm, Duration::from_millis(50), &mut seen).expect("turns");
    }
    let cut = seen.ends.get(&stopped).copied();
    let came_back = come_back(&target, &seen, stopped);
    seen.history.extend(came_back);

    let faults = judge(&seen.history, &[]);
    let (growth, high_water) = (highest - rss, gateway.metric("tidegate_buffered_amount_high_water_bytes"));
    measured(
        "slow readers of a log",
        &format!(
            "{} acknowledged, outbox at most {high_water} B, memory with the log's +{growth} KiB, the stopped one ended {cut:?}, {}",
            seen.acknowledged(),
            summary(&faults)
        ),
    );
    assert!(faults.is_empty(), "every reader saw everything, once and in order");
    assert!(high_water <= 512.0 * 1024.0, "being behind costs a cursor and no more than the outbox");
    assert_eq!(seen.refusals, [], "nothing was refused");
    for peer in [healthy, slow, pausing] {
        assert_eq!(swarm.state(peer), State::Ready, "a slow reader is served on the same connection");
    }
    assert!(matches!(cut, Some(End::Closed(4103) | End::Cut)), "the stopped one was cut: {cut:?}");
}

/// The stopped reader connects again and resumes from its cursor; what it sees then.
fn come_back(target: &Target, seen: &Witness, stopped: usize) -> Vec<checks::verdict::Op> {
    let subscribe = seen.resume_after(stopped, &target.channel);
    let mut witness = Witness::default();
    witness.name(0, &format!("s{stopped}"));
    let mut swarm = Swarm::new(Target { subscribe, ..target.clone() }).expect("a swarm");
    swarm.add(1, Options::default());
    make_ready(&mut swarm, 1, &mut witness).expect("it comes back");
    rest(&mut swarm, Duration::from_secs(1), &mut witness).expect("turns");
    witness.history
}

/// A peer that sends 120 MB to an echo and never reads: TCP has to carry the pressure back.
#[test]
fn an_echo_that_is_never_read_stays_within_its_outbox() {
    let echo = Program::start("guarded-echo", &[]);
    // Each thread has a buffer to read into, which is no connection's.
    for _ in 0..16 {
        let mut warm = upgraded(&echo);
        warm.write_all(&message(60_000)).expect("a message");
        warm.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        warm.read_exact(&mut vec![0; 60_004]).expect("its echo");
    }

    let rss = echo.process().rss_kib().expect("memory");
    let mut stream = upgraded(&echo);
    stream.set_write_timeout(Some(Duration::from_secs(2))).expect("a timeout");
    let one = message(60_000);
    let sent = (0..2000).take_while(|_| stream.write_all(&one).is_ok()).count();
    let growth = echo.process().peak_rss_kib().expect("memory").saturating_sub(rss);
    measured("echo that is never read", &format!("stopped after {sent} of 2000 x 60 kB, memory +{growth} KiB"));
    assert!(sent < 1000, "the pressure never reached the sender");
    assert!(growth <= 512 + 64, "memory beyond the outbox and 64 KiB");
}

fn upgraded(echo: &Program) -> TcpStream {
    let mut stream = TcpStream::connect(echo.address).expect("a connection");
    let target = Target { path: "/".to_owned(), ..Target::tidegate(echo.address, echo.address, "") };
    stream.write_all(target.upgrade(0).as_bytes()).expect("a request");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        head.extend_from_slice(&byte);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    stream
}

fn message(bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    frames::append(&mut out, frames::BINARY, &vec![b'z'; bytes]);
    out
}
