//! fork, exec and what surrounds them.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use guest::marker::Marker;
use rustix::io::Errno;

pub(crate) fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Which side of a fork this is.
pub(crate) enum Forked {
    Parent(u32),
    Child,
}

/// Forks. The caller's process may have other threads (the terminal's writer): what the child does before exec is system
/// calls and allocation, which glibc keeps usable in the child of a threaded process (fork(2), malloc/arena.c), and takes no
/// lock that another thread of ours ever holds.
///
/// # Errors
/// As `fork(2)`.
pub(crate) fn fork() -> io::Result<Forked> {
    // SAFETY: the child only makes system calls and allocates before it executes or exits, see above.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(pid as u32)),
    }
}

/// Ends the process at once, without running anything of this one.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(status) }
}

/// Becomes the reaper of descendants whose parents died.
///
/// # Errors
/// As `prctl(2)`.
pub(crate) fn become_subreaper() -> io::Result<()> {
    // SAFETY: plain integers.
    if unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// SIGKILL for this process when the thread that forked it ends.
pub(crate) fn die_with_parent() {
    // SAFETY: plain integers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
}

/// Runs `act` with another umask, which is this thread's alone.
///
/// # Errors
/// As `unshare(2)`.
pub(crate) fn with_umask<T>(mask: u32, act: impl FnOnce() -> T) -> Result<T, Errno> {
    // SAFETY: only what threads share of their directories and umask is taken apart.
    if unsafe { libc::unshare(libc::CLONE_FS) } != 0 {
        return Err(last_errno());
    }
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
    let result = act();
    rustix::process::umask(before);
    Ok(result)
}

/// Strings for execve with their pointer tables, made before anything that must not allocate.
pub(crate) struct Image {
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Image {
    pub(crate) fn new(arguments: Vec<CString>, environment: Vec<CString>) -> Self {
        Self { arguments, environment }
    }

    /// A file without a header is the shell's, as `execvp(3)` has it.
    pub(crate) fn execute_script(&self, path: &CString, marker: Marker) -> Errno {
        let mut arguments = vec![c"sh".to_owned(), path.clone()];
        arguments.extend(self.arguments.iter().skip(1).cloned());
        self.execute(&c"/bin/sh".to_owned(), Some(&arguments), marker)
    }

    /// `execve(2)` with the marker in the sixth register, so that the filter lets it pass; returns only with an errno.
    pub(crate) fn execute(&self, path: &CString, arguments: Option<&[CString]>, marker: Marker) -> Errno {
        let table = |strings: &[CString]| -> Vec<*const libc::c_char> {
            strings
                .iter()
                .map(|string| string.as_ptr())
                .chain([std::ptr::null()])
                .collect()
        };
        let arguments = table(arguments.unwrap_or(&self.arguments));
        let environment = table(&self.environment);
        // SAFETY: the path and both tables are NUL-terminated and alive; the marker is in a register execve ignores.
        unsafe {
            libc::syscall(
                libc::SYS_execve,
                path.as_ptr(),
                arguments.as_ptr(),
                environment.as_ptr(),
                0_usize,
                0_usize,
                marker.0,
            )
        };
        last_errno()
    }
}

/// Sends one descriptor over a unix socket with `sendmsg(2)` carrying the marker: the filter is already in force.
///
/// # Errors
/// As `sendmsg(2)`.
pub(crate) fn send_descriptor_marked(
    socket: BorrowedFd<'_>,
    descriptor: &OwnedFd,
    marker: Marker,
) -> Result<(), Errno> {
    let mut byte = 0_u8;
    let mut part = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    let mut control = [0_u64; 4];
    // SAFETY: the header describes buffers that live on this stack and are large and aligned enough for one descriptor.
    unsafe {
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = libc::CMSG_SPACE(4) as usize;
        let first = libc::CMSG_FIRSTHDR(&raw const header);
        (*first).cmsg_level = libc::SOL_SOCKET;
        (*first).cmsg_type = libc::SCM_RIGHTS;
        (*first).cmsg_len = libc::CMSG_LEN(4) as usize;
        libc::CMSG_DATA(first)
            .cast::<i32>()
            .write_unaligned(descriptor.as_raw_fd());
        let sent = libc::syscall(
            libc::SYS_sendmsg,
            socket.as_raw_fd(),
            &raw const header,
            libc::MSG_NOSIGNAL,
            0,
            0,
            marker.0,
        );
        if sent < 0 { Err(last_errno()) } else { Ok(()) }
    }
}
