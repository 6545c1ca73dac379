//! A reader that stopped: how many bytes hide in the kernel, where no policy of the server sees them.

use std::io;
use std::time::Duration;

use super::make_ready;
use super::traffic::{Deliveries, Pace, publish};
use crate::peer::Options;
use crate::process::{KernelBytes, kernel_bytes};
use crate::report::Report;
use crate::swarm::Swarm;
use crate::target::Target;

/// The reader's receive buffer: as small as the kernel allows, so that what hides is on the server's side.
const RECEIVE_BUFFER: usize = 4096;
/// Between two looks at the kernel's tables.
const LOOK: Duration = Duration::from_millis(200);

/// Publishes messages of `pad` bytes, `per_second` of them for `time`, to one subscriber that doesn't read.
///
/// # Errors
/// When connections fail.
pub fn run(target: &Target, pad: usize, per_second: f64, time: Duration) -> io::Result<Report> {
    let mut sink = Deliveries::new(&target.mark, 1, 0);
    let mut swarm = Swarm::new(Target { sources: 1, ..target.clone() })?;
    swarm.add(1, Options { receive_buffer: Some(RECEIVE_BUFFER), stalls: true });
    make_ready(&mut swarm, 1, &mut sink)?;
    swarm.add_publisher()?;
    let client = swarm.local_address(0).ok_or_else(|| io::Error::other("the reader has no address"))?;

    let (mut highest, mut published) = (KernelBytes::default(), 0);
    for _ in 0..(time.as_millis() / LOOK.as_millis()).max(1) {
        published += publish(&mut swarm, &mut sink, Pace::PerSecond(per_second), pad, 1, LOOK)?;
        let held = kernel_bytes(client, target.address)?;
        highest.server_send = highest.server_send.max(held.server_send);
        highest.client_receive = highest.client_receive.max(held.client_receive);
    }
    Ok(Report::new("hidden in the kernel")
        .number("server_send_kib", highest.server_send as f64 / 1024.0)
        .number("client_receive_kib", highest.client_receive as f64 / 1024.0)
        .number("published_kib", published as f64 * pad as f64 / 1024.0)
        .text("ends", format!("{:?}", swarm.ends())))
}
