//! The measures of the `bench` binary, a file each.

use std::io;
use std::time::{Duration, Instant};

use crate::peer::Options;
use crate::swarm::{Sink, Swarm};
use crate::target::Target;

pub mod beside;
pub mod channels;
pub mod drain;
pub mod fanout;
pub mod floor;
pub mod handshake;
pub mod idle;
pub mod inbound;
pub mod kernel;
pub mod leave;
pub mod replay;
pub mod stall;
pub mod traffic;

/// How long all connections may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// A swarm of `count` subscribers that are all ready.
///
/// # Errors
/// When some are not ready within two minutes, or the system lacks something.
pub fn subscribed(target: &Target, count: usize, sink: &mut dyn Sink) -> io::Result<Swarm> {
    let mut swarm = Swarm::new(target.clone())?;
    swarm.add(count, Options::default());
    make_ready(&mut swarm, count, sink)?;
    Ok(swarm)
}

/// Turns until `count` connections are ready.
///
/// # Errors
/// When they are not within two minutes, or connections end meanwhile.
pub fn make_ready(swarm: &mut Swarm, count: usize, sink: &mut dyn Sink) -> io::Result<()> {
    let ended_before = swarm.ended();
    let done = swarm.run_until(READY_WITHIN, sink, |swarm| swarm.ready() >= count || swarm.ended() > ended_before)?;
    if done && swarm.ended() == ended_before {
        return Ok(());
    }
    Err(io::Error::other(format!("{} of {count} connections ready, ended: {:?}", swarm.ready(), swarm.ends())))
}

/// Turns for a time, answering pings.
///
/// # Errors
/// Those of [`Swarm::turn`].
pub fn rest(swarm: &mut Swarm, time: Duration, sink: &mut dyn Sink) -> io::Result<()> {
    swarm.run_until(time, sink, |_| false).map(drop)
}

/// Microseconds since `started`: what messages carry as their time.
pub(crate) fn micros(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX)
}
