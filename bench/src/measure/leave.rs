//! Very many leave at once: what the others notice of it.

use std::io;
use std::time::Duration;

use super::subscribed;
use super::traffic::{Deliveries, Pace, publish, settle};
use crate::crowd::Crowd;
use crate::process::Process;
use crate::report::Report;
use crate::target::Target;

/// The others' messages per second.
const PER_SECOND: f64 = 50.0;
/// Padding bytes of each.
const PAD: usize = 105;
/// How long the others are watched from the moment on: a server that stalls does so at once.
const AFTER: Duration = Duration::from_secs(2);

/// What is measured.
#[derive(Clone, Debug)]
pub struct Leave {
    /// Subscribers of another channel, which are reset at once, as when a proxy dies.
    pub leaving: usize,
    /// Where they are: at the same server, or, to see what the machine makes of it alone, at another.
    pub elsewhere: Target,
    /// Subscribers that stay: the figures are theirs.
    pub staying: usize,
    /// So many times.
    pub rounds: u32,
    /// How long those who stay are watched undisturbed, each time.
    pub time: Duration,
}

/// Keeps some receiving while very many come, stay for a while and are reset without a close frame.
///
/// # Errors
/// When connections fail or the server is gone.
pub fn run(target: &Target, process: Process, leave: &Leave) -> io::Result<Report> {
    let [mut warm, mut before, mut after] = [0; 3].map(|healthy_from| Deliveries::new(&target.mark, 1, healthy_from));
    let (pace, receivers) = (Pace::PerSecond(PER_SECOND), leave.staying as u64);
    let mut others = subscribed(target, leave.staying, &mut before)?;
    others.add_publisher()?;
    let mut cpu = 0.0;
    for _ in 0..leave.rounds {
        let mut crowd = Crowd::start(&leave.elsewhere, leave.leaving)?;
        publish(&mut others, &mut warm, pace, PAD, receivers, Duration::from_secs(1))?;
        settle(&mut others, &mut warm, u64::MAX)?;
        let expected = before.count + publish(&mut others, &mut before, pace, PAD, receivers, leave.time)? * receivers;
        settle(&mut others, &mut before, expected)?;
        let begun = process.cpu_seconds()?;
        crowd.leave()?;
        let expected = after.count + publish(&mut others, &mut after, pace, PAD, receivers, AFTER)? * receivers;
        settle(&mut others, &mut after, expected)?;
        cpu += process.cpu_seconds()? - begun;
    }
    let (p99_before, p99_after) = (before.latency.quantile_ms(0.99), after.latency.quantile_ms(0.99));
    Ok(Report::new(format!("{} leave at once", leave.leaving))
        .number("p50_before_ms", before.latency.quantile_ms(0.5))
        .number("p99_before_ms", p99_before)
        .number("worst_before_ms", before.latency.max_ms())
        .number("p50_after_ms", after.latency.quantile_ms(0.5))
        .number("p99_after_ms", p99_after)
        .number("worst_after_ms", after.latency.max_ms())
        .number("ratio", p99_after / p99_before)
        .number("cpu_s", cpu / f64::from(leave.rounds))
        .number("others_lost", (leave.staying - others.ready()) as f64))
}
