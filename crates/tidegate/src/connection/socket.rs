//! The socket under a connection: plain TCP, TLS over it, or whatever stream an embedder's server upgraded.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use rustls::ServerConnection;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::unsent;

/// What is read at first: more than the head of a usual request.
const FIRST_BYTES: usize = 4096;

/// Flags of a write that the end of the stream follows at once.
#[cfg(any(target_os = "linux", target_os = "android"))]
const END_FOLLOWS: libc::c_int = libc::MSG_MORE;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const END_FOLLOWS: libc::c_int = 0;

/// A stream that is neither ours nor plain TCP.
pub(crate) trait Foreign: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Foreign for S {}

/// The socket under a connection.
pub(crate) enum Socket {
    /// Shared with whoever may write to it while the driver sleeps.
    Plain(Arc<TcpStream>),
    Tls(Box<TlsStream<TcpStream>>),
    Foreign(Box<dyn Foreign>),
}

impl Socket {
    /// Plain TCP.
    pub(crate) fn plain(stream: TcpStream) -> Self {
        Self::Plain(Arc::new(stream))
    }

    /// The stream to which others may write without further ado.
    pub(super) fn shared(&self) -> Option<&Arc<TcpStream>> {
        match self {
            Self::Plain(stream) => Some(stream),
            Self::Tls(_) | Self::Foreign(_) => None,
        }
    }

    /// Whatever comes first, at most 4 KiB of it; nothing if the peer has ended. Who says nothing costs no buffer.
    pub(crate) async fn first_bytes(&mut self) -> io::Result<Bytes> {
        poll_fn(|cx| {
            let mut space = [const { MaybeUninit::uninit() }; FIRST_BYTES];
            let mut buffer = ReadBuf::uninit(&mut space);
            ready!(self.poll_read(cx, &mut buffer))?;
            Poll::Ready(Ok(Bytes::copy_from_slice(buffer.filled())))
        })
        .await
    }

    /// Whether it takes bytes now. What is asked for earlier could still have been conflated or overtaken.
    pub(super) fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => stream.poll_write_ready(cx),
            // Encrypted bytes that wait inside come first: writing more would only make that buffer longer.
            Self::Tls(stream) if stream.get_ref().1.wants_write() => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => stream.get_ref().0.poll_write_ready(cx),
            Self::Foreign(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => poll_read(stream, cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Foreign(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }

    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => poll_write(stream, cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Foreign(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    /// Writes what [`Socket::poll_shutdown`] follows at once. On plain TCP both leave in one segment, which spares the peer a wake-up
    /// and us a packet with its acknowledgement; with TLS the goodbye waits for [`Socket::poll_flush`] too.
    pub(super) fn poll_write_end(&mut self, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => poll_write_end(stream, cx, slices),
            Self::Tls(stream) => Poll::Ready(buffer_end(stream.get_mut().1, slices)),
            Self::Foreign(_) => self.poll_write(cx, slices),
        }
    }

    /// Passes on what a layer in between may hold back. Plain TCP holds nothing.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Foreign(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    /// Says that nothing more will come; what the peer still sends can be read.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Poll::Ready(SockRef::from(&**stream).shutdown(Shutdown::Write)),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Foreign(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    /// Bytes that the kernel holds and the peer has not acknowledged. A foreign stream can't say: always the same number, so that
    /// its stalls are judged by what it takes alone.
    pub(super) fn unsent(&self) -> usize {
        match self {
            Self::Plain(stream) => unsent::bytes(stream.as_fd()).unwrap_or(0),
            Self::Tls(stream) => unsent::bytes(stream.get_ref().0.as_fd()).unwrap_or(0),
            Self::Foreign(_) => 0,
        }
    }
}

/// Reads without needing the stream alone. A short read means that no more is there: readiness is given up at once, which spares
/// the call that would only say so. (`try_io` gives up no readiness that came after the read began.)
fn poll_read(stream: &TcpStream, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    loop {
        ready!(stream.poll_read_ready(cx))?;
        let unfilled = buffer.initialize_unfilled();
        let mut short = 0;
        let outcome = stream.try_io(Interest::READABLE, || {
            let received = (&*SockRef::from(stream)).read(unfilled)?;
            if (1..unfilled.len()).contains(&received) {
                short = received;
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(received)
        });
        match outcome {
            Ok(received) => buffer.advance(received),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(error)),
            Err(_) if short > 0 => buffer.advance(short),
            Err(_) => continue,
        }
        return Poll::Ready(Ok(()));
    }
}

fn poll_write(stream: &TcpStream, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(cx))?;
        // One frame is the rule where little is said, and `send` costs the kernel a twentieth less than `writev`.
        let outcome = match slices {
            [slice] => stream.try_write(slice),
            slices => stream.try_write_vectored(slices),
        };
        match outcome {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            outcome => return Poll::Ready(outcome),
        }
    }
}

fn poll_write_end(stream: &TcpStream, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(cx))?;
        let send = || SockRef::from(stream).send_vectored_with_flags(slices, END_FOLLOWS);
        match stream.try_io(Interest::WRITABLE, send) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            outcome => return Poll::Ready(outcome),
        }
    }
}

/// Nothing may follow the goodbye: it is said only if everything went before it.
fn buffer_end(session: &mut ServerConnection, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
    let written = session.writer().write_vectored(slices)?;
    if written == slices.iter().map(|slice| slice.len()).sum::<usize>() {
        session.send_close_notify();
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;
    use std::time::Duration;

    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn the_last_words_leave_with_the_end() {
        // The kernel itself lets them go after a fifth of a second, which a busy machine may take between two lines here; words that
        // are not held back are there each time.
        let mut held = false;
        for _ in 0..3 {
            held |= last_words().await;
        }
        assert!(held || cfg!(not(any(target_os = "linux", target_os = "android"))), "they went ahead");
    }

    /// Whether the peer had heard nothing before the end.
    async fn last_words() -> bool {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (peer, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (mut peer, (ours, _)) = (peer.unwrap(), accepted.unwrap());
        ours.set_nodelay(true).unwrap();
        let mut socket = Socket::plain(ours);
        let slices = [io::IoSlice::new(b"good"), io::IoSlice::new(b"bye")];
        assert_eq!(poll_fn(|cx| socket.poll_write_end(cx, &slices)).await.unwrap(), 7);
        // Far less than the kernel would wait by itself.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let early = SockRef::from(&peer).peek(&mut [MaybeUninit::uninit()]);
        let held = early.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        poll_fn(|cx| socket.poll_shutdown(cx)).await.unwrap();
        let mut heard = Vec::new();
        timeout(Duration::from_secs(5), peer.read_to_end(&mut heard)).await.unwrap().unwrap();
        assert_eq!(heard, b"goodbye");
        held
    }
}
