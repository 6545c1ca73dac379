//! What a connection costs that does nothing but stay: memory, and CPU for its heartbeats.

use std::io;
use std::time::Duration;

use super::{make_ready, rest};
use crate::peer::Options;
use crate::process::Process;
use crate::report::Report;
use crate::swarm::Swarm;
use crate::target::Target;

/// After the last connection is ready: closures of the handshake are gone.
const SETTLE: Duration = Duration::from_secs(5);
/// Then the first figure that counts.
const LATER: Duration = Duration::from_secs(30);

/// Connects and subscribes `connections`, and watches the server's CPU for `watch`.
///
/// # Errors
/// When connections fail or the server is gone.
pub fn run(target: &Target, process: Process, connections: usize, watch: Duration) -> io::Result<Report> {
    let sink = &mut ();
    let mut swarm = Swarm::new(target.clone())?;
    let (rss, cpu) = (process.rss_kib()?, process.cpu_seconds()?);
    swarm.add(connections, Options::default());
    make_ready(&mut swarm, connections, sink)?;
    let connecting = process.cpu_seconds()? - cpu;
    rest(&mut swarm, SETTLE, sink)?;
    let settled = process.rss_kib()?;
    rest(&mut swarm, LATER, sink)?;
    let later = process.rss_kib()?;

    let cpu = process.cpu_seconds()?;
    rest(&mut swarm, watch, sink)?;
    let idle = process.cpu_seconds()? - cpu;
    let per_connection = |now: u64| now.saturating_sub(rss) as f64 / connections as f64;
    Ok(Report::new(format!("idle {connections}"))
        .number("kib_per_connection", per_connection(settled))
        .number("kib_per_connection_later", per_connection(later))
        .number("connects_per_cpu_second", connections as f64 / connecting)
        .number("cpu_s_per_10k_per_minute", idle * 10_000.0 / connections as f64 * 60.0 / watch.as_secs_f64())
        .number("rss_kib_empty", rss as f64)
        .number("ended", swarm.ended() as f64))
}
