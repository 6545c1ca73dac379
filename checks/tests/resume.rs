//! Coming back: at the seam between history and live messages, and at the edge of what is retained.

use std::time::{Duration, Instant};

use bench::measure::{make_ready, rest};
use bench::peer::Options;
use bench::{State, Swarm, Target};
use checks::subscriber::Witness;
use checks::verdict::{Op, judge, summary};
use checks::{Gateway, measured};
use serde_json::Value;

/// Ten subscribers that leave without a word and come back by their cursor, over and over, while messages go on.
#[test]
fn ten_thousand_resumes_under_load_neither_lose_nor_double() {
    const RESUMES: usize = 10_000;
    const PER_SECOND: f64 = 5000.0;
    const SUBSCRIBERS: usize = 10;
    const PUBLISHERS: usize = 16;
    /// Publishes that wait for their answers: a machine that stands still owes no heap of messages afterwards.
    const UNDER_WAY: usize = 32;
    let gateway = Gateway::setup().set("broker.durability", "memory").start();
    let channel = "log:seam";
    let mut witness = Witness::default();
    // Each connection subscribes by itself, from its own cursor.
    let mut swarm = Swarm::new(Target { subscribe: String::new(), ..gateway.target(channel) }).expect("a swarm");
    (0..PUBLISHERS).for_each(|_| swarm.add_publisher().expect("a publisher"));
    swarm.add(SUBSCRIBERS, Options::default());
    make_ready(&mut swarm, SUBSCRIBERS, &mut witness).expect("sessions");
    for peer in 0..SUBSCRIBERS {
        swarm.send_text(peer, &format!(r#"{{"type":"subscribe","id":1,"channel":"{channel}"}}"#));
    }
    let mut current: Vec<usize> = (0..SUBSCRIBERS).collect();
    let mut asked = vec![true; SUBSCRIBERS];
    let mut entered = [0; SUBSCRIBERS];
    let (started, mut published, mut opened) = (Instant::now(), 0_u64, SUBSCRIBERS);
    let ask = |swarm: &mut Swarm, witness: &Witness, current: &[usize], asked: &mut [bool]| {
        for (peer, asked) in current.iter().zip(asked) {
            if !*asked && swarm.state(*peer) == State::Ready {
                swarm.send_text(*peer, &witness.resume_after(*peer, channel));
                *asked = true;
            }
        }
    };
    while opened < RESUMES {
        while (published as f64) < started.elapsed().as_secs_f64() * PER_SECOND && witness.unanswered() < UNDER_WAY {
            witness.publish(&mut swarm, published as usize % PUBLISHERS, "m", 20);
            published += 1;
        }
        swarm.turn(Duration::from_millis(1), &mut witness).expect("a turn");
        ask(&mut swarm, &witness, &current, &mut asked);
        for subscriber in 0..SUBSCRIBERS {
            let peer = current[subscriber];
            // It leaves at another moment each time: just live, or some messages later.
            let stays_until = entered[subscriber] + peer as u64 % 5;
            if witness.live.contains(&peer) && witness.reached.get(&peer).is_some_and(|reached| *reached >= stays_until) {
                swarm.abort(peer);
                witness.name(opened, &format!("s{subscriber}"));
                witness.inherit(opened, peer);
                entered[subscriber] = witness.reached[&opened];
                swarm.add(1, Options::default());
                (current[subscriber], asked[subscriber]) = (opened, false);
                opened += 1;
            }
        }
        assert!(started.elapsed() < Duration::from_secs(130), "{opened} of {RESUMES} after 130 s");
    }
    let rate = published as f64 / started.elapsed().as_secs_f64();
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end && !(asked.iter().all(|asked| *asked) && witness.all_seen(current.iter().copied())) {
        swarm.turn(Duration::from_millis(5), &mut witness).expect("a turn");
        ask(&mut swarm, &witness, &current, &mut asked);
    }
    rest(&mut swarm, Duration::from_secs(2), &mut witness).expect("turns");
    let faults = judge(&witness.history, &[]);
    measured(
        "resumes under load",
        &format!("{RESUMES} connections, {} messages acknowledged, {rate:.0} a second, {}", witness.acknowledged(), summary(&faults)),
    );
    assert!(rate >= PER_SECOND / 5.0, "{rate:.0} messages a second are no load: the seam was not tried");
    assert!(faults.is_empty(), "nothing is lost or doubled at the seam");
    assert_eq!(witness.acknowledged() as u64, published);
}

#[test]
fn at_the_edge_of_retention_the_gap_is_exact() {
    const KEPT: u64 = 100;
    let short = format!(
        "[[channel]]\nmatch = \"log:short:*\"\nkind = \"log\"\nretention = {{ messages = {KEPT}, age = \"24h\", bytes = \"64MiB\" }}\n"
    );
    let gateway = Gateway::setup().channels(&short).start();
    let channel = "log:short:1";
    let mut published = Vec::new();
    for number in 1..=KEPT * 5 {
        let body = format!(r#"{{"channel":"{channel}","data":{{"id":"e{number}"}}}}"#);
        let (status, answer) = gateway.call("POST", "/v1/publish", &body).expect("an answer");
        assert_eq!(status, 200, "{answer}");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let (epoch, offset) = (answer["epoch"].as_str().unwrap_or_default().to_owned(), answer["offset"].as_u64().expect("an offset"));
        published.push((epoch, offset, format!("e{number}")));
    }
    let newest = published.last().expect("messages").1;
    let oldest = seen_from(&gateway, channel, r#""earliest""#).iter().find_map(received).expect("a message that is kept");
    assert!(newest - oldest + 1 >= KEPT, "{} of {KEPT} are kept", newest - oldest + 1);

    let epoch = &published[0].0;
    for (cursor, recovered) in [(oldest, true), (oldest - 1, true), (oldest - 2, false), (0, false)] {
        let mut history: Vec<Op> = Vec::new();
        for (epoch, offset, id) in &published {
            history.push(Op::Publish { id: id.clone() });
            history.push(Op::Acknowledge { id: id.clone(), epoch: epoch.clone(), offset: *offset });
        }
        history.push(Op::Start { by: "s0".to_owned(), epoch: epoch.clone(), offset: cursor });
        let seen = seen_from(&gateway, channel, &format!(r#"{{"epoch":"{epoch}","offset":{cursor}}}"#));
        let gaps = seen.iter().filter(|op| matches!(op, Op::Gap { .. })).count();
        history.extend(seen);
        let faults = judge(&history, &["retention"]);
        measured("edge of retention", &format!("oldest {oldest}, cursor {cursor}: {gaps} gaps, {}", summary(&faults)));
        assert!(faults.is_empty(), "cursor {cursor}, oldest {oldest}");
        assert_eq!(gaps == 0, recovered, "cursor {cursor}, oldest {oldest}");
    }
}

/// What one subscriber sees within a second from `since` on.
fn seen_from(gateway: &Gateway, channel: &str, since: &str) -> Vec<Op> {
    let subscribe = format!(r#"{{"type":"subscribe","id":1,"channel":"{channel}","since":{since}}}"#);
    let mut witness = Witness::default();
    let mut swarm = Swarm::new(Target { subscribe, ..gateway.target(channel) }).expect("a swarm");
    swarm.add(1, Options::default());
    make_ready(&mut swarm, 1, &mut witness).expect("a subscriber");
    rest(&mut swarm, Duration::from_millis(500), &mut witness).expect("turns");
    witness.history
}

fn received(op: &Op) -> Option<u64> {
    if let Op::Receive { offset, .. } = op { Some(*offset) } else { None }
}
