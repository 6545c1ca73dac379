//! A small channel beside a huge one: how long its messages wait while one goes out to very many.

use std::io;
use std::time::{Duration, Instant};

use super::subscribed;
use super::traffic::{Deliveries, Pace, publish, settle};
use crate::crowd::Crowd;
use crate::process::Process;
use crate::report::Report;
use crate::swarm::Swarm;
use crate::target::Target;

/// Padding bytes of every message.
const PAD: usize = 105;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Beside {
    /// Subscribers of the huge channel.
    pub crowd: usize,
    /// Its messages per second.
    pub crowd_per_second: f64,
    /// Subscribers of the small channel: the figures are theirs.
    pub subscribers: usize,
    /// Its messages per second.
    pub per_second: f64,
    /// How long, first without messages on the huge channel and then with them.
    pub time: Duration,
}

/// Measures the small channel's latency while the huge one is silent, and then while it is not.
///
/// # Errors
/// When connections fail or the server is gone.
pub fn run(target: &Target, process: Process, beside: Beside) -> io::Result<Report> {
    let huge = Target { channel: format!("{}:huge", target.channel), ..target.clone() };
    let [mut warm, mut alone, mut meanwhile] = [0; 3].map(|healthy_from| Deliveries::new(&target.mark, 1, healthy_from));
    let mut swarm = subscribed(target, beside.subscribers, &mut warm)?;
    swarm.add_publisher()?;
    let _crowd = Crowd::start(&huge, beside.crowd)?;
    let mut to_huge = Swarm::new(huge)?;
    to_huge.add_publisher()?;
    small(&mut swarm, &mut warm, beside, Duration::from_secs(1))?;
    small(&mut swarm, &mut alone, beside, beside.time)?;

    let (cpu, started) = (process.cpu_seconds()?, Instant::now());
    let between = Duration::from_secs_f64(1.0 / beside.crowd_per_second);
    while started.elapsed() < beside.time {
        let request = to_huge.target().publication(0, PAD);
        to_huge.request(0, &request);
        small(&mut swarm, &mut meanwhile, beside, between)?;
        to_huge.turn(Duration::ZERO, &mut warm)?;
    }
    let busy = (process.cpu_seconds()? - cpu) / started.elapsed().as_secs_f64();
    let figures = |report: Report, name: &str, latency: &crate::Histogram| {
        [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)]
            .iter()
            .fold(report, |report, (of, share)| report.number(&format!("{of}_{name}_ms"), latency.quantile_ms(*share)))
            .number(&format!("worst_{name}_ms"), latency.max_ms())
    };
    let report = Report::new(format!("beside {} at {}/s", beside.crowd, beside.crowd_per_second));
    let report = figures(figures(report, "alone", &alone.latency), "meanwhile", &meanwhile.latency);
    Ok(report.number("server_busy", busy).number("refused", (alone.refused + meanwhile.refused + warm.refused) as f64))
}

/// Publishes on the small channel for a time, and waits for what is on its way.
fn small(swarm: &mut Swarm, sink: &mut Deliveries, beside: Beside, time: Duration) -> io::Result<()> {
    let receivers = beside.subscribers as u64;
    let expected = sink.count + publish(swarm, sink, Pace::PerSecond(beside.per_second), PAD, receivers, time)? * receivers;
    settle(swarm, sink, expected)
}
