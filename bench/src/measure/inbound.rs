//! Messages from clients: each asks whether the server is there, and the server reads, understands and answers it.

use std::io;
use std::time::{Duration, Instant};

use memchr::memmem::Finder;

use super::subscribed;
use crate::process::Process;
use crate::report::Report;
use crate::swarm::Sink;
use crate::target::Target;

/// Who was answered and may ask again.
struct Answers {
    finder: Finder<'static>,
    answered: Vec<usize>,
    count: u64,
}

impl Sink for Answers {
    fn message(&mut self, peer: usize, payload: &[u8]) {
        if self.finder.find(payload).is_some() {
            self.count += 1;
            self.answered.push(peer);
        }
    }
}

/// Keeps `in_flight` questions ([`Target::ask`]) of each of so many connections unanswered for `time`.
///
/// # Errors
/// When connections fail or end, as those of a client do that says too much, or nobody is answered.
pub fn run(target: &Target, process: Process, connections: usize, in_flight: usize, time: Duration) -> io::Result<Report> {
    let mut sink = Answers { finder: Finder::new(&target.ask.1).into_owned(), answered: Vec::new(), count: 0 };
    let target = Target { subscribe: String::new(), ..target.clone() };
    let mut swarm = subscribed(&target, connections, &mut sink)?;
    sink.answered = (0..connections * in_flight).map(|number| number % connections).collect();
    let (cpu, started) = (process.cpu_seconds()?, Instant::now());
    while started.elapsed() < time {
        for peer in std::mem::take(&mut sink.answered) {
            swarm.send_text(peer, &target.ask.0);
        }
        swarm.turn(Duration::from_millis(5), &mut sink)?;
    }
    if sink.count == 0 || swarm.ended() > 0 {
        return Err(io::Error::other(format!("{} questions answered, ended: {:?}", sink.count, swarm.ends())));
    }
    let (elapsed, cpu) = (started.elapsed().as_secs_f64(), process.cpu_seconds()? - cpu);
    Ok(Report::new(format!("inbound, {connections} x {in_flight} in flight"))
        .number("per_cpu_second", sink.count as f64 / cpu)
        .number("per_second", sink.count as f64 / elapsed)
        .number("server_busy_percent", cpu / elapsed * 100.0))
}
