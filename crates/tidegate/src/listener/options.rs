//! Options of an accepted socket, each with its reason.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Unsent bytes the kernel takes before it says "full". What it holds can't be conflated, dropped by policy or overtaken by a
/// pong any more, so this is as little as still keeps a fast line busy between two turns of the driver. Measured with a reader
/// that stopped: 9 to 48 KiB stay in the sender's kernel, against 2.7 MB without; a smaller `SO_SNDBUF` takes away no more of it.
const UNSENT_LOW_WATER_BYTES: u32 = 16 * 1024;

/// How long sent bytes may stay unacknowledged. A backstop behind the session's own deadlines, which measure the same in user space.
const USER_TIMEOUT: Duration = Duration::from_secs(90);

/// The first probe of an idle socket. The heartbeat finds a dead peer first; this one is for sockets that a bug forgot.
const KEEPALIVE: Duration = Duration::from_secs(120);

/// Prepares an accepted socket: nothing waits for more to send, and little hides in the kernel.
///
/// # Errors
/// The kernel refused an option; the socket is not usable as promised.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4))?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        socket.set_tcp_notsent_lowat(UNSENT_LOW_WATER_BYTES)?;
        socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    }
    Ok(())
}
