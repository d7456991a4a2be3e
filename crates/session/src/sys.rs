//! The one unsafe call of this crate.
#![allow(unsafe_code)]

use std::io;

use rustix::process::Pid;

/// `fork(2)`. `None` in the child.
///
/// # Errors
/// As `fork(2)`; also when the process has more than one thread, since only the calling one would live on in the child
/// with the others' locks held.
pub(crate) fn fork() -> io::Result<Option<Pid>> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other(format!(
            "the session must be started from one thread, not {threads}"
        )));
    }
    // SAFETY: this process has exactly one thread (checked above), so no lock can be held by a thread that the child
    // does not have.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid)),
    }
}
