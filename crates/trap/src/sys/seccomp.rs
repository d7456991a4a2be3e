//! `seccomp(2)` with user notification (linux/seccomp.h).

use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

/// One BPF instruction, as `struct sock_filter`.
pub(crate) type Instruction = libc::sock_filter;

/// One trapped call that waits for its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    pub(crate) id: u64,
    pub(crate) tid: u32,
    pub(crate) number: i64,
    pub(crate) arguments: [u64; 6],
}

const fn request(direction: u64, number: u64, size: usize) -> libc::Ioctl {
    (direction << 30 | (size as u64) << 16 | (b'!' as u64) << 8 | number) as libc::Ioctl
}

const NOTIF_RECV: libc::Ioctl = request(3, 0, size_of::<libc::seccomp_notif>());
const NOTIF_SEND: libc::Ioctl = request(3, 1, size_of::<libc::seccomp_notif_resp>());
const NOTIF_ID_VALID: libc::Ioctl = request(1, 2, size_of::<u64>());
const NOTIF_ADDFD: libc::Ioctl = request(1, 3, size_of::<libc::seccomp_notif_addfd>());
const NOTIF_SET_FLAGS: libc::Ioctl = request(1, 4, size_of::<u64>());
/// Linux 6.6: the waker hands its processor to the woken.
const FD_SYNC_WAKE_UP: u64 = 1;
const ADDFD_FLAG_SEND: u32 = 1 << 1;
const RESP_FLAG_CONTINUE: u32 = 1;
const FILTER_FLAG_SPEC_ALLOW: libc::c_ulong = 1 << 2;
const FILTER_FLAG_NEW_LISTENER: libc::c_ulong = 1 << 3;

/// Sets no_new_privs and installs the filter on this thread, which must be the only one; returns the listener,
/// close-on-exec.
///
/// # Errors
/// As `seccomp(2)`: EBUSY when a filter with a listener is there already, EINVAL where the kernel has no notification.
pub(crate) fn install(program: &[Instruction]) -> Result<OwnedFd, Errno> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| Errno::INVAL)?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: prctl with these arguments touches no memory; the kernel copies the program while `program` is borrowed.
    unsafe {
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            return Err(last());
        }
        let flags = FILTER_FLAG_SPEC_ALLOW | FILTER_FLAG_NEW_LISTENER;
        let listener = libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        );
        if listener < 0 {
            Err(last())
        } else {
            Ok(OwnedFd::from_raw_fd(listener as i32))
        }
    }
}

/// Asks for synchronous wake-up.
///
/// # Errors
/// EINVAL where the kernel does not have it.
pub(crate) fn synchronous_wake_up(listener: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: this ioctl takes its argument by value.
    match unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SET_FLAGS, FD_SYNC_WAKE_UP) } {
        0 => Ok(()),
        _ => Err(last()),
    }
}

/// The call that a trial stops at: one that nothing needs.
pub(crate) const STOPPED: libc::c_long = libc::SYS_getppid;

/// Makes the call [`STOPPED`] and writes to the descriptor that it was answered with, if it was.
pub(crate) fn write_to_answer(bytes: &[u8]) {
    // SAFETY: the call takes no arguments; the kernel reads the borrowed bytes.
    unsafe {
        let descriptor = libc::syscall(STOPPED);
        if descriptor >= 0 {
            libc::write(descriptor as i32, bytes.as_ptr().cast(), bytes.len());
        }
    }
}

/// Waits for the next trapped call.
///
/// # Errors
/// ENOENT when the caller died in between or the filter has no users left (see [`is_orphaned`]), EINTR.
pub(crate) fn receive(listener: BorrowedFd<'_>) -> Result<Received, Errno> {
    // SAFETY: the structure is plain data; the kernel wants it zeroed and fills it.
    let notification = unsafe {
        let mut notification: libc::seccomp_notif = std::mem::zeroed();
        if libc::ioctl(listener.as_raw_fd(), NOTIF_RECV, &raw mut notification) != 0 {
            return Err(last());
        }
        notification
    };
    Ok(Received {
        id: notification.id,
        tid: notification.pid,
        number: notification.data.nr.into(),
        arguments: notification.data.args,
    })
}

/// Whether no process uses the filter any more.
pub(crate) fn is_orphaned(listener: BorrowedFd<'_>) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut polled = [PollFd::from_borrowed_fd(listener, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))
        .is_ok_and(|_| polled[0].revents().contains(PollFlags::HUP))
}

/// Whether the call still waits: not interrupted by a signal, its thread alive.
pub(crate) fn is_valid(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the kernel reads the id while it is borrowed.
    unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_ID_VALID, &raw const id) == 0 }
}

/// Ends a call with a value or an errno (`error` positive), or lets it run.
///
/// # Errors
/// ENOENT when the call no longer waits.
pub(crate) fn respond(listener: BorrowedFd<'_>, id: u64, result: Result<i64, Errno>) -> Result<(), Errno> {
    let (val, error) = match result {
        Ok(value) => (value, 0),
        Err(errno) => (0, -errno.raw_os_error()),
    };
    send(
        listener,
        libc::seccomp_notif_resp {
            id,
            val,
            error,
            flags: 0,
        },
    )
}

/// Lets the kernel run the call as it is.
///
/// # Errors
/// ENOENT when the call no longer waits.
pub(crate) fn proceed(listener: BorrowedFd<'_>, id: u64) -> Result<(), Errno> {
    send(
        listener,
        libc::seccomp_notif_resp {
            id,
            val: 0,
            error: 0,
            flags: RESP_FLAG_CONTINUE,
        },
    )
}

fn send(listener: BorrowedFd<'_>, response: libc::seccomp_notif_resp) -> Result<(), Errno> {
    // SAFETY: the kernel reads the response while it is borrowed.
    if unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SEND, &raw const response) } == 0 {
        Ok(())
    } else {
        Err(last())
    }
}

/// Installs `descriptor` in the caller's table and ends its call with the number, in one step.
///
/// # Errors
/// ENOENT when the call no longer waits: nothing was installed. EMFILE: the caller's limit.
pub(crate) fn respond_with_descriptor(
    listener: BorrowedFd<'_>,
    id: u64,
    descriptor: BorrowedFd<'_>,
    close_on_exec: bool,
) -> Result<(), Errno> {
    let add = libc::seccomp_notif_addfd {
        id,
        flags: ADDFD_FLAG_SEND,
        srcfd: descriptor.as_fd().as_raw_fd() as u32,
        newfd: 0,
        newfd_flags: if close_on_exec { libc::O_CLOEXEC as u32 } else { 0 },
    };
    // SAFETY: the kernel reads the request while it is borrowed.
    if unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_ADDFD, &raw const add) } >= 0 {
        Ok(())
    } else {
        Err(last())
    }
}

fn last() -> Errno {
    super::process::last_errno()
}
