//! The bond between the two processes of a session: they hold each other's pidfd, and whichever survives stops what is
//! left.

use std::io;
use std::os::fd::OwnedFd;

use guest::channel::Channel;
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};

use crate::directory::Directory;
use crate::server::{self, Settings};
use crate::sys;

/// The launching process' side of the bond.
#[derive(Debug)]
pub struct Bond {
    pub channel: Channel,
    pub server: Pid,
    /// Readable when the server is gone.
    pub server_pidfd: OwnedFd,
    /// Removed with the bond, in case the server could not do it.
    pub directory: Directory,
}

/// Forks the server process and returns the launching side; the child never returns from here.
///
/// # Errors
/// When the process cannot be forked or already has threads.
pub fn fork_server(settings: Settings) -> io::Result<Bond> {
    let (ours, theirs) = Channel::pair()?;
    let supervisor = pidfd_open(getpid(), PidfdFlags::empty())?;
    match sys::fork()? {
        None => {
            drop(ours);
            let status = server::run(settings, theirs, supervisor);
            std::process::exit(status)
        }
        Some(server) => {
            let server_pidfd = pidfd_open(server, PidfdFlags::empty())?;
            Ok(Bond {
                channel: ours,
                server,
                server_pidfd,
                directory: settings.directory,
            })
        }
    }
}
