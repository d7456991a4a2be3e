//! Two descriptors as a transport: the stdio of an exec, of a child process, or of a test.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::Shutdown;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a pipe is asked to hold, in bytes; its default of 64 KiB costs throughput.
const PIPE: usize = 1 << 20;

/// Reads one descriptor and writes another: pipes, sockets or terminals.
#[derive(Debug)]
pub(crate) struct Descriptors {
    input: AsyncFd<OwnedFd>,
    output: Option<AsyncFd<OwnedFd>>,
}

impl Descriptors {
    /// # Errors
    /// When one of them cannot be waited for, as a regular file.
    pub(crate) fn new(input: OwnedFd, output: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            input: prepare(input)?,
            output: Some(prepare(output)?),
        })
    }
}

fn prepare(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    let flags = fcntl_getfl(&fd)?;
    fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
    // Not a pipe, or over the user's limit: as it is, then.
    let _ = rustix::pipe::fcntl_setpipe_size(&fd, PIPE);
    crate::sys::watch(fd)
}

impl AsyncRead for Descriptors {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.input.poll_read_ready(context))?;
            let read = guard.try_io(|fd| Ok(rustix::io::read(fd, buffer.initialize_unfilled())?));
            match read {
                Ok(Ok(count)) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Descriptors {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Some(output) = &self.output else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        loop {
            let mut guard = ready!(output.poll_write_ready(context))?;
            match guard.try_io(|fd| Ok(rustix::io::write(fd, bytes)?)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(output) = self.output.take() {
            match rustix::net::shutdown(output.get_ref().as_fd(), Shutdown::Write) {
                // A pipe is ended by closing it, which dropping does.
                Ok(()) | Err(Errno::NOTSOCK | Errno::NOTCONN) => {}
                Err(errno) => return Poll::Ready(Err(errno.into())),
            }
        }
        Poll::Ready(Ok(()))
    }
}
