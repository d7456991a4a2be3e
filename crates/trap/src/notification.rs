//! One stopped call, which must be answered exactly once.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use guest::forward::{Reply, Request};
use rustix::event::epoll::EventFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::forwarded::Conversation;
use crate::memory::{Memory, Pointer};
use crate::sys::seccomp::{self, Received};
use crate::task::Task;

/// The kernel drops a reply that it took in the very moment in which a signal wakes the caller (seccomp.c,
/// `seccomp_do_user_notification`), so a thread that repeats a call word for word within this time was not told of it.
pub(crate) const UNSEEN: Duration = Duration::from_millis(20);

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
                Ok(received) => return Some(Pending::trapped(received, self.clone())),
                Err(_) if seccomp::is_orphaned(self.descriptor.as_fd()) => return None,
                // The caller died before it was read, or a signal came.
                Err(Errno::NOENT | Errno::INTR) => {}
                Err(_) => return None,
            }
        }
    }

    /// Whether a call waits at this moment.
    pub(crate) fn has_next(&self) -> bool {
        let mut polled = [PollFd::new(&self.descriptor, PollFlags::IN)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut polled, Some(&at_once)).is_ok() && polled[0].revents().contains(PollFlags::IN)
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

/// Who stopped the call, and takes its answer.
#[derive(Debug)]
enum Origin {
    /// The filter: the kernel waits.
    Filter { listener: Arc<Listener>, id: u64 },
    /// The layer: it waits on its connection.
    Layer(Conversation),
}

/// A stopped call that waits. Dropped without an answer it fails with EIO, so no guest ever hangs on a fault of ours.
#[derive(Debug)]
pub(crate) struct Pending {
    tid: u32,
    number: i64,
    arguments: [u64; 6],
    origin: Origin,
    answered: bool,
}

impl Pending {
    fn trapped(received: Received, listener: Arc<Listener>) -> Self {
        Self {
            tid: received.tid,
            number: received.number,
            arguments: received.arguments,
            origin: Origin::Filter {
                listener,
                id: received.id,
            },
            answered: false,
        }
    }

    pub(crate) fn forwarded(request: Request, conversation: Conversation) -> Self {
        Self {
            tid: request.tid,
            number: request.number,
            arguments: request.arguments,
            origin: Origin::Layer(conversation),
            answered: false,
        }
    }

    pub(crate) fn tid(&self) -> u32 {
        self.tid
    }

    pub(crate) fn number(&self) -> i64 {
        self.number
    }

    pub(crate) fn argument(&self, index: usize) -> u64 {
        self.arguments[index]
    }

    /// An argument that is a C `int`: its upper half is not looked at, as in the kernel.
    pub(crate) fn int(&self, index: usize) -> i32 {
        self.arguments[index] as i32
    }

    pub(crate) fn pointer(&self, index: usize) -> Pointer {
        Pointer(self.arguments[index])
    }

    pub(crate) fn memory(&self) -> Memory<'_> {
        match &self.origin {
            Origin::Filter { .. } => Memory::of(self.tid),
            Origin::Layer(conversation) => Memory::by(self.tid, conversation),
        }
    }

    /// A duplicate of the caller's descriptor in `argument`.
    ///
    /// # Errors
    /// As [`Task::descriptor`].
    pub(crate) fn descriptor_of(&self, argument: usize) -> Result<OwnedFd, Errno> {
        match &self.origin {
            Origin::Layer(Conversation {
                subject: Some(subject), ..
            }) => Ok(rustix::io::fcntl_dupfd_cloexec(subject, 0)?),
            _ => Task::of(self.tid).descriptor(self.int(argument)),
        }
    }

    /// Whether the layer handed it over, so that no filter is in force.
    pub(crate) fn is_forwarded(&self) -> bool {
        matches!(self.origin, Origin::Layer(_))
    }

    /// Whether it still waits; only then do its thread id and descriptors mean what they meant.
    pub(crate) fn is_alive(&self) -> bool {
        match &self.origin {
            Origin::Filter { listener, id } => seccomp::is_valid(listener.as_fd(), *id),
            Origin::Layer(conversation) => conversation.is_alive(),
        }
    }

    /// What becomes ready when the caller is gone, and how.
    pub(crate) fn end(&self) -> Option<(OwnedFd, EventFlags)> {
        match &self.origin {
            Origin::Filter { .. } => Some((Task::of(self.tid).pidfd().ok()?, EventFlags::IN)),
            Origin::Layer(conversation) => Some((conversation.end()?, EventFlags::RDHUP)),
        }
    }

    /// It is about to be answered. The caller may close its descriptor at once, and must not find it kept open by us: an
    /// epoll set would still tell of it.
    fn answering(&mut self) {
        self.answered = true;
        if let Origin::Layer(conversation) = &mut self.origin {
            conversation.subject = None;
        }
    }

    /// The kernel runs the call as it is.
    pub(crate) fn proceed(mut self) {
        self.answering();
        // An undelivered "go on" needs no undoing.
        let _ = match &self.origin {
            Origin::Filter { listener, id } => seccomp::proceed(listener.as_fd(), *id),
            Origin::Layer(conversation) => conversation.say(Reply::Proceed, None),
        };
    }

    pub(crate) fn fail(self, errno: Errno) {
        self.finish(Err(errno));
    }

    /// Ends the call with a value or an errno.
    pub(crate) fn deliver(mut self, result: Result<i64, Errno>) -> Result<(), Gone> {
        self.answering();
        self.respond(result).map_err(|_| Gone)
    }

    fn respond(&self, result: Result<i64, Errno>) -> Result<(), Errno> {
        match &self.origin {
            Origin::Filter { listener, id } => seccomp::respond(listener.as_fd(), *id, result),
            Origin::Layer(conversation) => {
                let value = result.unwrap_or_else(|errno| -i64::from(errno.raw_os_error()));
                conversation.say(Reply::Done(value), None)
            }
        }
    }

    /// Ends the call with a value or an errno; whether it was delivered does not matter to the caller.
    pub(crate) fn finish(self, result: Result<i64, Errno>) {
        let _ = self.deliver(result);
    }

    /// Installs the descriptor in the guest and returns its number from the call, atomically.
    pub(crate) fn descriptor(mut self, descriptor: &OwnedFd, close_on_exec: bool) -> Result<(), Gone> {
        self.answering();
        let delivered = match &self.origin {
            Origin::Filter { listener, id } => {
                seccomp::respond_with_descriptor(listener.as_fd(), *id, descriptor.as_fd(), close_on_exec)
            }
            Origin::Layer(conversation) => {
                conversation.say(Reply::Descriptor { close_on_exec }, Some(descriptor.as_fd()))
            }
        };
        match delivered {
            Ok(()) => Ok(()),
            Err(Errno::NOENT | Errno::PIPE | Errno::CONNRESET) => Err(Gone),
            Err(errno) => {
                let _ = self.respond(Err(errno));
                Err(Gone)
            }
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.answered {
            let _ = self.respond(Err(Errno::IO));
        }
    }
}
