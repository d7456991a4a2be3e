//! Between the mux and the transport: small writes are gathered, and who writes faster than the transport takes is held back
//! here rather than in the mux.
//!
//! yamux writes a frame's header and body apart and stops reading while an answer to a ping cannot be written; two ends that
//! saturate both directions could then wait for each other for ever. So towards yamux a write always succeeds, and streams
//! ask [`Gate`] before they hand over more.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::BoxTransport;

/// Bytes that may wait for the transport before streams are held back.
const HIGH: usize = 256 << 10;
/// Below this they may go on.
const LOW: usize = 128 << 10;
/// From here on a write is passed to the transport without waiting for more to join it.
const GATHER: usize = 64 << 10;
/// What is read from the transport at once, in bytes.
const READ: usize = 64 << 10;

/// Holds writers back while too much waits for the transport.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    waiting_bytes: AtomicUsize,
    open: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
}

impl Gate {
    /// Ready when another chunk may be handed over.
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<()> {
        if self.passes() {
            return Poll::Ready(());
        }
        let mut wakers = lock(&self.wakers);
        if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            wakers.push(context.waker().clone());
        }
        // Checked again under the lock: `set` wakes under it.
        if self.passes() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn passes(&self) -> bool {
        self.open.load(Ordering::Acquire) || self.waiting_bytes.load(Ordering::Acquire) < HIGH
    }

    fn set(&self, bytes: usize) {
        self.waiting_bytes.store(bytes, Ordering::Release);
        if bytes < LOW {
            self.wake();
        }
    }

    /// The link has ended: nobody is held back any more, their next call says why.
    pub(crate) fn release(&self) {
        self.open.store(true, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        for waker in lock(&self.wakers).drain(..) {
            waker.wake();
        }
    }
}

/// The transport with its buffers; shared by yamux and the task that drives it, which are one task.
pub(crate) struct Outbox {
    transport: BoxTransport,
    filling: Vec<u8>,
    draining: Vec<u8>,
    drained: usize,
    needs_flush: bool,
    read: Box<[u8]>,
    read_at: usize,
    read_end: usize,
    pulse: Arc<Pulse>,
    gate: Arc<Gate>,
}

/// When the last byte came in.
#[derive(Debug)]
pub(crate) struct Pulse {
    start: Instant,
    /// Milliseconds after `start`.
    last: AtomicU64,
}

impl Pulse {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            last: AtomicU64::new(0),
        }
    }

    fn beat(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    pub(crate) fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }

    pub(crate) fn silent_for(&self) -> Duration {
        self.last().elapsed()
    }
}

/// The handle that yamux owns; the driver keeps a second one.
#[derive(Clone)]
pub(crate) struct SharedOutbox(Arc<Mutex<Outbox>>);

impl SharedOutbox {
    pub(crate) fn new(transport: BoxTransport, gate: Arc<Gate>, pulse: Arc<Pulse>) -> Self {
        Self(Arc::new(Mutex::new(Outbox {
            transport,
            filling: Vec::new(),
            draining: Vec::new(),
            drained: 0,
            needs_flush: false,
            read: vec![0; READ].into_boxed_slice(),
            read_at: 0,
            read_end: 0,
            pulse,
            gate,
        })))
    }

    /// Passes on what waits; ready when everything has been taken and flushed.
    pub(crate) fn poll_drain(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.0).poll_drain(context)
    }
}

impl Outbox {
    fn waiting(&self) -> usize {
        self.filling.len() + self.draining.len() - self.drained
    }

    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.drained == self.draining.len() {
                self.draining.clear();
                self.drained = 0;
                if self.filling.is_empty() {
                    break;
                }
                std::mem::swap(&mut self.draining, &mut self.filling);
            }
            let count = match Pin::new(&mut self.transport).poll_write(context, &self.draining[self.drained..]) {
                Poll::Pending => {
                    self.gate.set(self.waiting());
                    return Poll::Pending;
                }
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(result) => result?,
            };
            self.drained += count;
            self.needs_flush = true;
        }
        self.shrink();
        self.gate.set(0);
        if self.needs_flush {
            ready!(Pin::new(&mut self.transport).poll_flush(context))?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }

    /// A burst's buffers do not stay for the life of the link.
    fn shrink(&mut self) {
        for buffer in [&mut self.filling, &mut self.draining] {
            if buffer.capacity() > HIGH * 2 {
                *buffer = Vec::new();
            }
        }
    }
}

impl futures::io::AsyncRead for SharedOutbox {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut guard = lock(&self.0);
        let outbox = &mut *guard;
        if outbox.read_at == outbox.read_end {
            // A large body goes straight where it belongs.
            if into.len() >= READ {
                let mut buffer = ReadBuf::new(into);
                ready!(Pin::new(&mut outbox.transport).poll_read(context, &mut buffer))?;
                outbox.pulse.beat();
                return Poll::Ready(Ok(buffer.filled().len()));
            }
            let mut buffer = ReadBuf::new(&mut outbox.read);
            ready!(Pin::new(&mut outbox.transport).poll_read(context, &mut buffer))?;
            outbox.read_end = buffer.filled().len();
            outbox.read_at = 0;
            outbox.pulse.beat();
        }
        let count = into.len().min(outbox.read_end - outbox.read_at);
        into[..count].copy_from_slice(&outbox.read[outbox.read_at..outbox.read_at + count]);
        outbox.read_at += count;
        Poll::Ready(Ok(count))
    }
}

impl futures::io::AsyncWrite for SharedOutbox {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut outbox = lock(&self.0);
        outbox.filling.extend_from_slice(bytes);
        outbox.gate.set(outbox.waiting());
        Poll::Ready(Ok(bytes.len()))
    }

    /// yamux flushes after each frame; only a larger amount is passed on here, the driver passes on the rest.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outbox = lock(&self.0);
        if outbox.waiting() >= GATHER
            && let Poll::Ready(Err(error)) = outbox.poll_drain(context)
        {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outbox = lock(&self.0);
        ready!(outbox.poll_drain(context))?;
        Pin::new(&mut outbox.transport).poll_shutdown(context)
    }
}

/// A panic elsewhere leaves these values whole: they are only moved and counted.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
