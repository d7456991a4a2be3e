//! Who unmounts when nobody of the session can any more: a shell of a megabyte that waits for the session's end.
//!
//! A mount of the machine's outlives who made it, and `kill -9` leaves nobody to take it away. So a process that nothing of
//! the session knows waits for the end of a pipe, which the session's processes hold: it comes when the last of them is
//! gone, however that came about.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::pipe::{PipeFlags, pipe_with};

use crate::fusermount::{MountError, find};

/// `$1` is fusermount3, `$2` the mount, the others are the session's directories. In the background, since the session's
/// processes wait for their children, and with a copy of its standard input, which the background would not have. The
/// directories are only removed behind what could be unmounted: else it would be the pod's files that are removed.
const SCRIPT: &str = r#"trap '' HUP INT QUIT TERM
exec 3<&0
(
  read -r over && exit 0
  "$1" -u -q -z -- "$2"
  rmdir -- "$2"
  test -e "$2" && exit 0
  shift 2
  rm -rf -- "$@"
) <&3 3<&- &"#;

/// The session's end of the pipe: to be held by each of its processes, and by nobody else.
#[derive(Debug)]
pub struct Keeper {
    alive: OwnedFd,
    mount: PathBuf,
}

impl Keeper {
    /// Starts it for a mount that is yet to be made at `mount`, and for directories that are to go with it. What it starts is
    /// an orphan: not this process' child, unless that reaps for others (`PR_SET_CHILD_SUBREAPER`).
    ///
    /// # Errors
    /// Without fusermount3, or a shell.
    pub fn start(mount: &Path, directories: &[&Path]) -> io::Result<Self> {
        let program = find(std::env::var_os("PATH").as_deref()).ok_or(MountError::Missing)?;
        let (reader, alive) = pipe_with(PipeFlags::CLOEXEC)?;
        let status = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "inpod-keeper"])
            .arg(program)
            .arg(mount)
            .args(directories)
            .current_dir("/")
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/run/current-system/sw/bin")
            .stdin(reader)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if !status.success() {
            return Err(io::Error::other(format!(
                "/bin/sh cannot wait for the session's end: {status}"
            )));
        }
        Ok(Self {
            alive,
            mount: mount.to_owned(),
        })
    }

    #[must_use]
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// There is nothing left to do for it.
    pub fn over(&self) {
        let _ = rustix::io::write(&self.alive, b"over\n");
    }
}
