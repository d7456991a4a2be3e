//! Into the namespace: the scratch root, the FUSE mount, the new root.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::DumpableBehavior;

use super::build::Builder;
use super::error::{Doing, NsError};
use super::setup::{Failed, Step, isolate, mount_fuse};
use super::{Layout, Skipped};

/// Directories over which the scratch root is mounted for the time of the set-up; one of them exists.
const COVERED: &[&str] = &["/tmp", "/run", "/var", "/mnt", "/usr"];

/// The machine's root while the new one is built.
pub(crate) const OLD: &str = "/old";
/// The new root.
pub(crate) const NEW: &str = "/new";
/// The pod's root.
pub(crate) const POD: &str = "/pod";
/// Where replicated directories are built.
pub(crate) const STAGE: &str = "/stage";

pub(crate) fn enter(layout: &Layout, send: impl FnOnce(OwnedFd) -> io::Result<()>) -> Result<Vec<Skipped>, NsError> {
    let cwd = std::env::current_dir().doing("find out", "the working directory")?;
    isolate(layout.user).map_err(|failed| named(failed, Path::new("/")))?;
    scratch_root()?;
    let (device, writable) = (Path::new(OLD).join("dev/fuse"), layout.rules.may_write());
    let fuse = mount_fuse(&device, Path::new(POD), writable).map_err(|failed| match failed.0 {
        Step::OpenFuse => named(failed, Path::new("/dev/fuse")),
        _ => named(failed, Path::new(POD)),
    })?;
    send(fuse).doing("hand over", "/dev/fuse")?;
    let skipped = Builder::new(layout)?.build()?;
    rustix::process::chdir(NEW).doing("enter", "/")?;
    replace_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).doing("detach the former root below", "/")?;
    rustix::process::chdir(&cwd).doing("return to the working directory", &cwd)?;
    // Gaining the capabilities of the user namespace made this process opaque to the supervisor, who must be able to read
    // the arguments of its calls.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).doing("make readable", "/proc/self")?;
    Ok(skipped)
}

fn named((step, source): Failed, path: &Path) -> NsError {
    let doing = match step {
        Step::Unshare => "make a mount namespace for",
        Step::Isolate | Step::CopyMount | Step::Probe => "set up the mount namespace at",
        Step::OpenFuse => "open",
        Step::MountFuse => "mount FUSE at",
    };
    NsError {
        doing,
        path: path.to_owned(),
        source,
    }
}

/// A small tmpfs becomes the root for the time of the set-up, with the machine's root below it: so no directory of the
/// machine is covered while the new root is built from it.
fn scratch_root() -> Result<(), NsError> {
    let covered = COVERED
        .iter()
        .map(Path::new)
        .find(|path| path.is_dir())
        .unwrap_or(Path::new("/tmp"));
    tmpfs(covered)?;
    for name in [OLD, NEW, POD, STAGE] {
        let path = covered.join(&name[1..]);
        std::fs::create_dir(&path).doing("create", &path)?;
    }
    replace_root(covered, covered.join(&OLD[1..]))?;
    rustix::process::chdir("/").doing("enter", "/")?;
    tmpfs(Path::new(NEW))
}

pub(crate) fn tmpfs(target: &Path) -> Result<(), NsError> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("inpod", target, "tmpfs", flags, c"mode=0755,size=25%").doing("mount a tmpfs at", target)
}

fn replace_root(new: impl AsRef<Path>, old: impl AsRef<Path>) -> Result<(), NsError> {
    rustix::process::pivot_root(new.as_ref(), old.as_ref()).doing("make the root", new)
}
