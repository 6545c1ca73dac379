//! Some subscribers stop reading: what they cost the server's memory, and the others' latency.

use std::io;
use std::time::Duration;

use super::subscribed;
use super::traffic::{Deliveries, Pace, publish};
use crate::process::{Process, tcp_memory_kib};
use crate::report::Report;
use crate::target::Target;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Stall {
    /// All subscribers.
    pub subscribers: usize,
    /// Those that stop reading.
    pub stalled: usize,
    /// Bytes of padding in each message.
    pub pad: usize,
    /// Messages per second.
    pub per_second: f64,
    /// For how long, once before they stop and once after.
    pub time: Duration,
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Stalled {
    /// The 99th percentile of healthy subscribers' latency while all read, in milliseconds.
    pub p99_before_ms: f64,
    /// The same while some don't.
    pub p99_stalled_ms: f64,
    /// Highest memory while some don't read, above that before, in KiB.
    pub growth_kib: u64,
    /// The same of what the kernel holds for TCP on this machine: both ends of every connection.
    pub kernel_growth_kib: u64,
    /// How connections ended.
    pub ends: String,
}

/// Publishes for the time while all read, then again while some don't.
///
/// # Errors
/// When connections fail or the server is gone.
pub fn run(target: &Target, process: Process, stall: Stall) -> io::Result<Stalled> {
    let mut sink = Deliveries::new(&target.mark, 1, stall.stalled);
    let mut swarm = subscribed(target, stall.subscribers, &mut sink)?;
    swarm.add_publisher()?;
    let pace = Pace::PerSecond(stall.per_second);
    let receivers = stall.subscribers as u64;
    publish(&mut swarm, &mut sink, pace, stall.pad, receivers, Duration::from_secs(1))?;
    sink.reset();
    publish(&mut swarm, &mut sink, pace, stall.pad, receivers, stall.time)?;
    let p99_before_ms = sink.latency.quantile_ms(0.99);
    let (rss, tcp) = (process.rss_kib()?, tcp_memory_kib()?);

    (0..stall.stalled).for_each(|peer| swarm.stall(peer));
    sink.reset();
    let (mut highest, mut highest_tcp) = (rss, tcp);
    let slices = (stall.time.as_millis() / 500).max(1);
    for _ in 0..slices {
        publish(&mut swarm, &mut sink, pace, stall.pad, receivers, Duration::from_millis(500))?;
        highest = highest.max(process.rss_kib()?);
        highest_tcp = highest_tcp.max(tcp_memory_kib()?);
    }
    let p99_stalled_ms = sink.latency.quantile_ms(0.99);
    let (growth_kib, kernel_growth_kib) = (highest - rss, highest_tcp - tcp);
    Ok(Stalled { p99_before_ms, p99_stalled_ms, growth_kib, kernel_growth_kib, ends: format!("{:?}", swarm.ends()) })
}

/// The figures as a report.
pub fn report(stall: Stall, stalled: &Stalled) -> Report {
    Report::new(format!("{} of {} stalled", stall.stalled, stall.subscribers))
        .number("growth_kib", stalled.growth_kib as f64)
        .number("kernel_growth_kib", stalled.kernel_growth_kib as f64)
        .number("p99_before_ms", stalled.p99_before_ms)
        .number("p99_stalled_ms", stalled.p99_stalled_ms)
        .number("ratio", stalled.p99_stalled_ms / stalled.p99_before_ms)
        .text("ends", stalled.ends.clone())
}
