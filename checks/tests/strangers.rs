//! Peers that mean ill or nothing: silent and dripping handshakes, floods, bombs. They cost little, and others don't notice.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use bench::measure::subscribed;
use bench::measure::traffic::{Deliveries, Pace, publish};
use bench::peer::{Options, open_socket};
use bench::{Histogram, State, Swarm, Target, frames};
use checks::tls::Certificate;
use checks::{Gateway, has, measured, pin_to_load_core, skip};
use flate2::{Compress, Compression, FlushCompress};

/// A third says nothing, a third drips its request, a third begins TLS; meanwhile honest clients come and go.
#[test]
fn three_thousand_silent_and_dripping_peers_are_gone_in_time() {
    const COUNT: usize = 3000;
    pin_to_load_core();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plain = Gateway::setup().pinned().start();
    let secure = has("openssl").then(|| Certificate::make(folder.path()).given_to(Gateway::setup().pinned()).start());
    if secure.is_none() {
        skip("unfinished TLS handshakes", "openssl is not installed");
    }
    let mut peers = Vec::new();
    for number in 0..COUNT {
        let (address, drip): (SocketAddr, &[u8]) = match (number % 3, &secure) {
            (0, _) => (plain.public, b""),
            (1, Some(secure)) => (secure.public, &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
            _ => (plain.public, b"GET /ws HTTP/1.1\r\nHost: x\r\nX-A: b\r\nX-B: c\r\n"),
        };
        let source = SocketAddr::from(([127, 0, 2, 1 + (number % 200) as u8], 0));
        peers.push(Stranger {
            stream: open_socket(address, Some(source), None).expect("a socket"),
            since: Instant::now(),
            drip: drip.to_vec(),
            sent: 0,
        });
        if number % 50 == 49 {
            std::thread::sleep(Duration::from_millis(5)); // stays within the listener's backlog
        }
    }
    let mut honest = Honest::new(&plain);
    let (started, mut longest, mut last_drip) = (Instant::now(), Duration::ZERO, Instant::now());
    while !peers.is_empty() && started.elapsed() < Duration::from_secs(20) {
        let drips = last_drip.elapsed() >= Duration::from_millis(500);
        if drips {
            last_drip = Instant::now();
        }
        peers.retain_mut(|peer| {
            let there = peer.is_there(drips);
            longest = if there { longest } else { longest.max(peer.since.elapsed()) };
            there
        });
        honest.turn();
    }
    let p99 = honest.latency.quantile_ms(0.99);
    measured(
        "unfinished handshakes",
        &format!(
            "{COUNT} gone after at most {:.2} s, {} left, honest p99 {p99:.1} ms of {}",
            longest.as_secs_f64(),
            peers.len(),
            honest.latency.len()
        ),
    );
    assert_eq!(peers.len(), 0, "some are never gone");
    assert!(longest <= Duration::from_secs(11), "the whole upgrade has 10 s");
    assert!(honest.latency.len() > 50 && p99 <= 250.0, "honest handshakes suffer");
}

struct Stranger {
    stream: mio::net::TcpStream,
    since: Instant,
    drip: Vec<u8>,
    sent: usize,
}

impl Stranger {
    fn is_there(&mut self, drips: bool) -> bool {
        if drips && self.sent < self.drip.len() && self.stream.write(&self.drip[self.sent..=self.sent]).is_ok() {
            self.sent += 1;
        }
        let mut bytes = [0; 512];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return false,
                Ok(_) => {} // a refusal in words comes before the end
                Err(e) => return matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected),
            }
        }
    }
}

/// One honest client after the other, each measured from connecting to being welcome.
struct Honest {
    swarm: Swarm,
    current: usize,
    since: Instant,
    latency: Histogram,
}

impl Honest {
    fn new(gateway: &Gateway) -> Self {
        let target = Target { subscribe: String::new(), ..gateway.target("") };
        let mut swarm = Swarm::new(target).expect("a swarm");
        swarm.add(1, Options::default());
        Self { swarm, current: 0, since: Instant::now(), latency: Histogram::default() }
    }

    fn turn(&mut self) {
        self.swarm.turn(Duration::from_millis(5), &mut ()).expect("a turn");
        match self.swarm.state(self.current) {
            State::Ready => {
                self.latency.record(self.since.elapsed().as_micros() as u64);
                self.swarm.send_close(self.current, 1000);
            }
            State::Ended(end) => panic!("an honest client was turned away: {end:?}"),
            _ => return,
        }
        self.current += 1;
        self.swarm.add(1, Options::default());
        self.since = Instant::now();
    }
}

const ATTACKERS: usize = 100;

#[test]
fn floods_and_bombs_cost_little_and_others_do_not_notice() {
    pin_to_load_core();
    let gateway = Gateway::setup().pinned().start();
    for (what, opening, repeated) in [
        ("unfinished fragments", fragment(frames::TEXT, false, b"a"), fragment(0, false, b"a").repeat(2000)),
        ("empty fragments", fragment(frames::TEXT, false, b""), fragment(0, false, b"").repeat(2000)),
        ("pings", Vec::new(), fragment(frames::PING, true, &[b'p'; 125]).repeat(500)),
        ("empty messages", Vec::new(), fragment(frames::TEXT, true, b"").repeat(2000)),
    ] {
        attack(&gateway, what, "", &opening, &repeated, 20);
    }
    let bomb = bomb();
    let deflate = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    attack(&gateway, "256 MiB in 260 kB", deflate, &bomb, &[], 0);
    attack(&gateway, "256 MiB in 260 kB, not negotiated", "", &bomb, &[], 0);
}

/// A hundred attackers send `opening`, then `repeated` so many times, and read nothing; a hundred others receive 20 messages a second.
fn attack(gateway: &Gateway, what: &str, headers: &str, opening: &[u8], repeated: &[u8], times: usize) {
    const TIME: Duration = Duration::from_secs(2);
    let mut sink = Deliveries::new(1, 0);
    let mut honest = subscribed(&Target { sources: 0, ..gateway.target("event:honest") }, 100, &mut sink).expect("subscribers");
    honest.add_publisher().expect("a publisher");
    let pace = Pace::PerSecond(20.0);
    publish(&mut honest, &mut sink, pace, 105, 100, Duration::from_secs(1)).expect("turns");
    sink.reset();
    publish(&mut honest, &mut sink, pace, 105, 100, TIME).expect("turns");
    let before = sink.latency.quantile_ms(0.99);

    let target = Target { subscribe: String::new(), headers: headers.to_owned(), ..gateway.target("") };
    let mut attackers = subscribed(&target, ATTACKERS, &mut ()).expect("attackers");
    let (rss, started) = (gateway.process().rss_kib().expect("memory"), Instant::now());
    let mut highest = rss;
    sink.reset();
    // The attackers have a thread of their own: the honest clients' latency must not be that of the test.
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..=times {
                for peer in 0..ATTACKERS {
                    attackers.send_raw(peer, if round == 0 { opening } else { repeated });
                    attackers.stall(peer);
                }
                attackers.turn(Duration::ZERO, &mut ()).expect("a turn");
                thread::sleep(TIME / 20);
            }
        });
        while started.elapsed() < TIME {
            publish(&mut honest, &mut sink, pace, 105, 100, Duration::from_millis(500)).expect("turns");
            highest = highest.max(gateway.process().rss_kib().expect("memory"));
        }
    });
    let during = sink.latency.quantile_ms(0.99);
    let growth = highest - rss;
    measured("flood", &format!("{what} x {ATTACKERS}: memory +{growth} KiB, others' p99 {before:.1} ms, then {during:.1} ms"));
    assert!(growth <= 64 * 1024, "{what}: memory");
    // Below 10 ms the ratio of two quantiles on a shared machine says nothing.
    assert!(during <= before * 1.5 + 10.0, "{what}: others notice");
    assert_eq!(honest.ready(), 100, "{what}: {:?}", honest.ends());
    (0..ATTACKERS).for_each(|peer| attackers.abort(peer));
}

/// A masked frame of at most 125 bytes.
fn fragment(opcode: u8, last: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frames::append(&mut frame, opcode, payload);
    frame[0] = if last { frame[0] } else { frame[0] & 0x7f };
    frame
}

/// One compressed message that says 256 MiB of zeros.
fn bomb() -> Vec<u8> {
    let mut compress = Compress::new(Compression::best(), false);
    let (zeros, mut out) = (vec![0; 1 << 20], Vec::with_capacity(1 << 20));
    for _ in 0..256 {
        compress.compress_vec(&zeros, &mut out, FlushCompress::None).expect("room");
    }
    compress.compress_vec(&[], &mut out, FlushCompress::Sync).expect("room");
    out.truncate(out.len() - 4);
    let mut frame = Vec::new();
    frames::append(&mut frame, frames::TEXT, &out);
    frame[0] |= 0x40;
    frame
}
