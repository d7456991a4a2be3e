//! One file request, done. Blocking: runs on a worker with the target's credentials.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, OFlags, RawDir, SeekFrom, Statx, StatxFlags};
use rustix::io::Errno;
use wire::message::{Attributes, Bytes, Entry, FileAnswer, FileOperation, MAX_PATH, MAX_READ, Time};

use super::handles::Handles;
use super::{bring, change, resolve};
use crate::Target;

/// Paths in one batch.
pub(super) const MAX_BATCH: usize = 1024;
/// How much of a directory goes in one answer, in encoded bytes and entries.
const LIST_BYTES: usize = 768 << 10;
const LIST_ENTRIES: usize = 8192;
/// More than an entry without its names takes.
pub(super) const ENTRY_BYTES: usize = 128;
/// The longest extended attribute (XATTR_SIZE_MAX).
const MAX_XATTR: usize = 64 << 10;

pub(crate) fn answer(target: &Target, handles: &Handles, operation: FileOperation) -> FileAnswer {
    let result = match operation {
        FileOperation::Stat(paths) => stat(target, &paths),
        FileOperation::List { path, cookie } => list(target, &path, cookie),
        FileOperation::ReadLink(path) => read_link(target, &path),
        FileOperation::Open { path, first } => open(target, handles, &path, first),
        FileOperation::Read { handle, offset, length } => read(handles, handle, offset, length),
        FileOperation::Close(handle) => match handles.close(handle) {
            true => Ok(FileAnswer::Closed),
            false => Err(Errno::BADF.into()),
        },
        FileOperation::StatFs => statfs(target),
        FileOperation::Xattr { path, name } => xattr(target, &path, &name),
        FileOperation::Change(change) => change::change(target, handles, change).map(FileAnswer::Changed),
        FileOperation::Walk { path, known, first } => bring::walk(target, &path, known, first),
        FileOperation::Tree { paths, below, bytes } => bring::tree(target, &paths, below, bytes),
        FileOperation::Contents(paths) => bring::contents(target, &paths),
    };
    result.unwrap_or_else(|error| FileAnswer::Failed(errno(&error)))
}

pub(super) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

pub(super) fn at(target: &Target, path: &Bytes, flags: OFlags) -> io::Result<OwnedFd> {
    resolve::open(target.root()?, target.own_pid(), &path.0, flags)
}

fn stat(target: &Target, paths: &[Bytes]) -> io::Result<FileAnswer> {
    if paths.len() > MAX_BATCH {
        return Err(Errno::TOOBIG.into());
    }
    let one = |path| attributes(at(target, path, resolve::ITSELF)?, c"");
    Ok(FileAnswer::Stat(
        paths
            .iter()
            .map(|path| one(path).map_err(|error| errno(&error)))
            .collect(),
    ))
}

/// Of the descriptor itself where `name` is empty.
pub(super) fn attributes(directory: impl AsFd, name: &std::ffi::CStr) -> io::Result<Attributes> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    Ok(convert(&rustix::fs::statx(
        directory,
        name,
        flags,
        StatxFlags::BASIC_STATS,
    )?))
}

fn convert(stat: &Statx) -> Attributes {
    let time = |time: rustix::fs::StatxTimestamp| Time {
        seconds: time.tv_sec,
        nanoseconds: time.tv_nsec,
    };
    Attributes {
        inode: stat.stx_ino,
        device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
        mode: u32::from(stat.stx_mode),
        links: stat.stx_nlink,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        special_device: rustix::fs::makedev(stat.stx_rdev_major, stat.stx_rdev_minor),
        size: stat.stx_size,
        blocks: stat.stx_blocks,
        accessed: time(stat.stx_atime),
        modified: time(stat.stx_mtime),
        changed: time(stat.stx_ctime),
    }
}

/// `cookie` is the directory's own position, so nothing is kept between the parts.
fn list(target: &Target, path: &Bytes, cookie: u64) -> io::Result<FileAnswer> {
    let directory = at(target, path, resolve::READ | OFlags::DIRECTORY)?;
    if cookie != 0 {
        rustix::fs::seek(&directory, SeekFrom::Start(cookie))?;
    }
    let mut entries = Vec::new();
    let mut size = 0;
    let mut buffer = Vec::with_capacity(32 << 10);
    let mut names = RawDir::new(&directory, buffer.spare_capacity_mut());
    let mut last = cookie;
    while let Some(entry) = names.next() {
        let entry = entry?;
        let name = entry.file_name();
        let cost = name.to_bytes().len() + ENTRY_BYTES;
        if size + cost + MAX_PATH > LIST_BYTES || entries.len() >= LIST_ENTRIES {
            return Ok(FileAnswer::List { entries, next: last });
        }
        last = entry.next_entry_cookie();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        // What is gone since, or may not be looked at, is not told.
        let Ok(entry) = entry_of(&directory, name) else {
            continue;
        };
        size += cost + entry.link.as_ref().map_or(0, |link| link.0.len());
        entries.push(entry);
    }
    Ok(FileAnswer::List { entries, next: 0 })
}

/// A name in a directory.
pub(super) fn entry_of(directory: impl AsFd, name: &std::ffi::CStr) -> io::Result<Entry> {
    let attributes = attributes(&directory, name)?;
    let link = match FileType::from_raw_mode(attributes.mode) {
        FileType::Symlink => rustix::fs::readlinkat(&directory, name, Vec::new()).ok(),
        _ => None,
    };
    Ok(Entry {
        name: Bytes(name.to_bytes().to_vec()),
        attributes,
        link: link.map(|link| Bytes(link.into_bytes())),
    })
}

fn read_link(target: &Target, path: &Bytes) -> io::Result<FileAnswer> {
    let link = at(target, path, resolve::ITSELF)?;
    // readlinkat(2) says ENOENT for an empty path on what is no link.
    match rustix::fs::readlinkat(&link, c"", Vec::new()) {
        Ok(content) => Ok(FileAnswer::ReadLink(Bytes(content.into_bytes()))),
        Err(Errno::NOENT) => Err(Errno::INVAL.into()),
        Err(errno) => Err(errno.into()),
    }
}

fn open(target: &Target, handles: &Handles, path: &Bytes, first: u32) -> io::Result<FileAnswer> {
    let file = at(target, path, resolve::READ)?;
    let attributes = attributes(&file, c"")?;
    match FileType::from_raw_mode(attributes.mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(Errno::ISDIR.into()),
        // Devices, FIFOs and sockets mean something only where they are.
        _ => return Err(Errno::OPNOTSUPP.into()),
    }
    let (data, ended) = read_at(&file, 0, first.min(MAX_READ))?;
    let handle = if ended {
        None
    } else {
        Some(handles.keep(file).ok_or(Errno::NFILE)?)
    };
    Ok(FileAnswer::Open {
        attributes,
        handle,
        data: Bytes(data),
    })
}

fn read(handles: &Handles, handle: u64, offset: u64, length: u32) -> io::Result<FileAnswer> {
    let file = handles.get(handle).ok_or(Errno::BADF)?;
    let (data, _) = read_at(&*file, offset, length.min(MAX_READ))?;
    Ok(FileAnswer::Read(Bytes(data)))
}

/// Reads until `length` or the end, and says whether the end was seen: files in /proc have no size that would tell.
pub(super) fn read_at(file: impl AsFd, offset: u64, length: u32) -> io::Result<(Vec<u8>, bool)> {
    // One more than asked, so that a file which just fits is known to be whole.
    let wanted = length as usize + 1;
    let mut data = vec![0; wanted];
    let mut have = 0;
    while have < wanted {
        let position = offset.checked_add(have as u64).ok_or(Errno::INVAL)?;
        match rustix::io::pread(&file, &mut data[have..], position) {
            Ok(0) => {
                data.truncate(have);
                return Ok((data, true));
            }
            Ok(count) => have += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    data.truncate(length as usize);
    Ok((data, false))
}

fn statfs(target: &Target) -> io::Result<FileAnswer> {
    let stat = rustix::fs::fstatvfs(target.root()?)?;
    let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    Ok(FileAnswer::StatFs {
        blocks: stat.f_blocks,
        free: stat.f_bfree,
        available: stat.f_bavail,
        files: stat.f_files,
        free_files: stat.f_ffree,
        block_size: small(stat.f_bsize),
        name_max: small(stat.f_namemax),
    })
}

/// An O_PATH descriptor has no fgetxattr(2); its magic link leads to the object without another lookup.
fn xattr(target: &Target, path: &Bytes, name: &Bytes) -> io::Result<FileAnswer> {
    use std::os::fd::AsRawFd;
    let object = at(target, path, resolve::ITSELF)?;
    if FileType::from_raw_mode(attributes(&object, c"")?.mode) == FileType::Symlink {
        return Err(Errno::NODATA.into());
    }
    let mut value = vec![0; MAX_XATTR];
    let link = format!("/proc/self/fd/{}", object.as_raw_fd());
    let length = rustix::fs::getxattr(link, &*name.0, &mut value[..])?;
    value.truncate(length);
    Ok(FileAnswer::Xattr(Bytes(value)))
}
