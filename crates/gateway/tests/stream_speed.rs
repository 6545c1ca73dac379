//! How fast a stream of lines is published over HTTP and synced, beside a bare program in the same run: it reads the same lines from a
//! socket, appends records as large as the log's to a file, syncs them in groups, and answers each line, with as many lines unanswered
//! at once. It knows no HTTP, no JSON, no channels, no ids, no checksums and no offsets. One connection each, the same client, in turns.
//!
//! `cargo test --release -p tidegate-gateway --test stream_speed -- --ignored --nocapture`

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod rig;

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rig::Gateway;

const LINES: usize = 100_000;
const ROUNDS: usize = 8;
/// Of a message, with its quotes.
const DATA: usize = 256;
/// Of a message in the gateway's log: fixed part, channel, id, data.
const RECORD: usize = 52 + "log:speed".len() + 26 + DATA;
/// Lines that the gateway has under way at once for one request.
const WINDOW: usize = 2048;
/// Times the bare program's processor time for a line: 4.3 to 5.4 were seen. Lines a second say more of the disk: with one that syncs in 2 ms a
/// request gets as many as the bare program, with one that takes 0.5 ms 0.6 to 0.8 of them, with one that takes 0.2 ms 0.5 to 0.7.
const AT_MOST: f64 = 6.5;
/// As long as the gateway's answer.
const ANSWER: &[u8] = b"{\"epoch\":\"1234567890123456\",\"offset\":123456,\"duplicate\":false}\n";

/// Lines, the time they took, and the server's processor time.
#[derive(Default)]
struct Speed {
    lines: f64,
    seconds: f64,
    cpu_seconds: f64,
}

impl Speed {
    fn add(&mut self, took: Duration, cpu_seconds: f64) {
        self.lines += LINES as f64;
        self.seconds += took.as_secs_f64();
        self.cpu_seconds += cpu_seconds;
    }

    fn per_second(&self) -> f64 {
        self.lines / self.seconds
    }

    fn cpu_us(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.lines
    }
}

/// User and system time of a process or thread. The kernel counts it in hundredths of a second.
fn cpu_seconds(of: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{of}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

/// Sends the head and the lines, and reads until every line is answered.
fn send(to: SocketAddr, head: &str, body: &[u8]) -> Duration {
    let start = Instant::now();
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut answers = stream.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(body).unwrap();
        });
        let (mut answered, mut buffer) = (0, vec![0; 256 * 1024]);
        while answered < LINES {
            let read = answers.read(&mut buffer).unwrap();
            assert!(read > 0, "it ended after {answered} answers");
            // An answer has one brace, an error two; the head none.
            answered += buffer[..read].iter().filter(|&&byte| byte == b'}').count();
            assert!(!buffer[..read].windows(5).any(|word| word == b"error"), "{}", String::from_utf8_lossy(&buffer[..read]));
        }
        assert_eq!(answered, LINES);
    });
    start.elapsed()
}

/// What the two threads of the bare program have in common.
#[derive(Default)]
struct Bare {
    state: Mutex<BareState>,
    changed: Condvar,
}

#[derive(Default)]
struct BareState {
    records: Vec<u8>,
    lines: usize,
    unanswered: usize,
    ended: bool,
}

/// Serves one connection and gives the processor time that took.
fn serve_bare(listener: &TcpListener, log: &Path) -> f64 {
    let (mut stream, _) = listener.accept().unwrap();
    let answers = stream.try_clone().unwrap();
    let bare = Arc::new(Bare::default());
    let appending = thread::spawn({
        let (bare, log) = (bare.clone(), log.to_owned());
        move || bare.append(&log, answers)
    });
    let (mut buffer, mut rest) = (vec![0; 256 * 1024], Vec::new());
    loop {
        let read = stream.read(&mut buffer).unwrap();
        if read == 0 {
            break;
        }
        rest.extend_from_slice(&buffer[..read]);
        let whole = rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        bare.take(&rest[..whole]);
        rest.drain(..whole);
    }
    bare.state.lock().unwrap().ended = true;
    bare.changed.notify_all();
    appending.join().unwrap() + cpu_seconds("thread-self")
}

impl Bare {
    fn take(&self, text: &[u8]) {
        let mut state = self.state.lock().unwrap();
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            while state.unanswered == WINDOW {
                state = self.changed.wait(state).unwrap();
            }
            let end = state.records.len() + RECORD;
            state.records.extend_from_slice(&line[..line.len().min(RECORD)]);
            state.records.resize(end, b' ');
            state.lines += 1;
            state.unanswered += 1;
            if state.lines == 1 {
                self.changed.notify_all();
            }
        }
    }

    fn append(&self, log: &Path, mut answers: TcpStream) -> f64 {
        let mut file = OpenOptions::new().create(true).append(true).open(log).unwrap();
        loop {
            let mut state = self.state.lock().unwrap();
            while state.lines == 0 && !state.ended {
                state = self.changed.wait(state).unwrap();
            }
            if state.lines == 0 {
                return cpu_seconds("thread-self");
            }
            let (records, lines) = (std::mem::take(&mut state.records), std::mem::take(&mut state.lines));
            drop(state);
            file.write_all(&records).unwrap();
            file.sync_data().unwrap();
            answers.write_all(&ANSWER.repeat(lines)).unwrap();
            self.state.lock().unwrap().unanswered -= lines;
            self.changed.notify_all();
        }
    }
}

#[test]
#[ignore = "long: 20 s, a measurement; its figures mean something on a quiet machine and with --release"]
fn lines_beside_a_bare_log() {
    let gateway = Gateway::start("");
    let line = format!("{{\"channel\":\"log:speed\",\"data\":\"{}\"}}\n", "x".repeat(DATA - 2));
    let body = line.repeat(LINES).into_bytes();
    let head = format!(
        "POST /v1/publish HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/x-ndjson\r\nContent-Length: {}\r\n\r\n",
        gateway.internal,
        body.len()
    );
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (bare_address, log) = (listener.local_addr().unwrap(), gateway.folder.path().join("bare"));
    let process = gateway.pid().to_string();
    let (mut bare, mut real) = (Speed::default(), Speed::default());
    // In turns, since the disk's mood changes.
    for _ in 0..ROUNDS {
        let (took, cpu) = thread::scope(|scope| {
            let serving = scope.spawn(|| serve_bare(&listener, &log));
            (send(bare_address, "", &body), serving.join().unwrap())
        });
        bare.add(took, cpu);
        let before = cpu_seconds(&process);
        let took = send(gateway.internal, &head, &body);
        real.add(took, cpu_seconds(&process) - before);
    }
    let (part, times) = (real.per_second() / bare.per_second(), real.cpu_us() / bare.cpu_us());
    println!(
        "NDJSON {:>9.0} lines/s, {:.2} us of CPU each; bare program {:>9.0} lines/s, {:.2} us: {:.2} of its lines, {:.1} times its CPU",
        real.per_second(),
        real.cpu_us(),
        bare.per_second(),
        bare.cpu_us(),
        part,
        times,
    );
    assert!(times <= AT_MOST, "{times:.1} times the CPU of a bare program");
}
