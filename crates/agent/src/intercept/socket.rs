//! One end of a redirected connection: a TCP connection, or what is inside its TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_route::Connection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

pub(super) enum Socket {
    Plain(TcpStream),
    Tls {
        stream: tls::Stream<TcpStream>,
        /// Decrypted, looked at, and not read yet.
        seen: Vec<u8>,
    },
}

impl Socket {
    pub(super) fn terminated(stream: tls::Stream<TcpStream>) -> Self {
        Self::Tls {
            stream,
            seen: Vec::new(),
        }
    }

    /// Waits for bytes and copies what has come, without taking it; 0 at the end.
    ///
    /// # Errors
    /// When the connection breaks.
    pub(super) async fn peek(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let (stream, seen) = match self {
            Self::Plain(stream) => return stream.peek(bytes).await,
            Self::Tls { stream, seen } => (stream, seen),
        };
        std::future::poll_fn(|cx| {
            while seen.len() < bytes.len() {
                let mut more = [0; 1 << 10];
                let room = more.len().min(bytes.len() - seen.len());
                let mut buffer = ReadBuf::new(&mut more[..room]);
                match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
                    Poll::Ready(Ok(())) if buffer.filled().is_empty() => break,
                    Poll::Ready(Ok(())) => seen.extend_from_slice(buffer.filled()),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending if seen.is_empty() => return Poll::Pending,
                    Poll::Pending => break,
                }
            }
            let count = seen.len().min(bytes.len());
            bytes[..count].copy_from_slice(&seen[..count]);
            Poll::Ready(Ok(count))
        })
        .await
    }

    pub(super) fn transport(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls { stream, .. } => stream.transport(),
        }
    }
}

impl Connection for Socket {
    fn reset(&mut self) {
        // A socket that is gone needs no reset.
        let _ = self.transport().set_zero_linger();
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls { stream, seen } if seen.is_empty() => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls { seen, .. } => {
                let count = seen.len().min(buffer.remaining());
                buffer.put_slice(&seen[..count]);
                seen.drain(..count);
                Poll::Ready(Ok(()))
            }
        }
    }
}

macro_rules! delegate {
    ($self:ident, $call:ident ( $($argument:expr),* )) => {
        match $self.get_mut() {
            Socket::Plain(stream) => Pin::new(stream).$call($($argument),*),
            Socket::Tls { stream, .. } => Pin::new(stream).$call($($argument),*),
        }
    };
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self, poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, poll_shutdown(cx))
    }
}
