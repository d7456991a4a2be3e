//! Where a path of the pod leads in the mounted view: its symlinks followed as the app sees them, by the rules at each.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rules::Place;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2, readlinkat};
use rustix::io::{Errno, retry_on_intr};

use crate::files::{Files, MOST_LINKS};

/// A path without symlinks, but for the last component where that was not to be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Led {
    Pod(PathBuf),
    /// A link of the pod's led to a path of this machine.
    Machine(PathBuf),
}

impl Led {
    /// Opens what it names.
    pub(crate) fn open(&self, files: &Files, flags: OFlags) -> Result<OwnedFd, Errno> {
        match self {
            Self::Pod(path) => files.open_in_view(path, flags),
            Self::Machine(path) => rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Pod(path) | Self::Machine(path) => path,
        }
    }
}

impl Files {
    /// Opens a path without symlinks in the mounted view.
    pub(crate) fn open_in_view(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let root = self.root.as_ref().ok_or(Errno::NOENT)?;
        let open = |flags: OFlags| {
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
            let flags = flags | OFlags::CLOEXEC;
            // The view interrupts a call of ours when we are stopped and go on; the app must not learn of that.
            retry_on_intr(|| openat2(root, below(path), flags, Mode::empty(), resolve))
        };
        if !flags.contains(OFlags::PATH) {
            can_be_opened(&open(OFlags::PATH | OFlags::NOFOLLOW)?)?;
        }
        open(flags)
    }

    /// Follows the links of a path that the rules say is the pod's; the last one only if `follow`. Waits for the server: for a
    /// worker. Without links it is one call.
    ///
    /// # Errors
    /// The pod's; `ENOENT` where a link leads to what is hidden.
    pub(crate) fn lead(&self, path: &Path, follow: bool) -> Result<Led, Errno> {
        self.led(path, follow, false)
    }

    /// The same for what may be made there: only the directory that it is in must be there.
    ///
    /// # Errors
    /// As above.
    pub(crate) fn lead_new(&self, path: &Path, follow: bool) -> Result<Led, Errno> {
        self.led(path, follow, true)
    }

    fn led(&self, path: &Path, follow: bool, new: bool) -> Result<Led, Errno> {
        let mut path = path.to_owned();
        for _ in 0..=MOST_LINKS {
            match self.plan.files.decide(&path).place {
                Place::Hidden => return Err(Errno::NOENT),
                Place::Local => return Ok(Led::Machine(path)),
                Place::Remote => {}
            }
            let last = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
            match self.open_in_view(&path, OFlags::PATH | last) {
                Ok(_) => return Ok(Led::Pod(path)),
                Err(Errno::LOOP) => path = self.past_first_link(&path)?,
                // Who looks into its directory is told whether that is there.
                Err(Errno::NOENT) if new => return Ok(Led::Pod(path)),
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::LOOP)
    }

    /// The path with its first link replaced by where that points.
    fn past_first_link(&self, path: &Path) -> Result<PathBuf, Errno> {
        let root = self.root.as_ref().ok_or(Errno::NOENT)?;
        let mut steps: Vec<&Path> = path.ancestors().filter(|step| step.parent().is_some()).collect();
        steps.reverse();
        for step in steps {
            // What is no link says EINVAL.
            let Ok(link) = retry_on_intr(|| readlinkat(root, below(step), Vec::new())) else {
                continue;
            };
            let above = step.parent().unwrap_or(Path::new("/"));
            let rest = path.strip_prefix(step).unwrap_or(Path::new(""));
            return Ok(rules::normal(
                &above.join(OsStr::from_bytes(link.as_bytes())).join(rest),
            ));
        }
        // It was one a moment ago.
        Err(Errno::LOOP)
    }
}

/// # Errors
/// `ENXIO` for FIFOs, sockets and devices of the pod: they would be this machine's own under the pod's name, and nobody at
/// their other end.
pub(crate) fn can_be_opened(file: &OwnedFd) -> Result<(), Errno> {
    let kind = FileType::from_raw_mode(retry_on_intr(|| fstat(file))?.st_mode);
    match kind {
        FileType::RegularFile | FileType::Directory | FileType::Symlink => Ok(()),
        _ => Err(Errno::NXIO),
    }
}

/// A path of the app's as the view's root has it.
fn below(path: &Path) -> &Path {
    match path.strip_prefix("/") {
        Ok(rest) if rest.as_os_str().is_empty() => Path::new("."),
        Ok(rest) => rest,
        Err(_) => path,
    }
}
