//! A guest thread seen from outside: its descriptors, directories and executable.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};

/// `PIDFD_THREAD` (Linux 6.9): the pidfd names one thread, not its group.
pub(crate) const THREAD: PidfdFlags = PidfdFlags::from_bits_retain(libc::O_EXCL as u32);

/// One thread of the app's tree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Task {
    tid: u32,
}

impl Task {
    pub(crate) fn of(tid: u32) -> Self {
        Self { tid }
    }

    /// A descriptor that names the thread; before Linux 6.9 its process.
    ///
    /// # Errors
    /// ESRCH when it is gone.
    pub(crate) fn pidfd(self) -> Result<OwnedFd, Errno> {
        let pid = Pid::from_raw(self.tid as i32).ok_or(Errno::SRCH)?;
        match rustix::process::pidfd_open(pid, THREAD) {
            Err(Errno::INVAL) => {
                let group = Pid::from_raw(self.group()? as i32).ok_or(Errno::SRCH)?;
                rustix::process::pidfd_open(group, PidfdFlags::empty())
            }
            other => other,
        }
    }

    /// A duplicate of the thread's descriptor `number`, close-on-exec here.
    ///
    /// # Errors
    /// EBADF when there is none, EPERM when the process hides (not dumpable, yama, a container's profile).
    pub(crate) fn descriptor(self, number: i32) -> Result<OwnedFd, Errno> {
        if number < 0 {
            return Err(Errno::BADF);
        }
        rustix::process::pidfd_getfd(self.pidfd()?, number, PidfdGetfdFlags::empty())
    }

    /// The thread group id, which everybody calls pid.
    ///
    /// # Errors
    /// ESRCH when it is gone.
    pub(crate) fn group(self) -> Result<u32, Errno> {
        self.status("Tgid:")?.parse().map_err(|_| Errno::SRCH)
    }

    /// # Errors
    /// ESRCH when it is gone.
    pub(crate) fn umask(self) -> Result<u32, Errno> {
        let mask = self.status("Umask:")?;
        u32::from_str_radix(&mask, 8).map_err(|_| Errno::SRCH)
    }

    /// Whether a signal waits for this thread that it does not block.
    pub(crate) fn is_signalled(self) -> bool {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", self.tid)) else {
            return false;
        };
        let set = |name: &str| {
            let set = status.lines().find_map(|line| line.strip_prefix(name));
            set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
                .unwrap_or(0)
        };
        (set("SigPnd:") | set("ShdPnd:")) & !set("SigBlk:") != 0
    }

    /// A line of /proc/PID/status.
    fn status(self, name: &str) -> Result<String, Errno> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.tid)).map_err(|_| Errno::SRCH)?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(|line| line.trim().to_owned()).ok_or(Errno::SRCH)
    }

    /// # Errors
    /// ENOENT when the thread is gone, EACCES when it hides.
    pub(crate) fn directory(self) -> Result<PathBuf, Errno> {
        self.link("cwd")
    }

    /// # Errors
    /// As [`Task::directory`].
    pub(crate) fn root(self) -> Result<PathBuf, Errno> {
        self.link("root")
    }

    /// Whether a path call of this thread can be made here instead: with the same rights and the same umask, from the same
    /// root in the same mount namespace.
    pub(crate) fn is_like_us(self) -> bool {
        const LINES: [&str; 5] = ["Uid:", "Gid:", "Groups:", "CapEff:", "Umask:"];
        let rights = |who: &str| -> Option<Vec<String>> {
            let status = std::fs::read_to_string(format!("/proc/{who}/status")).ok()?;
            let lines = LINES.map(|name| status.lines().find(|line| line.starts_with(name)).map(str::to_owned));
            lines.into_iter().collect()
        };
        let places = |who: &str| {
            let link = |name| rustix::fs::readlink(format!("/proc/{who}/{name}"), Vec::new()).ok();
            Some((link("root")?, link("ns/mnt")?))
        };
        let their = self.tid.to_string();
        let (rights_there, places_there) = (rights(&their), places(&their));
        rights_there.is_some()
            && places_there.is_some()
            && rights_there == rights("thread-self")
            && places_there == places("thread-self")
    }

    /// Where the descriptor's file lies.
    ///
    /// # Errors
    /// ENOENT when there is no such descriptor, EACCES when the thread hides.
    pub(crate) fn path_of(self, number: i32) -> Result<PathBuf, Errno> {
        self.link(&format!("fd/{number}"))
    }

    /// The program it runs, for messages: empty when it cannot be read.
    pub(crate) fn executable(self) -> PathBuf {
        self.link("exe").unwrap_or_default()
    }

    fn link(self, name: &str) -> Result<PathBuf, Errno> {
        let link = rustix::fs::readlink(format!("/proc/{}/{name}", self.tid), Vec::with_capacity(256))?;
        Ok(PathBuf::from(OsString::from_vec(link.into_bytes())))
    }
}
