//! /dev/fuse: one descriptor, one mount.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::abi::{self, Field, OUT_HEADER, OutHeader};
use super::reply::Reply;
use crate::sys;

/// The largest WRITE that the kernel may send.
pub(crate) const MAX_WRITE: u32 = 256 << 10;
/// The kernel wants room for a header and the largest WRITE; a request that does not fit fails by itself.
pub(crate) const BUFFER: usize = MAX_WRITE as usize + (64 << 10);

/// How long the next request is looked for before the thread sleeps. A program that goes from file to file asks again soon, and on a
/// virtual machine it takes 60 to 90 us more to be woken for that than to be there.
const LOOK: Duration = Duration::from_micros(200);
/// Requests that are slept for after looking in vain, at most: twice as many each time.
const MOST_SKIPPED: u32 = 64;
/// Time that may be spent with looking, and the part of all time by which it grows again: a program's start is the quicker, and
/// one that goes on asking takes no more than that of a processor.
const BUDGET: Duration = Duration::from_secs(1);
const REGAINED: u32 = 20;
/// Requests found by looking after which other tasks of the thread have their turn.
const YIELD: u32 = 16;

/// Whether to look for the next request.
struct Looking {
    budget: Duration,
    /// When the budget was reckoned up.
    reckoned: Instant,
    in_vain: u32,
    skip: u32,
    found: u32,
}

impl Looking {
    fn new() -> Self {
        // The only processor is the program's.
        let alone = std::thread::available_parallelism().is_ok_and(|processors| processors.get() == 1);
        Self {
            budget: if alone { Duration::ZERO } else { BUDGET },
            reckoned: Instant::now(),
            in_vain: 0,
            found: 0,
            skip: if alone { u32::MAX } else { 0 },
        }
    }

    /// Looks, from now on, by calling `once` again and again.
    fn look<T>(&mut self, mut once: impl FnMut() -> Option<T>) -> Option<T> {
        if self.skip > 0 {
            self.skip -= u32::from(self.skip < u32::MAX);
            return None;
        }
        let begun = Instant::now();
        let regained = (begun - self.reckoned) / REGAINED;
        (self.budget, self.reckoned) = ((self.budget + regained).min(BUDGET), begun);
        let mut found = None;
        let mut took = Duration::ZERO;
        while found.is_none() && took < LOOK.min(self.budget) {
            found = once();
            std::hint::spin_loop();
            took = begun.elapsed();
        }
        self.budget = self.budget.saturating_sub(took);
        self.found = self.found.wrapping_add(u32::from(found.is_some()));
        self.in_vain = match found {
            Some(_) => 0,
            None => (self.in_vain * 2 + 1).min(MOST_SKIPPED),
        };
        self.skip = self.in_vain;
        found
    }

    /// What is fetched early is tasks of this thread, too.
    fn is_turn_of_others(&self) -> bool {
        self.found.is_multiple_of(YIELD)
    }
}

/// The server's end of a FUSE connection. When the last descriptor of it is closed, the kernel fails every request of the
/// mount with `ENOTCONN`.
pub(crate) struct Device {
    fd: AsyncFd<OwnedFd>,
    looking: Mutex<Looking>,
}

/// Whether a reply arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    Done,
    /// Nobody waits for it any more.
    Unwanted,
}

impl Device {
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::fs::fcntl_setfl(&fd, rustix::fs::fcntl_getfl(&fd)? | rustix::fs::OFlags::NONBLOCK)?;
        Ok(Self {
            fd: sys::readable(fd)?,
            looking: Mutex::new(Looking::new()),
        })
    }

    /// The next request, its length in `buffer`; `None` when the mount is gone. `look`: before sleeping, for nobody waits for a task
    /// of this thread.
    pub(crate) async fn read(&self, buffer: &mut [u8], look: bool) -> io::Result<Option<usize>> {
        if look {
            let (found, turn) = {
                let mut looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
                (looking.look(|| self.take(buffer)), looking.is_turn_of_others())
            };
            if let Some(found) = found {
                if turn {
                    tokio::task::yield_now().await;
                }
                return found;
            }
        }
        loop {
            let mut ready = self.fd.ready(Interest::READABLE | Interest::ERROR).await?;
            match self.take(buffer) {
                Some(taken) => return taken,
                None => ready.clear_ready(),
            }
        }
    }

    /// What can be read at once.
    fn take(&self, buffer: &mut [u8]) -> Option<io::Result<Option<usize>>> {
        loop {
            match rustix::io::read(self.fd.get_ref(), &mut *buffer) {
                Ok(length) => return Some(Ok(Some(length))),
                Err(Errno::AGAIN) => return None,
                // A request that was taken back between poll and read.
                Err(Errno::NOENT | Errno::INTR) => {}
                Err(Errno::NODEV) => return Some(Ok(None)),
                Err(error) => return Some(Err(error.into())),
            }
        }
    }

    /// Has the kernel ask for a node's attributes again before it uses them.
    pub(crate) fn outdated(&self, node: u64) {
        let mut notice = Vec::new();
        OutHeader {
            length: 40,
            error: abi::NOTIFY_INVALID_INODE,
            unique: 0,
        }
        .write(&mut notice);
        abi::InvalidInodeOut {
            node,
            offset: abi::ATTRIBUTES_ONLY,
            length: 0,
        }
        .write(&mut notice);
        // It may not know the node any more, and the mount may be gone.
        let _ = rustix::io::write(self.fd.get_ref(), &notice);
    }

    /// Answers a request.
    pub(crate) fn write(&self, unique: u64, reply: &Reply) -> Delivery {
        let (error, parts) = match reply {
            Reply::Failed(errno) => (-errno.0, [].as_slice()),
            Reply::Data(parts) => (0, parts.as_slice()),
        };
        let length = OUT_HEADER + parts.iter().map(bytes::Bytes::len).sum::<usize>();
        let mut header = Vec::with_capacity(OUT_HEADER);
        OutHeader {
            length: u32::try_from(length).unwrap_or(u32::MAX),
            error,
            unique,
        }
        .write(&mut header);
        let mut slices = Vec::with_capacity(1 + parts.len());
        slices.push(IoSlice::new(&header));
        slices.extend(parts.iter().map(|part| IoSlice::new(part)));
        match rustix::io::writev(self.fd.get_ref(), &slices) {
            Ok(_) => Delivery::Done,
            // ENOENT: interrupted or aborted meanwhile; ENODEV: unmounted. The read loop ends on its own.
            Err(Errno::NOENT | Errno::NODEV | Errno::PERM) => Delivery::Unwanted,
            Err(errno) => {
                tracing::warn!(%errno, unique, length, "the kernel refused a FUSE reply");
                if error == 0 {
                    // Or the request would wait for ever.
                    return match self.write(unique, &Reply::Failed(crate::Errno::IO)) {
                        Delivery::Done | Delivery::Unwanted => Delivery::Unwanted,
                    };
                }
                Delivery::Unwanted
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_in_vain_is_done_ever_more_seldom_and_within_its_budget() {
        let mut looking = Looking {
            skip: 0,
            budget: BUDGET,
            ..Looking::new()
        };
        let mut looked = Vec::new();
        for request in 0..200 {
            let mut once = || {
                if looked.last() != Some(&request) {
                    looked.push(request);
                }
                None::<()>
            };
            assert_eq!(looking.look(&mut once), None);
        }
        assert_eq!(looked, [0, 2, 6, 14, 30, 62, 126, 191]);
        looking.skip = 0;
        assert_eq!(looking.look(|| Some(1)), Some(1));
        assert_eq!(looking.look(|| Some(2)), Some(2));
        // Of what is spent a twentieth is there again by then.
        let begun = Instant::now();
        while begun.elapsed() < 3 * BUDGET && !looking.budget.is_zero() {
            looking.skip = 0;
            looking.look(|| None::<()>);
        }
        assert!(looking.budget.is_zero());
    }
}
