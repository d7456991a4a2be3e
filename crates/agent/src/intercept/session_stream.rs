//! A stream to a session, whose drop is an orderly end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_route::Connection;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::runtime::Handle;
use wire::Stream;

/// How long the local app has to end its side after ours has ended; what it still says is for nobody.
const LINGER: Duration = Duration::from_secs(30);

/// A wire stream that is dropped unfinished is reset. This one first says its end, as a socket's drop does, unless
/// [`Connection::reset`] was called.
pub(super) struct SessionStream {
    /// Gone once it was handed on.
    stream: Option<Stream>,
    /// Nothing is left to be said in this direction.
    finished: bool,
    ended: bool,
}

impl SessionStream {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream: Some(stream),
            finished: false,
            ended: false,
        }
    }

    pub(super) fn into_inner(mut self) -> Stream {
        self.stream.take().expect("it is only taken here and by the drop")
    }

    fn inner(&mut self) -> io::Result<Pin<&mut Stream>> {
        self.stream
            .as_mut()
            .map(Pin::new)
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Connection for SessionStream {
    fn reset(&mut self) {
        self.stream = None;
    }
}

impl Drop for SessionStream {
    fn drop(&mut self) {
        let Some(mut stream) = self.stream.take() else { return };
        if self.finished && self.ended {
            return;
        }
        // Without a runtime this process is ending, and its link with it.
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            let end = async {
                stream.shutdown().await?;
                let mut unwanted = vec![0; 4 << 10];
                while stream.read(&mut unwanted).await? > 0 {}
                io::Result::Ok(())
            };
            // An app that does not end is reset by the drop, and a broken stream needs nothing more.
            let _ = tokio::time::timeout(LINGER, end).await;
        });
    }
}

impl AsyncRead for SessionStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (before, room) = (buffer.filled().len(), buffer.remaining());
        ready!(self.inner()?.poll_read(cx, buffer))?;
        self.ended |= room > 0 && buffer.filled().len() == before;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SessionStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.inner()?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.inner()?.poll_shutdown(cx))?;
        self.finished = true;
        Poll::Ready(Ok(()))
    }
}
