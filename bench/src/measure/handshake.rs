//! Connecting and leaving, over and over: handshakes per CPU-second of the server.

use std::io;
use std::time::{Duration, Instant};

use crate::peer::{Options, State};
use crate::process::Process;
use crate::report::Report;
use crate::swarm::Swarm;
use crate::target::Target;

/// Keeps `concurrent` connections on their way through connect, welcome, introduction and close for `time`.
///
/// # Errors
/// When the server is gone.
pub fn run(target: &Target, process: Process, concurrent: usize, time: Duration) -> io::Result<Report> {
    let target = Target { subscribe: String::new(), ..target.clone() };
    let mut swarm = Swarm::new(target)?;
    // Some servers answer a close frame, others just end the connection.
    let (mut next, mut done) = (0, 0);
    let mut under_way: Vec<(usize, bool)> = Vec::with_capacity(concurrent);
    let (cpu, started) = (process.cpu_seconds()?, Instant::now());
    while started.elapsed() < time {
        swarm.add(concurrent - under_way.len(), Options::default());
        while under_way.len() < concurrent {
            under_way.push((next, false));
            next += 1;
        }
        swarm.turn(Duration::from_millis(5), &mut ())?;
        for (peer, leaving) in &mut under_way {
            if !*leaving && swarm.state(*peer) == State::Ready {
                swarm.send_close(*peer, 1000);
                *leaving = true;
            }
        }
        under_way.retain(|(peer, leaving)| {
            let is_over = matches!(swarm.state(*peer), State::Ended(_));
            done += usize::from(is_over && *leaving);
            !is_over
        });
    }
    let elapsed = started.elapsed().as_secs_f64();
    let cpu = process.cpu_seconds()? - cpu;
    Ok(Report::new("handshake and close")
        .number("per_cpu_second", done as f64 / cpu)
        .number("per_second", done as f64 / elapsed)
        .number("server_busy_percent", cpu / elapsed * 100.0)
        .number("otherwise_ended", (swarm.ended() - done) as f64)
        .text("ends", format!("{:?}", swarm.ends())))
}
