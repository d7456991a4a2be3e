//! Extended attributes of the local directory.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{OFlags, XattrFlags};
use wire::message::{Bytes, Change, Changed, FileAnswer, FileOperation, Xattr, XattrKind, XattrKinds};

use super::pod::{LocalPod, attributes};

fn link(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn names(fd: &OwnedFd) -> Result<Vec<u8>, i32> {
    let mut names = vec![0; 64 << 10];
    let length = rustix::fs::listxattr(link(fd), &mut names[..]).map_err(|error| error.raw_os_error())?;
    names.truncate(length);
    Ok(names)
}

pub(super) fn kinds(fd: &OwnedFd, mode: u32) -> XattrKinds {
    if mode & libc::S_IFMT == libc::S_IFLNK {
        return XattrKinds::NONE;
    }
    names(fd).map_or(XattrKinds::NONE, |names| XattrKinds::of_list(&names))
}

fn value(fd: &OwnedFd, name: &[u8]) -> Result<Bytes, i32> {
    let mut value = vec![0; 64 << 10];
    let length = rustix::fs::getxattr(link(fd), name, &mut value[..]).map_err(|error| error.raw_os_error())?;
    value.truncate(length);
    Ok(Bytes(value))
}

impl LocalPod {
    fn itself(&self, path: &Bytes) -> Result<OwnedFd, i32> {
        self.open(&path.0, OFlags::PATH | OFlags::NOFOLLOW)
    }

    pub(super) fn xattr(&self, operation: &FileOperation) -> Result<FileAnswer, i32> {
        let now = |fd: &OwnedFd| Ok(FileAnswer::Changed(Changed::Now(attributes(fd)?)));
        match operation {
            FileOperation::Xattr { path, name } => Ok(FileAnswer::Xattr(value(&self.itself(path)?, &name.0)?)),
            FileOperation::Xattrs(paths) => {
                let all = |path: &Bytes| {
                    let fd = self.itself(path)?;
                    let names = names(&fd)?;
                    let one = |name: &[u8]| Xattr {
                        name: Bytes(name.to_vec()),
                        value: value(&fd, name).ok().filter(|value| value.0.len() < 1000),
                    };
                    let names = names.split(|&byte| byte == 0);
                    Ok(names.filter(|name| XattrKind::of(name).is_some()).map(one).collect())
                };
                Ok(FileAnswer::Xattrs(paths.iter().map(all).collect()))
            }
            FileOperation::Change(Change::SetXattr {
                path,
                name,
                value,
                flags,
            }) => {
                let fd = self.itself(path)?;
                let flags = XattrFlags::from_bits(*flags).ok_or(libc::EINVAL)?;
                rustix::fs::setxattr(link(&fd), &*name.0, &value.0, flags).map_err(|error| error.raw_os_error())?;
                now(&fd)
            }
            FileOperation::Change(Change::RemoveXattr { path, name }) => {
                let fd = self.itself(path)?;
                rustix::fs::removexattr(link(&fd), &*name.0).map_err(|error| error.raw_os_error())?;
                now(&fd)
            }
            _ => Err(libc::EOPNOTSUPP),
        }
    }
}
