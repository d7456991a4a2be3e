//! A part of the pod whose changes stay on this machine: the kernel's overlay file system over it, with a directory of
//! this machine as its upper layer.

use std::fmt::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::MountFlags;

use super::enter::OLD;
use super::error::{Doing, NsError};
use super::mount::{directory, open_in};
use crate::changes::{FILES, PLACE, WORK};

/// The directory in which changes are kept ([`crate::changes`]), in this namespace.
pub(super) struct Upper {
    files: OwnedFd,
    work: OwnedFd,
}

impl Upper {
    /// `path` as it is called outside of the namespace; `old` is the machine's root.
    pub(super) fn open(old: &OwnedFd, path: &Path) -> Result<Self, NsError> {
        let open = |name: &str| {
            let path = path.join(name);
            open_in(old, &path, OFlags::PATH | OFlags::DIRECTORY).doing("open", &path)
        };
        Ok(Self {
            files: open(FILES)?,
            work: open(WORK)?,
        })
    }

    /// Mounts at `at` what `lower`, the pod's directory at `path`, is with its changes over it. `number` is of this mount
    /// alone.
    pub(super) fn over(
        &self,
        lower: &OwnedFd,
        path: &Path,
        number: u32,
        at: &Path,
        user: bool,
    ) -> Result<OwnedFd, NsError> {
        let upper = self.upper(lower, path)?;
        let name = number.to_string();
        make(&self.work, &name, path)?;
        let work = open(&self.work, &name, path)?;
        // For whoever looks at the changes later: this directory, and those above it, are no change.
        let note = format!("{OLD}/proc/self/fd/{}/{name}{PLACE}", self.work.as_raw_fd());
        std::fs::write(note, path.as_os_str().as_bytes()).doing("keep changes of", path)?;
        let mut options = String::new();
        for (layer, descriptor) in [("lowerdir", lower), ("upperdir", &upper), ("workdir", &work)] {
            // No path of this machine, in which a colon or a comma would mean something.
            let _ = write!(options, "{layer}={OLD}/proc/self/fd/{},", descriptor.as_raw_fd());
        }
        // What the overlay notes of its own stands in attributes that this user may write.
        options += if user { "userxattr\0" } else { "redirect_dir=on\0" };
        let options = std::ffi::CStr::from_bytes_with_nul(options.as_bytes()).unwrap_or_default();
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount("inpod", at, "overlay", flags, options)
            .doing("keep on this machine the changes of", path)?;
        directory(at)
    }

    /// The directory of the changes of `path`, with its mode and owner.
    fn upper(&self, lower: &OwnedFd, path: &Path) -> Result<OwnedFd, NsError> {
        let mut upper = self.files.try_clone().doing("open", path)?;
        for name in path.iter().filter(|name| *name != "/") {
            make(&upper, name, path)?;
            upper = open(&upper, name, path)?;
        }
        let stat = rustix::fs::fstat(lower).doing("look in the pod at", path)?;
        let owner = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        // An owner that this user namespace does not know, or that this user may not give, cannot be given.
        let _ = rustix::fs::chownat(&upper, "", owner.0.into(), owner.1.into(), AtFlags::EMPTY_PATH);
        let link = format!("{OLD}/proc/self/fd/{}", upper.as_raw_fd());
        rustix::fs::chmodat(CWD, &link, Mode::from_raw_mode(stat.st_mode), AtFlags::empty())
            .doing("keep changes of", path)?;
        Ok(upper)
    }
}

fn make(at: &OwnedFd, name: impl rustix::path::Arg, path: &Path) -> Result<(), NsError> {
    match rustix::fs::mkdirat(at, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error).doing("keep changes of", path),
    }
}

fn open(at: &OwnedFd, name: impl rustix::path::Arg, path: &Path) -> Result<OwnedFd, NsError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty()).doing("keep changes of", path)
}
