//! One stream of a link.
//!
//! On a yamux stream a reset reads like a close, and a stream that is dropped after its own close resets nothing. So the end
//! of a direction is said in band and yamux' own close is not used: data goes in chunks, each behind its length (2 bytes, big
//! endian); length 0 ends the direction; 0xffff says nothing but that the stream was taken up. Whatever else ends a stream,
//! a dropped peer or a lost link, is an error to its reader.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker, ready};

use futures::io::{AsyncRead as _, AsyncWrite as _};
use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;

use crate::LinkError;
use crate::link::Owner;
use crate::mux::MAX_FRAME;
use crate::underway::Hold;

const HEADER: usize = 2;
const MAX_CHUNK: usize = MAX_FRAME - HEADER;
/// Who copies much into a stream does it in pieces of this size: two full frames.
pub const BULK: usize = 2 * MAX_CHUNK;
const END: u16 = 0;
const TAKEN_UP: u16 = u16::MAX;

/// A stream with half-close: `shutdown` ends the own direction. Dropped before both directions have ended, it is reset for
/// the other end, which may still read what had been sent.
pub struct Stream {
    inner: yamux::Stream,
    owner: Arc<Owner>,
    reading: Reading,
    /// What yamux had no window for yet: at most one chunk.
    pending: Vec<u8>,
    pushed: usize,
    finished: bool,
    wakers: Arc<BothWakers>,
    wake_both: Waker,
    /// On the own direction, until all of it is yamux'.
    sending: Option<Hold>,
    /// On the other one, until its end or its break was read.
    receiving: Option<Hold>,
    _slot: Option<OwnedSemaphorePermit>,
}

enum Reading {
    Header { bytes: [u8; HEADER], have: usize },
    Chunk { left: usize },
    Ended,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Stream")
            .field("id", &self.inner.id())
            .finish_non_exhaustive()
    }
}

/// The read half of a split [`Stream`].
pub type ReadHalf = tokio::io::ReadHalf<Stream>;
/// The write half of a split [`Stream`].
pub type WriteHalf = tokio::io::WriteHalf<Stream>;

impl Stream {
    pub(crate) fn new(inner: yamux::Stream, owner: Arc<Owner>, slot: Option<OwnedSemaphorePermit>) -> Self {
        let wakers = Arc::new(BothWakers::default());
        Self {
            inner,
            owner,
            reading: Reading::Header {
                bytes: [0; HEADER],
                have: 0,
            },
            pending: Vec::new(),
            pushed: 0,
            finished: false,
            wake_both: Waker::from(Arc::clone(&wakers)),
            wakers,
            sending: None,
            receiving: None,
            _slot: slot,
        }
    }

    /// Two halves for two tasks; the stream is dropped with the second.
    #[must_use]
    pub fn split(self) -> (ReadHalf, WriteHalf) {
        tokio::io::split(self)
    }

    /// Keeps `hold` until the own direction has ended and all of it is handed over, or nothing more can be.
    pub fn hold_sending(&mut self, hold: Hold) {
        self.sending = Some(hold);
    }

    /// Keeps `hold` until the other end's direction was read to its end, or to where it breaks.
    pub fn hold_receiving(&mut self, hold: Hold) {
        self.receiving = Some(hold);
    }

    /// What [`Self::hold_receiving`] was given, for one who has still something to do when the end was read.
    #[must_use]
    pub fn receiving(&self) -> Option<Hold> {
        self.receiving.clone()
    }

    /// Waits for the end of the link that carries this stream.
    pub(crate) fn owner(&self) -> &Arc<Owner> {
        &self.owner
    }

    /// Lets yamux acknowledge the stream: it stops opening more at 256 unacknowledged ones.
    pub(crate) fn acknowledge(&mut self) {
        self.pending.extend_from_slice(&TAKEN_UP.to_be_bytes());
        // Nothing else is queued on a new stream, so it is handed over at once; if the link is gone, the next call says so.
        let _ = self.poll_push();
    }

    /// Hands over what is pending. Wakes both the reader and the writer: either may be the one that pushes.
    fn poll_push(&mut self) -> Poll<io::Result<()>> {
        let mut context = Context::from_waker(&self.wake_both);
        while self.pushed < self.pending.len() {
            let result = Pin::new(&mut self.inner).poll_write(&mut context, &self.pending[self.pushed..]);
            match ready!(result) {
                Ok(count) => self.pushed += count,
                Err(_) => {
                    self.sending = None;
                    return Poll::Ready(Err(broken(&self.owner)));
                }
            }
            if let Some(sending) = &self.sending {
                sending.moved();
            }
        }
        if self.finished {
            self.sending = None;
        }
        // Idle streams are many: they keep no buffer.
        self.pending = Vec::new();
        self.pushed = 0;
        Poll::Ready(Ok(()))
    }

    /// Reads raw bytes; 0 never comes back: it would be the end without the in-band mark.
    fn poll_raw(&mut self, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut context = Context::from_waker(&self.wake_both);
        match ready!(Pin::new(&mut self.inner).poll_read(&mut context, into)) {
            Ok(count) if count > 0 => {
                if let Some(receiving) = &self.receiving {
                    receiving.moved();
                }
                Poll::Ready(Ok(count))
            }
            _ => {
                self.receiving = None;
                Poll::Ready(Err(broken(&self.owner)))
            }
        }
    }

    /// One step: `true` when bytes were delivered or the direction has ended.
    fn poll_step(&mut self, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        match self.reading {
            Reading::Ended => Poll::Ready(Ok(true)),
            Reading::Chunk { left } => {
                let room = left.min(buffer.remaining());
                let count = ready!(self.poll_raw(buffer.initialize_unfilled_to(room)))?;
                buffer.advance(count);
                self.reading = if count == left {
                    Reading::Header {
                        bytes: [0; HEADER],
                        have: 0,
                    }
                } else {
                    Reading::Chunk { left: left - count }
                };
                Poll::Ready(Ok(true))
            }
            Reading::Header { mut bytes, have } => {
                let have = have + ready!(self.poll_raw(&mut bytes[have..]))?;
                self.reading = if have < HEADER {
                    Reading::Header { bytes, have }
                } else {
                    match u16::from_be_bytes(bytes) {
                        END => {
                            self.receiving = None;
                            Reading::Ended
                        }
                        TAKEN_UP => Reading::Header {
                            bytes: [0; HEADER],
                            have: 0,
                        },
                        length => Reading::Chunk {
                            left: usize::from(length),
                        },
                    }
                };
                Poll::Ready(Ok(false))
            }
        }
    }
}

/// The stream's error: the link's, where that has ended.
fn broken(owner: &Owner) -> io::Error {
    owner.shared.reason().unwrap_or(LinkError::Reset).into()
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.wakers.reader.register(context.waker());
        // Who waits for an answer without having flushed still gets the question sent. Its failure is the writer's to see.
        let _ = this.poll_push();
        let before = buffer.filled().len();
        while buffer.remaining() > 0 {
            match this.poll_step(buffer) {
                Poll::Ready(Ok(_)) if matches!(this.reading, Reading::Ended) => break,
                Poll::Ready(Ok(_)) => {}
                // What was read before is delivered first; the error or the wait comes with the next call.
                _ if buffer.filled().len() > before => break,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        this.wakers.writer.register(context.waker());
        ready!(this.poll_push())?;
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if let Some(reason) = this.owner.shared.reason() {
            return Poll::Ready(Err(reason.into()));
        }
        ready!(this.owner.shared.gate.poll(context));
        let count = bytes.len().min(MAX_CHUNK);
        let length = u16::try_from(count).map_err(io::Error::other)?;
        this.pending.reserve(HEADER + count);
        this.pending.extend_from_slice(&length.to_be_bytes());
        this.pending.extend_from_slice(&bytes[..count]);
        // Accepted whether or not yamux has window for all of it: the rest goes with the next call of any kind.
        if let Poll::Ready(Err(error)) = this.poll_push() {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.wakers.writer.register(context.waker());
        this.poll_push()
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.wakers.writer.register(context.waker());
        if !this.finished {
            ready!(this.poll_push())?;
            this.pending.extend_from_slice(&END.to_be_bytes());
            this.finished = true;
        }
        this.poll_push()
    }
}

/// yamux keeps one waker a stream and direction, but reader and writer may both be waiting for the same thing.
#[derive(Default)]
struct BothWakers {
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Wake for BothWakers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.reader.wake();
        self.writer.wake();
    }
}
