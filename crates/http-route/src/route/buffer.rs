//! Receive buffers that exist only while they hold bytes.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use crate::http1::MAX_HEAD;

/// The longest head must fit.
const SIZE: usize = MAX_HEAD;
/// Enough for what most connections say at a time; one that says more gets the full size, until it says less again.
const SMALL: usize = 4 << 10;
/// Spare buffers of each size that each thread keeps; idle connections hold none, so few are enough.
const SPARE: usize = 16;

thread_local! {
    static FREE: [RefCell<Vec<Box<[u8]>>>; 2] = const { [RefCell::new(Vec::new()), RefCell::new(Vec::new())] };
}

/// Bytes received and not yet forwarded, in one piece.
#[derive(Default)]
pub(super) struct Buffer {
    /// Empty while nothing is held.
    data: Box<[u8]>,
    start: usize,
    end: usize,
    /// The last read took as much as a small one has room for.
    large: bool,
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
            self.data = take(if self.large { SIZE } else { SMALL });
        } else if self.end == self.data.len() || (self.large && self.data.len() < SIZE) {
            self.make_room();
        }
        let mut room = ReadBuf::new(&mut self.data[self.end..]);
        let read = Pin::new(io).poll_read(cx, &mut room);
        let count = room.filled().len();
        if !matches!(read, Poll::Ready(Ok(()))) || count == 0 {
            self.release_if_empty();
        }
        ready!(read)?;
        self.end += count;
        self.large = count >= SMALL;
        Poll::Ready(Ok(count))
    }

    fn make_room(&mut self) {
        if self.data.len() < SIZE {
            let mut larger = take(SIZE);
            larger[..self.len()].copy_from_slice(self.bytes());
            give(std::mem::replace(&mut self.data, larger));
        } else {
            self.data.copy_within(self.start..self.end, 0);
        }
        self.end -= self.start;
        self.start = 0;
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

fn take(size: usize) -> Box<[u8]> {
    let spare = FREE.try_with(|free| free[usize::from(size == SIZE)].borrow_mut().pop());
    spare.ok().flatten().unwrap_or_else(|| vec![0; size].into_boxed_slice())
}

fn give(data: Box<[u8]>) {
    if data.is_empty() {
        return;
    }
    // A thread that is ending has no list any more: the buffer is freed.
    let _ = FREE.try_with(|free| {
        let mut free = free[usize::from(data.len() == SIZE)].borrow_mut();
        if free.len() < SPARE {
            free.push(data);
        }
    });
}
