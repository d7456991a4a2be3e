//! The session's private directory on this machine: 0700, below the user's runtime directory, gone with the session.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::process::{getpid, getuid};

/// Removed when dropped, by the process that made it and by one that adopted it, but not by the app before its exec.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    owner: rustix::process::Pid,
}

impl Directory {
    /// Makes it below `$XDG_RUNTIME_DIR` or else the temporary directory.
    ///
    /// # Errors
    /// When neither can be written.
    pub fn create(runtime: Option<&Path>) -> io::Result<Self> {
        let fallback = std::env::temp_dir();
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for base in runtime.into_iter().chain([fallback.as_path()]) {
            let name = format!("inpod-{}-{}", getuid().as_raw(), getpid().as_raw_pid());
            let path = base.join(name);
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self { path, owner: getpid() }),
                // A session that was killed together with its server left it; the process id is ours now.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    std::fs::remove_dir_all(&path)?;
                    DirBuilder::new().mode(0o700).create(&path)?;
                    return Ok(Self { path, owner: getpid() });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes this process (the server, after the fork) remove it as well: either may be killed.
    pub(crate) fn adopt(&mut self) {
        self.owner = getpid();
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.owner == getpid() {
            // The app may still be removing its own files there; what cannot be removed is a temporary directory.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
