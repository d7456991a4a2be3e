//! Signals: masks, dispositions and a descriptor that delivers them.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// One delivered signal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delivered {
    pub(crate) number: i32,
    /// Sent by the kernel itself, as the terminal does to its whole foreground group (`SI_KERNEL`).
    pub(crate) from_kernel: bool,
}

fn set_of(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: sigemptyset initialises the whole set; sigaddset gets valid numbers from our own lists.
    unsafe {
        let mut set = MaybeUninit::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}

/// Blocks `signals` in this thread and those it makes later, and returns a descriptor that reads them.
///
/// # Errors
/// As `signalfd(2)`.
pub(crate) fn descriptor(signals: &[i32]) -> io::Result<OwnedFd> {
    let set = set_of(signals);
    // SAFETY: the set is initialised; signalfd returns a fresh descriptor.
    unsafe {
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            descriptor => Ok(OwnedFd::from_raw_fd(descriptor)),
        }
    }
}

/// The next signal, or `None` when none is waiting.
pub(crate) fn next(descriptor: &OwnedFd) -> Option<Delivered> {
    // SAFETY: plain data that the kernel fills; its size is given.
    unsafe {
        let mut info: libc::signalfd_siginfo = std::mem::zeroed();
        let size = size_of::<libc::signalfd_siginfo>();
        let read = libc::read(descriptor.as_raw_fd(), (&raw mut info).cast(), size);
        (read == size as isize).then_some(Delivered {
            number: info.ssi_signo as i32,
            from_kernel: info.ssi_code == libc::SI_KERNEL,
        })
    }
}

/// For a child before exec: nothing blocked, and SIGPIPE, which Rust's runtime ignores, as it was. What the person made
/// ignored (`nohup`) stays so; handlers go by exec itself.
pub(crate) fn reset() {
    let none = set_of(&[]);
    // SAFETY: an initialised set and a default disposition.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Unblocks what [`descriptor`] blocked in this thread.
pub(crate) fn unblock(signals: &[i32]) {
    let set = set_of(signals);
    // SAFETY: the set is initialised.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut()) };
}

/// Blocks every signal in this thread (for helper threads).
pub(crate) fn block_all() {
    // SAFETY: sigfillset initialises the set.
    unsafe {
        let mut set = MaybeUninit::uninit();
        libc::sigfillset(set.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut());
    }
}

/// Stops this process as its app was stopped; returns when it is continued.
pub(crate) fn stop_self() {
    // SAFETY: raise has no preconditions.
    unsafe { libc::kill(libc::getpid(), libc::SIGSTOP) };
}

/// Sends a signal by pid, for a child that is not reaped yet.
pub(crate) fn send(pid: u32, signal: i32) {
    // SAFETY: plain integers.
    unsafe { libc::kill(pid as i32, signal) };
}
