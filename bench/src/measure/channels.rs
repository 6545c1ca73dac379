//! The same deliveries through one channel or through thousands: what a channel costs beside what its subscribers cost.

use std::io;
use std::time::{Duration, Instant};

use super::traffic::Deliveries;
use super::{micros, subscribed};
use crate::process::Process;
use crate::report::Report;
use crate::swarm::Swarm;
use crate::target::Target;

/// How long a round may take.
const ROUND_WITHIN: Duration = Duration::from_secs(20);

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Channels {
    /// Connections, each with one subscription.
    pub subscribers: usize,
    /// Channels over which they are spread evenly.
    pub channels: usize,
    /// Bytes of padding in each message.
    pub pad: usize,
    /// How long is published to the subscribers, and then again as long to nobody.
    pub time: Duration,
}

/// In rounds, each a request of NDJSON with one message for every channel, so that everybody gets one: all have arrived before the next.
/// The same rounds on channels without subscribers are what publishing costs, and what is left is the deliveries'.
///
/// # Errors
/// When connections fail, the server is gone, or a round does not end.
pub fn run(target: &Target, process: Process, what: Channels) -> io::Result<Report> {
    let target = Target { channels: what.channels, ..target.clone() };
    let mut sink = Deliveries::new(&target.mark, 31, 0);
    let mut swarm = subscribed(&target, what.subscribers, &mut sink)?;
    swarm.add_publisher()?;
    let silent = Target { channel: format!("{}:unheard", target.channel), ..target.clone() };
    let receivers = what.subscribers as u64;
    let mut measured = |target: &Target, receivers: u64, time: Duration| -> io::Result<(f64, f64)> {
        let (cpu, started, mut rounds) = (process.cpu_seconds()?, Instant::now(), 0.0);
        while started.elapsed() < time {
            round(&mut swarm, &mut sink, target, what.pad, receivers)?;
            rounds += 1.0;
        }
        Ok((rounds, (process.cpu_seconds()? - cpu) * 1e6 / rounds))
    };
    measured(&target, receivers, Duration::from_secs(1))?;
    let (rounds, heard) = measured(&target, receivers, what.time)?;
    let (_, unheard) = measured(&silent, 0, what.time)?;
    let deliveries = receivers as f64;
    Ok(Report::new(format!("{} through {} channels", what.subscribers, what.channels))
        .number("rounds", rounds)
        .number("us_per_publish", unheard / what.channels as f64)
        .number("us_per_delivery_and_publish", heard / deliveries)
        .number("us_per_delivery", (heard - unheard) / deliveries)
        .number("deliveries_per_cpu_second", deliveries * 1e6 / heard)
        .number("refused", sink.refused as f64))
}

/// Publishes to every channel, and waits for the answer and for what arrives.
fn round(swarm: &mut Swarm, sink: &mut Deliveries, target: &Target, pad: usize, receivers: u64) -> io::Result<()> {
    let (started, expected) = (Instant::now(), sink.count + receivers);
    swarm.request(0, &target.round(micros(sink.started()), pad));
    while swarm.unanswered(0) > 0 || sink.count < expected {
        if started.elapsed() > ROUND_WITHIN {
            return Err(io::Error::other(format!("{} deliveries of a round are missing", expected - sink.count)));
        }
        swarm.turn(Duration::from_millis(20), sink)?;
    }
    Ok(())
}
