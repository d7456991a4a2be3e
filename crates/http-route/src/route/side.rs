//! One connection with what was received on it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::buffer::Buffer;
use crate::Connection;

pub(super) struct Side<S> {
    pub(super) io: S,
    pub(super) received: Buffer,
    /// The peer's direction has ended, by an end or an error.
    pub(super) ended: bool,
    /// Our direction has been ended.
    shut: bool,
    /// Bytes were written since the last flush.
    unflushed: bool,
}

impl<S: Connection> Side<S> {
    pub(super) fn new(io: S) -> Self {
        Self {
            io,
            received: Buffer::default(),
            ended: false,
            shut: false,
            unflushed: false,
        }
    }

    /// Reads once; ready when bytes were added or the stream has ended. The buffer must not be full.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let read = ready!(self.received.poll_fill(&mut self.io, cx));
        self.ended |= !matches!(read, Ok(1..));
        Poll::Ready(read.map(|_| ()))
    }

    /// Writes once; never ready with 0.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match ready!(Pin::new(&mut self.io).poll_write(cx, bytes))? {
            0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            count => {
                self.unflushed = true;
                Poll::Ready(Ok(count))
            }
        }
    }

    /// Ready when everything written is on its way.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Ends our direction, once.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            self.shut = true;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Nothing was received and the stream has not ended, as far as can be seen without waiting. The buffer must not be
    /// full.
    pub(super) async fn is_quiet(&mut self) -> bool {
        poll_fn(|cx| Poll::Ready(self.poll_fill(cx).is_pending())).await
    }

    /// Ends our direction and reads, for a while, what the peer still sends: a socket that is closed with unread bytes
    /// resets the connection, and the peer may lose what it has not read yet.
    pub(super) async fn end(mut self, patience: Duration) {
        let end = poll_fn(|cx| {
            if ready!(self.poll_shutdown(cx)).is_err() {
                return Poll::Ready(());
            }
            while !self.ended {
                let unread = self.received.len();
                self.received.consume(unread);
                if ready!(self.poll_fill(cx)).is_err() {
                    break;
                }
            }
            Poll::Ready(())
        });
        // Patience is all there is to lose.
        let _ = tokio::time::timeout(patience, end).await;
    }
}

/// An upstream of either kind.
pub(super) enum Link<R, S> {
    Real(R),
    Session(S),
}

macro_rules! delegate {
    ($self:ident, $call:ident ( $($argument:expr),* )) => {
        match $self.get_mut() {
            Link::Real(io) => Pin::new(io).$call($($argument),*),
            Link::Session(io) => Pin::new(io).$call($($argument),*),
        }
    };
}

impl<R: Connection, S: Connection> Connection for Link<R, S> {
    fn reset(&mut self) {
        match self {
            Self::Real(io) => io.reset(),
            Self::Session(io) => io.reset(),
        }
    }
}

impl<R: Connection, S: Connection> AsyncRead for Link<R, S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        delegate!(self, poll_read(cx, room))
    }
}

impl<R: Connection, S: Connection> AsyncWrite for Link<R, S> {
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
