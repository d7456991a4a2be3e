//! Single steps of the set-up: directories by descriptor, copies of mounts, mounts over names.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags};

use super::error::{Doing, NsError};

pub(super) fn directory(path: &Path) -> Result<OwnedFd, NsError> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).doing("open", path)
}

pub(super) fn dup(fd: &OwnedFd) -> Result<OwnedFd, NsError> {
    fd.try_clone().doing("duplicate", "a directory's descriptor")
}

/// Opens a path as if `root` were the root directory.
pub(super) fn open_in(root: &OwnedFd, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// Every entry of a directory but `.` and `..`. `path` is what it is called in messages.
pub(super) fn for_each_entry(
    directory: &OwnedFd,
    path: &Path,
    mut each: impl FnMut(&OsStr, FileType) -> Result<(), NsError>,
) -> Result<(), NsError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let readable = rustix::fs::openat(directory, ".", flags, Mode::empty()).doing("list", path)?;
    for entry in rustix::fs::Dir::new(readable).doing("list", path)? {
        let entry = entry.doing("list", path)?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            each(name, entry.file_type())?;
        }
    }
    Ok(())
}

/// Brings one entry of a directory over as it is: links as links, everything else as a mount of itself.
pub(super) fn copy_entry(
    from: &OwnedFd,
    to: &OwnedFd,
    name: &OsStr,
    kind: FileType,
    path: &Path,
) -> Result<(), NsError> {
    let kind = match kind {
        FileType::Unknown => {
            let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW).doing("look at", path)?;
            FileType::from_raw_mode(stat.st_mode)
        }
        known => known,
    };
    if kind == FileType::Symlink {
        let target = rustix::fs::readlinkat(from, name, Vec::new()).doing("read the link", path)?;
        return rustix::fs::symlinkat(target.as_c_str(), to, name).doing("link", path);
    }
    // Recursive: a part of a tree with mounts below it may not be copied in a user namespace.
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    let tree = rustix::mount::open_tree(from, name, flags).doing("take along", path)?;
    create(to.as_fd(), name, kind == FileType::Directory, path)?;
    attach_at(&tree, to, name, path)
}

/// An empty directory or file to mount over.
pub(super) fn create(at: BorrowedFd<'_>, name: &OsStr, is_directory: bool, path: &Path) -> Result<(), NsError> {
    if is_directory {
        return rustix::fs::mkdirat(at, name, Mode::from_raw_mode(0o755)).doing("create", path);
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::from_raw_mode(0o644))
        .map(drop)
        .doing("create", path)
}

/// A mount of what `source` is, with everything mounted below it, not yet anywhere.
pub(super) fn clone(source: &OwnedFd, path: &Path) -> Result<OwnedFd, NsError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    rustix::mount::open_tree(source, "", flags).doing("prepare the mount of", path)
}

pub(super) fn attach(tree: &OwnedFd, target: &OwnedFd, path: &Path) -> Result<(), NsError> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(tree, "", target, "", flags).doing("mount over", path)
}

/// Mounts over a name, if that is a link over the link itself.
pub(super) fn attach_at(tree: &OwnedFd, directory: &OwnedFd, name: &OsStr, path: &Path) -> Result<(), NsError> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(tree, "", directory, name, flags).doing("mount at", path)
}
