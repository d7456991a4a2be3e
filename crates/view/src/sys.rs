//! The calls that need `unsafe`: fork, unshare, registration of a descriptor.
#![allow(unsafe_code)]

use std::io;

use std::os::fd::OwnedFd;

use rustix::thread::UnshareFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor with the runtime, for reading and for errors, which is how /dev/fuse says that it is over.
///
/// # Errors
/// When the descriptor cannot be polled.
pub(crate) fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` gives the same descriptor each time and stays open until the registration drops it.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE | Interest::ERROR) }?)
}

/// Leaves namespaces of the parent. For `NEWUSER` and `NEWNS` alone the process' descriptors and file system stay its own.
///
/// # Errors
/// See unshare(2).
pub(crate) fn unshare_mounts(user: bool) -> io::Result<()> {
    let user = if user {
        UnshareFlags::NEWUSER
    } else {
        UnshareFlags::empty()
    };
    // SAFETY: CLONE_FILES and CLONE_FS, which other threads' code could rely on, are not among the flags.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | user) }.map_err(Into::into)
}

/// Runs `work` in a forked child and returns what it wrote to standard output's stead: at most 16 bytes.
///
/// # Errors
/// When there is no pipe or no process to be had.
pub(crate) fn in_child(work: impl FnOnce() -> [u8; 16]) -> io::Result<[u8; 16]> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // SAFETY: the child runs only `work`, which makes system calls and allocates (glibc's allocator survives fork), and
    // leaves by _exit: no destructor, no atexit handler and no lock of another thread is touched.
    let pid = match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => {
            let answer = work();
            let _ = rustix::io::write(&writer, &answer);
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(0) }
        }
        pid => pid,
    };
    drop(writer);
    let mut answer = [0; 16];
    let read = rustix::io::retry_on_intr(|| rustix::io::read(&reader, &mut answer));
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ =
            rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()));
    }
    match read? {
        16 => Ok(answer),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
