//! Peers that mean ill or nothing: silent and dripping handshakes, floods, bombs. They cost little, and others don't notice.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use bench::measure::subscribed;
use bench::measure::traffic::{Deliveries, Pace, publish};
use bench::peer::{Options, open_socket};
use bench::{Histogram, Process, State, Swarm, Target, frames};
use checks::tls::Certificate;
use checks::{Gateway, has, measured, one_of_three, pin_to_load_core, skip};
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
    assert!(longest <= Duration::from_secs(14), "the whole upgrade has 10 s");
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

/// A hundred attackers send `opening`, then `repeated` so many times, and read nothing.
struct Attack {
    headers: &'static str,
    opening: Vec<u8>,
    repeated: Vec<u8>,
    times: usize,
}

#[test]
fn floods_and_bombs_cost_little_and_others_do_not_notice() {
    pin_to_load_core();
    let gateway = Gateway::setup().pinned().start();
    // Attackers take time of the machine, whomever they attack. So the same attack goes to another gateway first, on the same core and
    // with no more of it than this one leaves: what is beyond that is what this one does to its own.
    let other = Gateway::setup().pinned().under(&["nice", "-n", "19"]).start();
    let deflate = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let bomb = bomb();
    let mut others = Others::new(&gateway);
    for (what, headers, opening, repeated, times) in [
        ("unfinished fragments", "", fragment(frames::TEXT, false, b"a"), fragment(0, false, b"a").repeat(2000), 20),
        ("empty fragments", "", fragment(frames::TEXT, false, b""), fragment(0, false, b"").repeat(2000), 20),
        ("pings", "", Vec::new(), fragment(frames::PING, true, &[b'p'; 125]).repeat(500), 20),
        ("empty messages", "", Vec::new(), fragment(frames::TEXT, true, b"").repeat(2000), 20),
        ("256 MiB in 260 kB", deflate, bomb.clone(), Vec::new(), 0),
        ("256 MiB in 260 kB, not negotiated", "", bomb, Vec::new(), 0),
    ] {
        let attack = Attack { headers, opening, repeated, times };
        one_of_three(&format!("{what}: others notice"), || {
            let alone = others.p99(TIME);
            let (elsewhere, _) = others.while_attacked(&attack, &other);
            let (here, growth) = others.while_attacked(&attack, &gateway);
            let ratio = here / elsewhere;
            measured(
                "flood",
                &format!(
                    "{what} x {ATTACKERS}: memory +{growth} KiB, others' p99 {alone:.1} ms, another attacked {elsewhere:.1} ms, \
                     this one {here:.1} ms, ratio {ratio:.2}"
                ),
            );
            assert!(growth <= 64 * 1024, "{what}: memory");
            if ratio <= 1.5 { Ok(()) } else { Err(ratio) }
        });
        assert_eq!(others.swarm.ready(), OTHERS as usize, "{what}: {:?}", others.swarm.ends());
    }
}

const OTHERS: u64 = 100;
/// Messages a second; so many that the 99th percentile is more than the one that came at the worst moment.
const RATE: f64 = 100.0;
const TIME: Duration = Duration::from_secs(2);

/// Honest subscribers, and how long messages take to them.
struct Others {
    swarm: Swarm,
    sink: Deliveries,
    gateway: Process,
}

impl Others {
    fn new(gateway: &Gateway) -> Self {
        let target = Target { sources: 0, ..gateway.target("event:honest") };
        let mut sink = Deliveries::new(&target.mark, 1, 0);
        let mut swarm = subscribed(&target, OTHERS as usize, &mut sink).expect("subscribers");
        swarm.add_publisher().expect("a publisher");
        let mut others = Self { swarm, sink, gateway: gateway.process() };
        others.p99(TIME);
        others
    }

    fn publish(&mut self, time: Duration) {
        publish(&mut self.swarm, &mut self.sink, Pace::PerSecond(RATE), 105, OTHERS, time).expect("turns");
    }

    fn p99(&mut self, time: Duration) -> f64 {
        self.sink.reset();
        self.publish(time);
        self.sink.latency.quantile_ms(0.99)
    }

    /// The same while `attacked` is attacked, and by how many KiB the memory of their own gateway grew.
    fn while_attacked(&mut self, attack: &Attack, attacked: &Gateway) -> (f64, u64) {
        let target = Target { subscribe: String::new(), headers: attack.headers.to_owned(), ..attacked.target("") };
        let mut attackers = subscribed(&target, ATTACKERS, &mut ()).expect("attackers");
        let (rss, started) = (self.gateway.rss_kib().expect("memory"), Instant::now());
        let mut highest = rss;
        self.sink.reset();
        // The attackers have a thread of their own, which gives way: the others' latency must not be that of the test.
        thread::scope(|scope| {
            scope.spawn(|| {
                give_way();
                for round in 0..=attack.times {
                    for peer in 0..ATTACKERS {
                        attackers.send_raw(peer, if round == 0 { &attack.opening } else { &attack.repeated });
                        attackers.stall(peer);
                    }
                    attackers.turn(Duration::ZERO, &mut ()).expect("a turn");
                    thread::sleep(TIME / 20);
                }
            });
            while started.elapsed() < TIME {
                self.publish(Duration::from_millis(500));
                highest = highest.max(self.gateway.rss_kib().expect("memory"));
            }
        });
        (0..ATTACKERS).for_each(|peer| attackers.abort(peer));
        (self.sink.latency.quantile_ms(0.99), highest - rss)
    }
}

/// Gives this thread the lowest priority.
fn give_way() {
    let thread = std::fs::read_link("/proc/thread-self").expect("a thread");
    let thread = thread.file_name().expect("its number").to_owned();
    let given = Command::new("renice").args(["-n", "19", "-p"]).arg(thread).output();
    assert!(given.is_ok_and(|output| output.status.success()), "renice could not change this thread");
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
