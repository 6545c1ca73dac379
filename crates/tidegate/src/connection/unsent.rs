//! How much the kernel still holds for a peer. The one `unsafe` block of the crate: no safe wrapper of this `ioctl` exists.
#![allow(unsafe_code, reason = "a single ioctl, with its proof beside it")]

use std::os::fd::{AsRawFd, BorrowedFd};

/// Bytes that were written to the TCP socket and not yet acknowledged by the peer (Linux `SIOCOUTQ`, tcp(7)). `None` where the
/// kernel can't say.
pub(super) fn bytes(socket: BorrowedFd<'_>) -> Option<usize> {
    let mut unsent: libc::c_int = 0;
    // SAFETY: the descriptor is open while it is borrowed, and this request writes exactly one `int` to the address it is given.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut unsent) };
    if result == 0 { usize::try_from(unsent).ok() } else { None }
}
