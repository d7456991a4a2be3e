//! Receive buffers that exist only while they hold bytes.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use crate::http1::MAX_HEAD;

/// The size of every buffer: the longest head must fit.
const SIZE: usize = MAX_HEAD;
/// Spare buffers that each thread keeps; idle connections hold none, so few are enough.
const SPARE: usize = 16;

thread_local! {
    static FREE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes received and not yet forwarded, in one piece.
#[derive(Default)]
pub(super) struct Buffer {
    /// Empty while nothing is held.
    data: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.data[self.start..self.end]
    }

    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() == SIZE
    }

    /// Forgets the first `count` bytes.
    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end);
        if self.is_empty() {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Reads once behind what is held; must not be full. Ready with 0 at the end of the stream.
    pub(super) fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        io: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.data.is_empty() {
            self.data = take();
        } else if self.end == SIZE {
            self.data.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let mut room = ReadBuf::new(&mut self.data[self.end..]);
        let read = Pin::new(io).poll_read(cx, &mut room);
        let count = room.filled().len();
        if !matches!(read, Poll::Ready(Ok(()))) || count == 0 {
            self.release_if_empty();
        }
        ready!(read)?;
        self.end += count;
        Poll::Ready(Ok(count))
    }

    fn release_if_empty(&mut self) {
        if self.is_empty() {
            give(std::mem::take(&mut self.data));
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        give(std::mem::take(&mut self.data));
    }
}

fn take() -> Box<[u8]> {
    let spare = FREE.try_with(|free| free.borrow_mut().pop()).ok().flatten();
    spare.unwrap_or_else(|| vec![0; SIZE].into_boxed_slice())
}

fn give(data: Box<[u8]>) {
    if data.is_empty() {
        return;
    }
    // A thread that is ending has no list any more: the buffer is freed.
    let _ = FREE.try_with(|free| {
        let mut free = free.borrow_mut();
        if free.len() < SPARE {
            free.push(data);
        }
    });
}
