//! Options of sockets, each with its reason. Where the kernel hands them down they are set once, on the listening socket.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};

/// Unsent bytes the kernel takes before it says "full". What it holds can't be conflated, dropped by policy or overtaken by a
/// pong any more, so this is as little as still keeps a fast line busy between two turns of the driver. Measured with a reader
/// that stopped: 9 to 48 KiB stay in the sender's kernel, against 2.7 MB without; a smaller `SO_SNDBUF` takes away no more of it.
const UNSENT_LOW_WATER_BYTES: u32 = 16 * 1024;

/// How long sent bytes may stay unacknowledged. A backstop behind the session's own deadlines, which measure the same in user space.
const USER_TIMEOUT: Duration = Duration::from_secs(90);

/// The first probe of an idle socket. The heartbeat finds a dead peer first; this one is for sockets that a bug forgot.
const KEEPALIVE: Duration = Duration::from_secs(120);

/// Linux copies these options from the listening socket to those it accepts, which saves five calls for each of them.
const INHERITED: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Prepares a listening socket, so that nothing is left to do for those it accepts where they inherit.
///
/// # Errors
/// The kernel refused an option; its sockets are not usable as promised.
pub(super) fn prepare_listening(listener: &TcpListener) -> io::Result<()> {
    if INHERITED { set(SockRef::from(listener)) } else { Ok(()) }
}

/// Prepares an accepted socket: nothing waits for more to send, and little hides in the kernel.
///
/// # Errors
/// The kernel refused an option; the socket is not usable as promised.
pub(super) fn prepare_accepted(stream: &TcpStream) -> io::Result<()> {
    if INHERITED { Ok(()) } else { set(SockRef::from(stream)) }
}

fn set(socket: SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4))?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        socket.set_tcp_notsent_lowat(UNSENT_LOW_WATER_BYTES)?;
        socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_accepted_socket_has_every_option() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        prepare_listening(&listener).unwrap();
        let address = listener.local_addr().unwrap();
        let (_peer, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (stream, _) = accepted.unwrap();
        prepare_accepted(&stream).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE);
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE / 4);
            assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT_LOW_WATER_BYTES);
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(USER_TIMEOUT));
        }
    }
}
