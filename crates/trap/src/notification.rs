//! One trapped call, which must be answered exactly once.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

use crate::memory::{Memory, Pointer};
use crate::sys::seccomp::{self, Received};

/// The descriptor on which trapped calls arrive.
#[derive(Debug)]
pub(crate) struct Listener {
    descriptor: OwnedFd,
}

impl Listener {
    pub(crate) fn new(descriptor: OwnedFd) -> Self {
        Self { descriptor }
    }

    pub(crate) fn synchronous_wake_up(&self) -> bool {
        seccomp::synchronous_wake_up(self.descriptor.as_fd()).is_ok()
    }

    /// The next call, or `None` when nobody uses the filter any more.
    pub(crate) fn next(self: &Arc<Self>) -> Option<Pending> {
        loop {
            match seccomp::receive(self.descriptor.as_fd()) {
                Ok(received) => {
                    return Some(Pending {
                        received,
                        listener: self.clone(),
                        answered: false,
                    });
                }
                Err(_) if seccomp::is_orphaned(self.descriptor.as_fd()) => return None,
                // The caller died before it was read, or a signal came.
                Err(Errno::NOENT | Errno::INTR) => {}
                Err(_) => return None,
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// The call no longer waits: a signal interrupted it, or its thread is gone. What was to be delivered was not.
#[derive(Debug)]
pub(crate) struct Gone;

/// A trapped call that waits. Dropped without an answer it fails with EIO, so no guest ever hangs on a fault of ours.
#[derive(Debug)]
pub(crate) struct Pending {
    received: Received,
    listener: Arc<Listener>,
    answered: bool,
}

impl Pending {
    pub(crate) fn tid(&self) -> u32 {
        self.received.tid
    }

    pub(crate) fn number(&self) -> i64 {
        self.received.number
    }

    pub(crate) fn argument(&self, index: usize) -> u64 {
        self.received.arguments[index]
    }

    /// An argument that is a C `int`: its upper half is not looked at, as in the kernel.
    pub(crate) fn int(&self, index: usize) -> i32 {
        self.received.arguments[index] as i32
    }

    pub(crate) fn pointer(&self, index: usize) -> Pointer {
        Pointer(self.received.arguments[index])
    }

    pub(crate) fn memory(&self) -> Memory {
        Memory::of(self.received.tid)
    }

    /// Whether it still waits; only then do its thread id and descriptors mean what they meant.
    pub(crate) fn is_alive(&self) -> bool {
        seccomp::is_valid(self.listener.as_fd(), self.received.id)
    }

    /// The kernel runs the call as it is.
    pub(crate) fn proceed(mut self) {
        self.answered = true;
        // An undelivered "go on" needs no undoing.
        let _ = seccomp::proceed(self.listener.as_fd(), self.received.id);
    }

    pub(crate) fn fail(self, errno: Errno) {
        self.finish(Err(errno));
    }

    /// Ends the call with a value or an errno.
    pub(crate) fn deliver(mut self, result: Result<i64, Errno>) -> Result<(), Gone> {
        self.answered = true;
        seccomp::respond(self.listener.as_fd(), self.received.id, result).map_err(|_| Gone)
    }

    /// Ends the call with a value or an errno; whether it was delivered does not matter to the caller.
    pub(crate) fn finish(self, result: Result<i64, Errno>) {
        let _ = self.deliver(result);
    }

    /// Installs the descriptor in the guest and returns its number from the call, atomically.
    pub(crate) fn descriptor(mut self, descriptor: &OwnedFd, close_on_exec: bool) -> Result<(), Gone> {
        self.answered = true;
        let (listener, id) = (self.listener.as_fd(), self.received.id);
        match seccomp::respond_with_descriptor(listener, id, descriptor.as_fd(), close_on_exec) {
            Ok(()) => Ok(()),
            Err(Errno::NOENT) => Err(Gone),
            Err(errno) => {
                let _ = seccomp::respond(listener, id, Err(errno));
                Err(Gone)
            }
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.answered {
            let _ = seccomp::respond(self.listener.as_fd(), self.received.id, Err(Errno::IO));
        }
    }
}
