//! One channel, many subscribers: deliveries per CPU-second of the server, and latency.

use std::io;
use std::time::Duration;

use super::subscribed;
use super::traffic::{Deliveries, Pace, publish, settle};
use crate::process::Process;
use crate::report::Report;
use crate::target::Target;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Fanout {
    /// Subscribers of the channel.
    pub subscribers: usize,
    /// Bytes of padding in each message.
    pub pad: usize,
    /// When messages are published.
    pub pace: Pace,
    /// For how long.
    pub time: Duration,
}

/// Subscribes, warms up for a second, publishes for the time, and waits for what is on its way.
///
/// # Errors
/// When connections fail or the server is gone.
pub fn run(target: &Target, process: Process, fanout: Fanout) -> io::Result<Report> {
    let fanout = Fanout { pace: fanout.pace.fit(target), ..fanout };
    let sample = if matches!(fanout.pace, Pace::PerSecond(_)) { 1 } else { 31 };
    let mut sink = Deliveries::new(&target.mark, sample, 0);
    let mut swarm = subscribed(target, fanout.subscribers, &mut sink)?;
    for _ in 0..fanout.pace.publishers() {
        swarm.add_publisher()?;
    }
    let receivers = fanout.subscribers as u64;
    let warm = publish(&mut swarm, &mut sink, fanout.pace, fanout.pad, receivers, Duration::from_secs(1))?;
    settle(&mut swarm, &mut sink, warm * receivers)?;
    sink.reset();

    let ((user, system), started) = (process.user_and_system_seconds()?, std::time::Instant::now());
    let published = publish(&mut swarm, &mut sink, fanout.pace, fanout.pad, receivers, fanout.time)?;
    let elapsed = started.elapsed().as_secs_f64();
    settle(&mut swarm, &mut sink, published * receivers)?;
    let (user, system) = process.user_and_system_seconds().map(|now| (now.0 - user, now.1 - system))?;
    let (cpu, micros_each) = (user + system, 1e6 / sink.count as f64);

    let name = match fanout.pace {
        Pace::PerSecond(rate) => format!("fanout {} at {rate}/s", fanout.subscribers),
        Pace::Closed { publishers, pipeline, on_the_way } => {
            format!("fanout {} {publishers}x{pipeline} way {on_the_way}", fanout.subscribers)
        }
    };
    let report = Report::new(name)
        .number("deliveries_per_cpu_second", sink.count as f64 / cpu)
        .number("messages_per_second", published as f64 / elapsed)
        .number("server_cpu_s", cpu)
        .number("user_us_per_delivery", user * micros_each)
        .number("system_us_per_delivery", system * micros_each)
        .number("p50_ms", sink.latency.quantile_ms(0.5))
        .number("p99_ms", sink.latency.quantile_ms(0.99))
        .number("p999_ms", sink.latency.quantile_ms(0.999))
        .number("missing", (published * receivers).saturating_sub(sink.count) as f64)
        .number("refused", sink.refused as f64);
    Ok(match &sink.refusal {
        Some(refusal) => report.text("refusal", format!("{} {}", refusal.status, refusal.body)),
        None => report,
    })
}
