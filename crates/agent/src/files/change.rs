//! What changes the target's files. Blocking, with the target's credentials, and without a umask: who asks has applied the
//! app's.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Timespec, Timestamps,
    UTIME_NOW, UTIME_OMIT, Uid,
};
use rustix::io::{Errno, ReadWriteFlags};
use wire::message::{Bytes, Change, Changed, Create, MAX_PATH, MAX_WRITE, Object, SetAttributes, SetTime};

use super::answer::{at, attributes};
use super::handles::Handles;
use super::{resolve, xattr};
use crate::Target;

/// For writing, without any effect that a device or a FIFO would have on being opened.
const FLAGS: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

pub(super) fn change(target: &Target, handles: &Handles, change: Change) -> io::Result<Changed> {
    let made = |(directory, name): (OwnedFd, CString)| Ok(Changed::Now(attributes(&directory, &name)?));
    match change {
        Change::Open {
            path,
            read,
            truncate,
            create,
        } => {
            let access = if read { OFlags::RDWR } else { OFlags::WRONLY };
            let file = open(target, &path, access, truncate, create)?;
            let attributes = attributes(&file, c"")?;
            let handle = handles.keep(file).ok_or(Errno::NFILE)?;
            Ok(Changed::Opened { attributes, handle })
        }
        Change::Write {
            handle,
            offset,
            append,
            data,
        } => write(&*held(handles, handle)?, offset, append, &data.0),
        Change::Set { object, attributes } => set(target, handles, &object, &attributes),
        Change::MakeDirectory { path, mode } => {
            let (directory, name) = parent(target, &path)?;
            rustix::fs::mkdirat(&directory, &*name, bits(mode))?;
            made((directory, name))
        }
        Change::MakeNode { path, mode, device } => {
            let (directory, name) = parent(target, &path)?;
            rustix::fs::mknodat(&directory, &*name, FileType::from_raw_mode(mode), bits(mode), device)?;
            made((directory, name))
        }
        Change::Symlink { path, target: leads } => {
            let (directory, name) = parent(target, &path)?;
            if leads.0.len() >= MAX_PATH {
                return Err(Errno::NAMETOOLONG.into());
            }
            rustix::fs::symlinkat(leads.0, &directory, &*name)?;
            made((directory, name))
        }
        Change::Link { from, to } => {
            let ((old, old_name), (new, new_name)) = (parent(target, &from)?, parent(target, &to)?);
            rustix::fs::linkat(&old, &*old_name, &new, &*new_name, AtFlags::empty())?;
            made((new, new_name))
        }
        Change::Rename { from, to, flags } => {
            let flags = RenameFlags::from_bits(flags).ok_or(Errno::INVAL)?;
            let ((old, old_name), (new, new_name)) = (parent(target, &from)?, parent(target, &to)?);
            rustix::fs::renameat_with(&old, &*old_name, &new, &*new_name, flags)?;
            Ok(Changed::Done)
        }
        Change::Remove { path, directory } => {
            let (above, name) = parent(target, &path)?;
            let flags = if directory {
                AtFlags::REMOVEDIR
            } else {
                AtFlags::empty()
            };
            rustix::fs::unlinkat(&above, &*name, flags)?;
            Ok(Changed::Done)
        }
        Change::Sync { object, data } => sync(target, handles, &object, data),
        Change::Allocate {
            handle,
            mode,
            offset,
            length,
        } => {
            let file = held(handles, handle)?;
            rustix::fs::fallocate(&*file, FallocateFlags::from_bits_retain(mode), offset, length)?;
            Ok(Changed::Now(attributes(&*file, c"")?))
        }
        Change::SetXattr {
            path,
            name,
            value,
            flags,
        } => xattr::set(target, &path, &name, &value, flags),
        Change::RemoveXattr { path, name } => xattr::remove(target, &path, &name),
    }
}

fn held(handles: &Handles, handle: u64) -> io::Result<Arc<OwnedFd>> {
    Ok(handles.get(handle).ok_or(Errno::BADF)?)
}

fn parent(target: &Target, path: &Bytes) -> io::Result<(OwnedFd, CString)> {
    resolve::parent(target.root()?, target.own_pid(), &path.0)
}

fn bits(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o7777)
}

fn open(target: &Target, path: &Bytes, access: OFlags, truncate: bool, create: Option<Create>) -> io::Result<OwnedFd> {
    if let Some(create) = create {
        let (directory, name) = parent(target, path)?;
        let flags = access | OFlags::CREATE | OFlags::EXCL | FLAGS;
        match rustix::fs::openat2(&directory, &*name, flags, bits(create.mode), ResolveFlags::NO_SYMLINKS) {
            Err(Errno::EXIST) if !create.exclusive => {}
            result => return Ok(result?),
        }
    }
    let object = at(target, path, resolve::ITSELF)?;
    match FileType::from_raw_mode(attributes(&object, c"")?.mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(Errno::ISDIR.into()),
        FileType::Symlink => return Err(Errno::LOOP.into()),
        // Devices, FIFOs and sockets mean something only where they are.
        _ => return Err(Errno::OPNOTSUPP.into()),
    }
    let truncate = if truncate { OFlags::TRUNC } else { OFlags::empty() };
    again(&object, access | truncate)
}

/// Opens what an O_PATH descriptor refers to, without another lookup.
fn again(object: &OwnedFd, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(magic(object), flags | FLAGS, Mode::empty())?)
}

fn magic(object: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", object.as_raw_fd())
}

/// Everything, or as much as there was room for.
fn write(file: &OwnedFd, offset: u64, append: bool, data: &[u8]) -> io::Result<Changed> {
    if data.len() > MAX_WRITE as usize {
        return Err(Errno::MSGSIZE.into());
    }
    let mut done = 0;
    while done < data.len() {
        let rest = &data[done..];
        let position = offset.checked_add(done as u64).ok_or(Errno::INVAL)?;
        let written = if append {
            rustix::io::pwritev2(file, &[io::IoSlice::new(rest)], 0, ReadWriteFlags::APPEND)
        } else {
            rustix::io::pwrite(file, rest, position)
        };
        match written {
            Err(Errno::INTR) => {}
            // What is written is told; the next write gets the reason.
            Ok(0) | Err(_) if done > 0 => break,
            Ok(0) => return Err(Errno::IO.into()),
            Err(errno) => return Err(errno.into()),
            Ok(count) => done += count,
        }
    }
    Ok(Changed::Written {
        length: u32::try_from(done).unwrap_or(u32::MAX),
        attributes: attributes(file, c"")?,
    })
}

fn set(target: &Target, handles: &Handles, object: &Object, wanted: &SetAttributes) -> io::Result<Changed> {
    match object {
        Object::Path(path) => {
            let object = at(target, path, resolve::ITSELF)?;
            let is_link = FileType::from_raw_mode(attributes(&object, c"")?.mode) == FileType::Symlink;
            set_on(&object, is_link, wanted)?;
            Ok(Changed::Now(attributes(&object, c"")?))
        }
        Object::Handle(handle) => {
            let file = held(handles, *handle)?;
            set_open(&file, wanted)?;
            Ok(Changed::Now(attributes(&*file, c"")?))
        }
    }
}

/// On an O_PATH descriptor. The owner first: to change it takes set-user-ID bits away.
fn set_on(object: &OwnedFd, is_link: bool, wanted: &SetAttributes) -> io::Result<()> {
    if wanted.uid.is_some() || wanted.gid.is_some() {
        let (uid, gid) = owner(wanted);
        rustix::fs::chownat(object, c"", uid, gid, AtFlags::EMPTY_PATH)?;
    }
    if let Some(mode) = wanted.mode {
        if is_link {
            return Err(Errno::OPNOTSUPP.into());
        }
        rustix::fs::chmod(magic(object), bits(mode))?;
    }
    if let Some(size) = wanted.size {
        rustix::fs::ftruncate(again(object, OFlags::WRONLY)?, size)?;
    }
    if let Some(times) = times(wanted) {
        if is_link {
            let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::utimensat(object, c"", &times, flags)?;
        } else {
            rustix::fs::utimensat(CWD, magic(object), &times, AtFlags::empty())?;
        }
    }
    Ok(())
}

fn set_open(file: &OwnedFd, wanted: &SetAttributes) -> io::Result<()> {
    if wanted.uid.is_some() || wanted.gid.is_some() {
        let (uid, gid) = owner(wanted);
        rustix::fs::fchown(file, uid, gid)?;
    }
    if let Some(mode) = wanted.mode {
        rustix::fs::fchmod(file, bits(mode))?;
    }
    if let Some(size) = wanted.size {
        rustix::fs::ftruncate(file, size)?;
    }
    if let Some(times) = times(wanted) {
        rustix::fs::futimens(file, &times)?;
    }
    Ok(())
}

fn owner(wanted: &SetAttributes) -> (Option<Uid>, Option<Gid>) {
    // u32::MAX would leave it as it is.
    (
        wanted.uid.filter(|&uid| uid != u32::MAX).map(Uid::from_raw),
        wanted.gid.filter(|&gid| gid != u32::MAX).map(Gid::from_raw),
    )
}

fn times(wanted: &SetAttributes) -> Option<Timestamps> {
    let one = |time: Option<SetTime>| {
        let (tv_sec, tv_nsec) = match time {
            None => (0, UTIME_OMIT),
            Some(SetTime::Now) => (0, UTIME_NOW),
            // The two special values are above this.
            Some(SetTime::To(time)) => (time.seconds, time.nanoseconds.min(999_999_999).into()),
        };
        Timespec { tv_sec, tv_nsec }
    };
    (wanted.accessed.is_some() || wanted.modified.is_some()).then(|| Timestamps {
        last_access: one(wanted.accessed),
        last_modification: one(wanted.modified),
    })
}

fn sync(target: &Target, handles: &Handles, object: &Object, data: bool) -> io::Result<Changed> {
    let flush = |file: BorrowedFd<'_>| {
        if data {
            rustix::fs::fdatasync(file)
        } else {
            rustix::fs::fsync(file)
        }
    };
    match object {
        Object::Path(path) => flush(at(target, path, resolve::READ | OFlags::NOFOLLOW)?.as_fd())?,
        Object::Handle(handle) => flush(held(handles, *handle)?.as_fd())?,
    }
    Ok(Changed::Done)
}
