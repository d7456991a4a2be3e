//! What safe Rust has no word for: a descriptor that was named by its number.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

/// A duplicate of `descriptor` for writing. One that is not a standard stream is closed in the app.
///
/// # Errors
/// `EBADF` when it is not open, or not for writing.
pub fn duplicate(descriptor: i32) -> io::Result<OwnedFd> {
    if descriptor < 0 {
        return Err(rustix::io::Errno::BADF.into());
    }
    // SAFETY: it is only passed to fcntl(2), which answers EBADF when it is not open, and it is not -1.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    if !fcntl_getfl(borrowed)?.intersects(OFlags::WRONLY | OFlags::RDWR) {
        return Err(rustix::io::Errno::BADF.into());
    }
    let own = fcntl_dupfd_cloexec(borrowed, 3)?;
    if descriptor > 2 {
        fcntl_setfd(borrowed, FdFlags::CLOEXEC)?;
    }
    Ok(own)
}

/// Starts a thread that no signal is ever delivered to: they are for the thread that waits for them, and one that another
/// thread takes is lost to it.
///
/// # Errors
/// When no thread can be had.
pub(crate) fn spawn_without_signals(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: both sets are written by these calls before anything reads them; sigfillset cannot fail for a valid pointer.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
    }
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    // SAFETY: `before` was filled above; this thread gets back the mask it had.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    spawned.map(drop)
}
