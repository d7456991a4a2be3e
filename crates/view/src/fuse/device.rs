//! /dev/fuse: one descriptor, one mount.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;

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

/// The server's end of a FUSE connection. When the last descriptor of it is closed, the kernel fails every request of the
/// mount with `ENOTCONN`.
pub(crate) struct Device {
    fd: AsyncFd<OwnedFd>,
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
        Ok(Self { fd: sys::readable(fd)? })
    }

    /// The next request, its length in `buffer`; `None` when the mount is gone.
    pub(crate) async fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            let mut ready = self.fd.ready(Interest::READABLE | Interest::ERROR).await?;
            match rustix::io::read(self.fd.get_ref(), &mut *buffer) {
                Ok(length) => return Ok(Some(length)),
                Err(Errno::AGAIN) => ready.clear_ready(),
                // A request that was taken back between poll and read.
                Err(Errno::NOENT | Errno::INTR) => {}
                Err(Errno::NODEV) => return Ok(None),
                Err(error) => return Err(error.into()),
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
