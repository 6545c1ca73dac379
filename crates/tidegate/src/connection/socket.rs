//! The socket under a connection: plain TCP, TLS over it, or whatever stream an embedder's server upgraded.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::unsent;

/// What is read at first: more than the head of a usual request.
const FIRST_BYTES: usize = 4096;

/// A stream that is neither ours nor plain TCP.
pub(crate) trait Foreign: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Foreign for S {}

/// The socket under a connection.
pub(crate) enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Foreign(Box<dyn Foreign>),
}

impl Socket {
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
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Foreign(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }

    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Foreign(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
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
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
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
