//! The trial itself: a child installs a filter and makes one trapped call, this process does to it what the supervisor does
//! to an app.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use guest::marker::Marker;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, WaitOptions};

use super::{Absent, Capability};
use crate::memory::{Memory, Pointer};
use crate::sys::process::{Forked, exit_now};
use crate::sys::{process, seccomp, signal};
use crate::{bpf, task};

type Found = Result<(), Absent>;

/// At the same address in both processes; the child alone gives it a value, so that what is read came from there.
static CELL: AtomicU64 = AtomicU64::new(0);
const IN_CHILD: u64 = 0x696e_706f_6420_6f6b;

/// In the order of [`Capability::ALL`].
///
/// # Errors
/// When there is no process, socket or pipe to be had.
pub(super) fn probe(patience: Duration) -> io::Result<[Found; Capability::ALL.len()]> {
    // Who is stopped and goes on in the middle of it, as a suspended machine does, may hear of its own answer that it is
    // under way, or done and gone (`seccomp_notify_addfd`, repeated): that says nothing of the machine.
    let was_stopped = |found: &[Found]| {
        let interrupted = [Errno::INTR, Errno::INPROGRESS, Errno::NOENT].map(|errno| Err(Absent::Refused(errno)));
        found.iter().any(|found| interrupted.contains(found))
    };
    let mut found = attempt(patience)?;
    for _ in 0..5 {
        if !was_stopped(&found) {
            break;
        }
        found = attempt(patience)?;
    }
    Ok(found)
}

fn attempt(patience: Duration) -> io::Result<[Found; Capability::ALL.len()]> {
    let deadline = Instant::now() + patience;
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let filter = bpf::only(seccomp::STOPPED);
    let pid = match process::fork()? {
        Forked::Parent(pid) => pid,
        Forked::Child => {
            drop((ours, reader, writer));
            child(&theirs, &filter)
        }
    };
    let child = Child {
        pid: Pid::from_raw(pid as i32).ok_or_else(|| io::Error::other("fork returned no pid"))?,
        socket: theirs.as_raw_fd(),
    };
    drop(theirs);
    let mut found = Capability::ALL.map(|_| Err(Absent::Needs(Capability::Notification)));
    let mut set = |capability: Capability, what: Found| found[capability as usize] = what;
    let trapped = trapped(&ours, deadline);
    // Whatever became of the notification, the child has set the cell and waits.
    set(Capability::ProcessMemory, child.memory());
    set(Capability::PidfdGetfd, child.descriptor());
    set(Capability::PidfdThread, child.thread());
    set(
        Capability::Notification,
        trapped.as_ref().map(drop).map_err(|absent| *absent),
    );
    if let Ok((listener, id)) = trapped {
        let synchronous = seccomp::synchronous_wake_up(listener.as_fd());
        set(Capability::SynchronousWakeUp, refused(synchronous));
        set(
            Capability::AddDescriptor,
            answer(&listener, id, writer, &reader, deadline),
        );
    }
    Ok(found)
}

fn refused(result: Result<(), Errno>) -> Found {
    result.map_err(Absent::Refused)
}

/// The process on which everything is tried: ended and reaped when dropped.
struct Child {
    pid: Pid,
    /// The number of its socket there.
    socket: i32,
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(self.pid, Signal::KILL);
        let _ = rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(self.pid), WaitOptions::empty()));
    }
}

impl Child {
    fn memory(&self) -> Found {
        let memory = Memory::of(self.pid.as_raw_pid() as u32);
        let at = Pointer(CELL.as_ptr() as u64);
        let mut bytes = [0; 8];
        memory.read(at, &mut bytes).map_err(Absent::Refused)?;
        if bytes != IN_CHILD.to_ne_bytes() {
            return Err(Absent::Silent);
        }
        refused(memory.write(at, &bytes))
    }

    fn descriptor(&self) -> Found {
        let pidfd = rustix::process::pidfd_open(self.pid, PidfdFlags::empty()).map_err(Absent::Refused)?;
        refused(rustix::process::pidfd_getfd(pidfd, self.socket, PidfdGetfdFlags::empty()).map(drop))
    }

    fn thread(&self) -> Found {
        refused(rustix::process::pidfd_open(self.pid, task::THREAD).map(drop))
    }
}

/// The child's life: it sends its listener, or the errno instead, makes the trapped call, writes to the descriptor that
/// this returns, and waits to be ended.
fn child(socket: &OwnedFd, filter: &[seccomp::Instruction]) -> ! {
    process::die_with_parent();
    signal::block_all();
    CELL.store(IN_CHILD, Ordering::SeqCst);
    match seccomp::install(filter) {
        Ok(listener) => {
            let sent = process::send_descriptor_marked(socket.as_fd(), &listener, Marker(0));
            drop(listener);
            if sent.is_ok() {
                seccomp::write_to_answer(b"+");
            }
        }
        Err(errno) => {
            let _ = rustix::io::write(socket, &errno.raw_os_error().to_ne_bytes());
        }
    }
    let _ = rustix::io::read(socket, &mut [0; 1]);
    exit_now(0)
}

/// Receives the child's listener and its trapped call.
fn trapped(channel: &OwnedFd, deadline: Instant) -> Result<(OwnedFd, u64), Absent> {
    let listener = listener(channel, deadline)?;
    readable(listener.as_fd(), deadline)?;
    let received = seccomp::receive(listener.as_fd()).map_err(Absent::Refused)?;
    Ok((listener, received.id))
}

fn listener(channel: &OwnedFd, deadline: Instant) -> Result<OwnedFd, Absent> {
    readable(channel.as_fd(), deadline)?;
    let mut bytes = [0; 4];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [io::IoSliceMut::new(&mut bytes)];
    let received = rustix::net::recvmsg(channel, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)
        .map_err(Absent::Refused)?
        .bytes;
    let sent = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    });
    match sent {
        Some(listener) => Ok(listener),
        None if received == bytes.len() => Err(Absent::Refused(Errno::from_raw_os_error(i32::from_ne_bytes(bytes)))),
        None => Err(Absent::Silent),
    }
}

/// Answers the call with the pipe's writing end and waits for what the child writes there.
fn answer(listener: &OwnedFd, id: u64, writer: OwnedFd, reader: &OwnedFd, deadline: Instant) -> Found {
    let answered = seccomp::respond_with_descriptor(listener.as_fd(), id, writer.as_fd(), true);
    drop(writer);
    refused(answered)?;
    readable(reader.as_fd(), deadline)?;
    match rustix::io::read(reader, &mut [0; 1]) {
        Ok(1) => Ok(()),
        _ => Err(Absent::Silent),
    }
}

/// Waits until there is something to read.
fn readable(descriptor: BorrowedFd<'_>, deadline: Instant) -> Found {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).unwrap_or_default();
        let mut polled = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
        match poll(&mut polled, Some(&left)) {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Absent::Refused(errno)),
            Ok(_) if polled[0].revents().contains(PollFlags::IN) => return Ok(()),
            // The deadline, or nobody at the other end.
            Ok(_) => return Err(Absent::Silent),
        }
    }
}
