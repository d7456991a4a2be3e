//! The session's directories on this machine, gone with the session: a private one (0700) below the user's runtime directory,
//! and one for what programs of other users must read too (the layer), below the temporary directory.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::process::{getpid, getuid};
use view::Keeper;

/// Removed when dropped, by the process that made it and by one that adopted it, but not by the app before its exec.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    shared: PathBuf,
    owner: rustix::process::Pid,
    keeper: Option<Keeper>,
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
            let path = base.join(&name);
            match make(&path, 0o700) {
                Ok(()) => {
                    return Ok(Self {
                        path,
                        shared: fallback.join(name + "-lib"),
                        owner: getpid(),
                        keeper: None,
                    });
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

    /// Where copies of the pod's files go.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        files(&self.path)
    }

    /// Makes a directory in it for a mount of the pod's files, and sees to it that both go when the session's processes are
    /// gone, in whatever way. Before the fork, so that both hold the [`Keeper`].
    ///
    /// # Errors
    /// When there is nobody who could unmount.
    pub fn for_mount(&mut self) -> io::Result<PathBuf> {
        let at = std::path::absolute(self.path.join("pod"))?;
        let keeper = Keeper::start(&at, &self.paths())?;
        DirBuilder::new().mode(0o700).create(&at)?;
        self.keeper = Some(keeper);
        Ok(at)
    }

    /// Where the pod's files are to be mounted, if they are.
    pub(crate) fn mount(&self) -> Option<&Path> {
        self.keeper.as_ref().map(Keeper::mount)
    }

    /// Makes the directory that everybody may read, and only this user may write.
    ///
    /// # Errors
    /// When the temporary directory cannot be written.
    pub fn shared(&self) -> io::Result<&Path> {
        make(&self.shared, 0o755)?;
        Ok(&self.shared)
    }

    /// Both places, for rules that keep them this machine's.
    #[must_use]
    pub fn paths(&self) -> [&Path; 2] {
        [&self.path, &self.shared]
    }

    /// Makes this process (the server, after the fork) remove it as well: either may be killed.
    pub(crate) fn adopt(&mut self) {
        self.owner = getpid();
    }
}

/// Below a session's own directory.
pub(crate) fn files(directory: &Path) -> PathBuf {
    directory.join("files")
}

/// Makes it anew: what a session left that was killed together with its server had our process id, which is ours now.
fn make(path: &Path, mode: u32) -> io::Result<()> {
    let make = || DirBuilder::new().mode(mode).create(path);
    match make() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::remove_dir_all(path)?;
            make()
        }
        other => other,
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.owner == getpid() {
            // Else it would be the pod's files that are removed, by way of whoever serves them. The keeper tries again.
            if self.mount().is_some_and(|at| view::unmount(at).is_err()) {
                return;
            }
            // The app may still be removing its own files there; what cannot be removed is a temporary directory.
            let _ = std::fs::remove_dir_all(&self.path);
            let _ = std::fs::remove_dir_all(&self.shared);
            if let Some(keeper) = &self.keeper {
                keeper.over();
            }
        }
    }
}
