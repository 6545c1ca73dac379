//! A socket with what was read from it already, for an HTTP server that is to read it first.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Socket;

/// A socket with what was read from it already.
pub(crate) struct Prefixed {
    prefix: Bytes,
    socket: Socket,
}

impl Prefixed {
    pub(crate) const fn new(prefix: Bytes, socket: Socket) -> Self {
        Self { prefix, socket }
    }

    /// The socket, and what of the prefix nobody has read.
    pub(crate) fn into_parts(self) -> (Bytes, Socket) {
        (self.prefix, self.socket)
    }
}

impl AsyncRead for Prefixed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return self.socket.poll_read(cx, buffer);
        }
        let count = self.prefix.len().min(buffer.remaining());
        buffer.put_slice(&self.prefix[..count]);
        self.prefix.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.socket.poll_write(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.socket.poll_write(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn the_prefix_comes_first_and_its_rest_is_not_lost() {
        let (mut peer, socket) = tokio::io::duplex(64);
        let mut stream = Prefixed::new(Bytes::from_static(b"before"), Socket::Foreign(Box::new(socket)));
        peer.write_all(b"after").await.unwrap();
        let mut read = [0; 4];
        stream.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"befo");
        let (rest, socket) = stream.into_parts();
        assert_eq!(rest, "re");
        let mut whole = [0; 7];
        Prefixed::new(rest, socket).read_exact(&mut whole).await.unwrap();
        assert_eq!(&whole, b"reafter");
    }
}
