//! SIGTERM with some clients that don't answer: when each connection ends, and when the server does.

use std::collections::BTreeMap;
use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

use super::subscribed;
use crate::peer::End;
use crate::process::Process;
use crate::report::Report;
use crate::swarm::{Sink, Swarm};
use crate::target::Target;

/// What a server of this protocol says before it goes; those of others close without it.
const GOING_AWAY: &[u8] = br#""type":"going_away""#;

/// When and how connections ended.
#[derive(Clone, Debug, Default)]
pub struct Drained {
    /// By how they ended, of those that answer.
    pub healthy: BTreeMap<End, usize>,
    /// By how they ended, of those that don't.
    pub unresponsive: BTreeMap<End, usize>,
    /// When each that answers ended, in seconds from the signal.
    pub healthy_s: Vec<f64>,
    /// When the last one that doesn't ended.
    pub last_unresponsive_s: f64,
    /// When the process was gone; none if it outlived the wait.
    pub gone_s: Option<f64>,
}

/// Connects `connections`, lets the first `unresponsive` of them stop reading, sends SIGTERM, and watches for at most `limit`.
/// A client that is told to go closes with 1000.
///
/// # Errors
/// When connections fail or the signal can't be sent.
pub fn run(target: &Target, process: Process, connections: usize, unresponsive: usize, limit: Duration) -> io::Result<Drained> {
    let mut watch = Watch { started: Instant::now(), unresponsive, told: Vec::new(), drained: Drained::default() };
    let mut swarm = subscribed(target, connections, &mut watch)?;
    (0..unresponsive).for_each(|peer| swarm.stall(peer));
    watch.started = Instant::now();
    let status = Command::new("kill").args(["-TERM", &process.pid().to_string()]).status()?;
    if !status.success() {
        return Err(io::Error::other(format!("kill -TERM {}: {status}", process.pid())));
    }
    while watch.started.elapsed() < limit && process.is_running() {
        swarm.turn(Duration::from_millis(10), &mut watch)?;
        leave(&mut swarm, &mut watch);
    }
    watch.drained.gone_s = (!process.is_running()).then(|| watch.seconds());
    for peer in 0..unresponsive {
        swarm.resume(peer, &mut watch);
    }
    swarm.run_until(Duration::from_secs(2), &mut watch, |swarm| swarm.ended() == connections)?;
    Ok(watch.drained)
}

/// Those that were told close, as a client does that has moved.
fn leave(swarm: &mut Swarm, watch: &mut Watch) {
    for peer in watch.told.drain(..) {
        swarm.send_close(peer, 1000);
    }
}

/// The figures as a report.
pub fn report(connections: usize, drained: &Drained) -> Report {
    let mut seconds = drained.healthy_s.clone();
    seconds.sort_by(f64::total_cmp);
    let first = seconds.first().copied().unwrap_or(0.0);
    let last = seconds.last().copied().unwrap_or(0.0);
    Report::new(format!("drain {connections}"))
        .number("first_s", first)
        .number("last_healthy_s", last)
        .number("busiest_second_percent", in_busiest_second(&seconds) as f64 / seconds.len().max(1) as f64 * 100.0)
        .number("busiest_second_vs_mean", busiest_second(&seconds))
        .number("process_gone_s", drained.gone_s.unwrap_or(f64::NAN))
        .text("healthy", format!("{:?}", drained.healthy))
        .text("unresponsive", format!("{:?}", drained.unresponsive))
}

/// The most that ended within any second.
fn in_busiest_second(sorted: &[f64]) -> usize {
    (0..sorted.len()).map(|from| sorted[from..].partition_point(|at| *at < sorted[from] + 1.0)).max().unwrap_or(0)
}

/// The most that ended within any second, as a multiple of the mean rate from the first to the last.
pub fn busiest_second(sorted: &[f64]) -> f64 {
    let (Some(first), Some(last)) = (sorted.first(), sorted.last()) else { return 0.0 };
    in_busiest_second(sorted) as f64 * (last - first).max(1.0) / sorted.len() as f64
}

struct Watch {
    started: Instant,
    unresponsive: usize,
    told: Vec<usize>,
    drained: Drained,
}

impl Watch {
    fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}

impl Sink for Watch {
    fn message(&mut self, peer: usize, payload: &[u8]) {
        if peer >= self.unresponsive && memchr::memmem::find(payload, GOING_AWAY).is_some() {
            self.told.push(peer);
        }
    }

    fn ended(&mut self, peer: usize, end: End) {
        let at = self.seconds();
        if peer < self.unresponsive {
            *self.drained.unresponsive.entry(end).or_default() += 1;
            self.drained.last_unresponsive_s = at;
        } else {
            *self.drained.healthy.entry(end).or_default() += 1;
            self.drained.healthy_s.push(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{busiest_second, in_busiest_second};

    #[test]
    fn an_even_drain_is_near_one_and_a_clump_is_not() {
        let even: Vec<f64> = (0..1000).map(|n| f64::from(n) / 50.0).collect();
        assert!(busiest_second(&even) < 1.05, "{}", busiest_second(&even));
        let clump: Vec<f64> = (0..1000).map(|n| if n < 500 { 0.5 } else { 20.0 }).collect();
        assert!(busiest_second(&clump) > 9.0);
        // One more or less by the rounding of a time.
        assert!((50..=51).contains(&in_busiest_second(&even)));
        assert_eq!(in_busiest_second(&clump), 500);
    }
}
