//! The first steps into a namespace, which are also what is tried to find out whether they work.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, OpenTreeFlags};

use crate::sys;

/// What may not be allowed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Unshare = 1,
    Isolate,
    CopyMount,
    OpenFuse,
    MountFuse,
    Probe,
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Unshare => "making a mount namespace",
            Self::Isolate => "setting up a mount namespace",
            Self::CopyMount => "copying a mount",
            Self::OpenFuse => "opening /dev/fuse",
            Self::MountFuse => "mounting FUSE",
            Self::Probe => "trying the mount namespace",
        })
    }
}

/// What failed, and how.
pub(crate) type Failed = (Step, io::Error);

/// Leaves the machine's mount namespace; nothing that is mounted from now on is seen outside. With `user` in a user
/// namespace in which the user keeps uid and gid.
pub(crate) fn isolate(user: bool) -> Result<(), Failed> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    sys::unshare_mounts(user).map_err(|error| (Step::Unshare, error))?;
    let setup = || {
        if user {
            // gid_map is refused otherwise (user_namespaces(7)).
            std::fs::write("/proc/self/setgroups", "deny")?;
            std::fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
            std::fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))?;
        }
        // Slaves still see what the machine mounts and unmounts later, and pass nothing back.
        let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", slave).map_err(io::Error::from)
    };
    setup().map_err(|error: io::Error| (Step::Isolate, error))
}

/// Mounts FUSE at `target`, for reading only unless it is `writable`. The kernel answers nothing there until somebody serves the descriptor.
pub(crate) fn mount_fuse(device: &Path, target: &Path, writable: bool) -> Result<OwnedFd, Failed> {
    let fuse = rustix::fs::open(device, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| (Step::OpenFuse, error.into()))?;
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let data = format!(
        "fd={},rootmode=40000,user_id={uid},group_id={gid},allow_other\0",
        fuse.as_raw_fd()
    );
    let data = std::ffi::CStr::from_bytes_with_nul(data.as_bytes()).unwrap_or_default();
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    flags.set(MountFlags::RDONLY, !writable);
    // The subtype is what backup and indexing tools are told to leave out.
    rustix::mount::mount("inpod", target, "fuse.inpod", flags, data)
        .map_err(|error| (Step::MountFuse, error.into()))?;
    Ok(fuse)
}

/// Copies a mount that goes at once: the new root is made of copies.
fn copy_mount(path: &Path) -> Result<(), Failed> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    rustix::mount::open_tree(rustix::fs::CWD, path, flags)
        .map(drop)
        .map_err(|error| (Step::CopyMount, error.into()))
}

/// Tries all of it in a child process.
pub(crate) fn probe(user: bool) -> Result<(), Failed> {
    let answer = sys::in_child(|| {
        let tried = isolate(user)
            .and_then(|()| copy_mount(Path::new("/dev")))
            .and_then(|()| mount_fuse(Path::new("/dev/fuse"), Path::new("/"), false).map(drop));
        let (step, errno) = match tried {
            Ok(()) => (0, 0),
            Err((step, error)) => (step as i32, error.raw_os_error().unwrap_or(libc::EIO)),
        };
        let mut out = [0; 16];
        out[..4].copy_from_slice(&step.to_ne_bytes());
        out[4..8].copy_from_slice(&errno.to_ne_bytes());
        out
    })
    .map_err(|error| (Step::Probe, error))?;
    let number = |at: usize| i32::from_ne_bytes([answer[at], answer[at + 1], answer[at + 2], answer[at + 3]]);
    let step = match number(0) {
        0 => return Ok(()),
        1 => Step::Unshare,
        2 => Step::Isolate,
        3 => Step::CopyMount,
        4 => Step::OpenFuse,
        5 => Step::MountFuse,
        _ => Step::Probe,
    };
    Err((step, io::Error::from_raw_os_error(number(4))))
}
