//! Extended attributes, of which only those are told of and changed that [`XattrKind`] names.
//!
//! The calls with `l` in their names take a path; here it is that of an open directory's magic link in /proc with one name
//! behind it, or of the object's own link: neither is resolved any further.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{FileType, XattrFlags};
use rustix::io::Errno;
use wire::message::{
    Bytes, Changed, FileAnswer, MAX_XATTR_LIST, MAX_XATTR_NAME, MAX_XATTR_VALUE, Xattr, XattrKind, XattrKinds,
};

use super::answer::{MAX_BATCH, at, attributes, errno};
use super::resolve;
use crate::Target;

/// A value that is brought along with the names, at most.
const SMALL: usize = 4 << 10;
/// All that one answer brings, in bytes.
const MOST: usize = 768 << 10;
/// Names that most files have no more of, in bytes.
const USUAL: usize = 1 << 10;

/// Which kinds what is at `name` has, or the object itself where `name` is empty. What cannot be told is none: the file system
/// has no extended attributes, or the file is gone.
pub(super) fn kinds(directory: impl AsFd, name: &CStr, mode: u32) -> XattrKinds {
    // A link has none of those that are passed on.
    if FileType::from_raw_mode(mode) == FileType::Symlink {
        return XattrKinds::NONE;
    }
    let path = magic(&directory, name);
    let mut few = [0; USUAL];
    let told = |names: &mut [u8]| match name.is_empty() {
        true => rustix::fs::listxattr(&path, names),
        false => rustix::fs::llistxattr(&path, names),
    };
    match told(&mut few) {
        Ok(length) => XattrKinds::of_list(few.get(..length).unwrap_or_default()),
        Err(Errno::RANGE) => {
            let mut many = vec![0; MAX_XATTR_LIST];
            let length = told(&mut many).unwrap_or(0);
            XattrKinds::of_list(many.get(..length).unwrap_or_default())
        }
        Err(_) => XattrKinds::NONE,
    }
}

/// The path of one name in an open directory, or of the object itself where `name` is empty; as long as that is open.
pub(super) fn magic(directory: &impl AsFd, name: &CStr) -> PathBuf {
    let mut path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd()));
    if !name.is_empty() {
        path.push(OsStr::from_bytes(name.to_bytes()));
    }
    path
}

/// What a path leads to, and the link by which its attributes are reached: there is no fgetxattr(2) for O_PATH descriptors.
fn object(target: &Target, path: &Bytes) -> io::Result<(OwnedFd, PathBuf)> {
    let object = at(target, path, resolve::ITSELF)?;
    let link = magic(&object, c"");
    Ok((object, link))
}

/// One value.
pub(super) fn get(target: &Target, path: &Bytes, name: &Bytes) -> io::Result<FileAnswer> {
    if XattrKind::of(&name.0).is_none() {
        return Err(Errno::NODATA.into());
    }
    let (_object, link) = object(target, path)?;
    let mut value = vec![0; MAX_XATTR_VALUE];
    let length = rustix::fs::getxattr(link, &*name.0, &mut value[..])?;
    value.truncate(length);
    Ok(FileAnswer::Xattr(Bytes(value)))
}

/// The names of each, with what is short.
pub(super) fn list(target: &Target, paths: &[Bytes]) -> io::Result<FileAnswer> {
    if paths.len() > MAX_BATCH {
        return Err(Errno::TOOBIG.into());
    }
    let mut left = MOST;
    let mut one = |path| {
        let found = all(target, path).map_err(|error| errno(&error))?;
        let size = |xattr: &Xattr| 8 + xattr.name.0.len() + xattr.value.as_ref().map_or(0, |value| value.0.len());
        left = left.checked_sub(found.iter().map(size).sum()).ok_or(libc::E2BIG)?;
        Ok(found)
    };
    Ok(FileAnswer::Xattrs(paths.iter().map(&mut one).collect()))
}

fn all(target: &Target, path: &Bytes) -> io::Result<Vec<Xattr>> {
    let (_object, link) = object(target, path)?;
    let mut names = vec![0; MAX_XATTR_LIST];
    let length = rustix::fs::listxattr(&link, &mut names[..])?;
    names.truncate(length);
    let mut value = vec![0; SMALL];
    let mut one = |name: &[u8]| {
        let length = rustix::fs::getxattr(&link, name, &mut value[..]).ok();
        Xattr {
            name: Bytes(name.to_vec()),
            value: length.and_then(|length| Some(Bytes(value.get(..length)?.to_vec()))),
        }
    };
    let passed = names
        .split(|&byte| byte == 0)
        .filter(|name| XattrKind::of(name).is_some());
    Ok(passed.map(&mut one).collect())
}

pub(super) fn set(target: &Target, path: &Bytes, name: &Bytes, value: &Bytes, flags: u32) -> io::Result<Changed> {
    check(name)?;
    if value.0.len() > MAX_XATTR_VALUE {
        return Err(Errno::TOOBIG.into());
    }
    let flags = XattrFlags::from_bits(flags).ok_or(Errno::INVAL)?;
    let (object, link) = object(target, path)?;
    rustix::fs::setxattr(link, &*name.0, &value.0, flags)?;
    Ok(Changed::Now(attributes(&object, c"")?))
}

pub(super) fn remove(target: &Target, path: &Bytes, name: &Bytes) -> io::Result<Changed> {
    check(name)?;
    let (object, link) = object(target, path)?;
    rustix::fs::removexattr(link, &*name.0)?;
    Ok(Changed::Now(attributes(&object, c"")?))
}

fn check(name: &Bytes) -> io::Result<()> {
    if name.0.len() > MAX_XATTR_NAME {
        return Err(Errno::RANGE.into());
    }
    XattrKind::of(&name.0).map(drop).ok_or_else(|| Errno::OPNOTSUPP.into())
}
