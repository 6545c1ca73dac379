//! Very many leave at once: what the others notice of it.

use std::io;
use std::thread;
use std::time::Duration;

use super::subscribed;
use super::traffic::{Deliveries, Pace, publish};
use crate::process::Process;
use crate::report::Report;
use crate::target::Target;

/// The others' messages per second.
const PER_SECOND: f64 = 50.0;
/// Padding bytes of each.
const PAD: usize = 105;
/// How long the others are watched from the moment on: a server that stalls does so at once.
const AFTER: Duration = Duration::from_secs(2);

/// Keeps `staying` subscribers receiving, for `time` undisturbed; then `leaving` subscribers of another channel are reset at once,
/// without a close frame, as when a proxy dies. The figures are of those that stay.
///
/// # Errors
/// When connections fail or the server is gone.
pub fn run(target: &Target, process: Process, leaving: usize, staying: usize, time: Duration) -> io::Result<Report> {
    let elsewhere = Target { channel: format!("{}:leaving", target.channel), ..target.clone() };
    let mut sink = Deliveries::new(1, 0);
    let mut others = subscribed(target, staying, &mut sink)?;
    others.add_publisher()?;
    let mut crowd = subscribed(&elsewhere, leaving, &mut ())?;
    let (pace, receivers) = (Pace::PerSecond(PER_SECOND), staying as u64);
    publish(&mut others, &mut sink, pace, PAD, receivers, Duration::from_secs(1))?;
    sink.reset();
    publish(&mut others, &mut sink, pace, PAD, receivers, time)?;
    let (before, worst_before) = (sink.latency.quantile_ms(0.99), sink.latency.max_ms());

    sink.reset();
    let cpu = process.cpu_seconds()?;
    thread::scope(|scope| {
        // A thread of its own: the others' latency must not be that of the load.
        scope.spawn(|| (0..leaving).for_each(|peer| crowd.abort(peer)));
        publish(&mut others, &mut sink, pace, PAD, receivers, AFTER)
    })?;
    let after = sink.latency.quantile_ms(0.99);
    Ok(Report::new(format!("{leaving} leave at once"))
        .number("p99_before_ms", before)
        .number("worst_before_ms", worst_before)
        .number("p99_after_ms", after)
        .number("worst_after_ms", sink.latency.max_ms())
        .number("ratio", after / before)
        .number("cpu_s", process.cpu_seconds()? - cpu)
        .number("others_lost", (staying - others.ready()) as f64))
}
