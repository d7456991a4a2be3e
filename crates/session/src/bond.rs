//! The bond between the two processes of a session: they hold each other's pidfd, and whichever survives stops what is
//! left. Where there are no pidfds each holds one end of a pair instead, which ends with the other process as well.

use std::io;
use std::os::fd::{IntoRawFd, OwnedFd};

use guest::channel::Channel;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};
use view::Members;

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
    let sight = Sight::open()?;
    let supervisor = getpid();
    match sys::fork()? {
        None => {
            drop(ours);
            let members = Members::of(supervisor.as_raw_pid().unsigned_abs());
            let status = server::run(settings, members, theirs, sight.of_supervisor()?);
            std::process::exit(status)
        }
        Some(server) => {
            let server_pidfd = sight.of_server(server)?;
            Ok(Bond {
                channel: ours,
                server,
                server_pidfd,
                directory: settings.directory,
            })
        }
    }
}

/// How the two processes see each other's end: by something that becomes readable then.
enum Sight {
    /// The supervisor's pidfd, opened before the fork, when its number cannot be a stranger's.
    Pidfd(OwnedFd),
    /// Before Linux 5.3, and in gVisor: the supervisor's end of a pair, and the server's. Nobody writes to it.
    Pair(OwnedFd, OwnedFd),
}

impl Sight {
    fn open() -> io::Result<Self> {
        match pidfd_open(getpid(), PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Self::Pidfd(pidfd)),
            Err(Errno::NOSYS) => {
                let (supervisor, server) =
                    socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
                Ok(Self::Pair(supervisor, server))
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// In the server.
    fn of_supervisor(self) -> io::Result<OwnedFd> {
        match self {
            Self::Pidfd(pidfd) => Ok(pidfd),
            Self::Pair(_, server) => {
                // Held for as long as this process lives.
                let _ = server.try_clone()?.into_raw_fd();
                Ok(server)
            }
        }
    }

    /// In the supervisor.
    fn of_server(self, server: Pid) -> io::Result<OwnedFd> {
        match self {
            Self::Pidfd(_) => Ok(pidfd_open(server, PidfdFlags::empty())?),
            Self::Pair(supervisor, _) => Ok(supervisor),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    #[test]
    fn a_pair_tells_of_the_other_process_s_end() {
        let is_readable = |descriptor: &OwnedFd| {
            let mut polled = [PollFd::new(descriptor, PollFlags::IN)];
            poll(&mut polled, Some(&Timespec::default())).unwrap();
            polled[0].revents().contains(PollFlags::IN)
        };
        let (supervisor, server) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        assert!(!is_readable(&supervisor));
        drop(server);
        assert!(is_readable(&supervisor));
    }
}
