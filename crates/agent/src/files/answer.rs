//! One file request, done. Blocking: runs on a worker with the target's credentials.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Access, AtFlags, CWD, FileType, OFlags, RawDir, SeekFrom, Statx, StatxFlags};
use rustix::io::Errno;
use wire::message::{
    Attributes, Bytes, Entry, FileAnswer, FileOperation, MAX_PATH, MAX_READ, Time, XattrKind, XattrKinds,
};

use super::handles::Handles;
use super::{bring, change, resolve, xattr};
use crate::Target;

/// Paths in one batch.
pub(super) const MAX_BATCH: usize = 1024;
/// How much of a directory goes in one answer, in encoded bytes and entries: packed, which halves it and better, it is within the
/// 256 KiB that a stream takes without being asked; and what comes first is not old before the last is used.
const LIST_BYTES: usize = 480 << 10;
const LIST_ENTRIES: usize = 8192;
/// More than an entry without its names takes.
pub(super) const ENTRY_BYTES: usize = 128;

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
        FileOperation::Xattr { path, name } => xattr::get(target, &path, &name),
        FileOperation::Xattrs(paths) => xattr::list(target, &paths),
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
    let stat = rustix::fs::statx(&directory, name, flags, StatxFlags::BASIC_STATS)?;
    let xattrs = xattr::kinds(&directory, name, stat.stx_mode.into());
    let unreadable = unreadable(&directory, name, stat.stx_mode.into(), xattrs);
    Ok(convert(&stat, xattrs, unreadable))
}

/// Whether it is a file that the target's user may not read. Most files are everybody's to read, and are not asked for.
fn unreadable(directory: impl AsFd, name: &std::ffi::CStr, mode: u32, xattrs: XattrKinds) -> bool {
    const EVERYBODY: u32 = 0o444;
    if FileType::from_raw_mode(mode) != FileType::RegularFile
        || (mode & EVERYBODY == EVERYBODY && !xattrs.has(XattrKind::Access))
    {
        return false;
    }
    let path = xattr::magic(&directory, name);
    rustix::fs::accessat(CWD, &path, Access::READ_OK, AtFlags::EACCESS) == Err(Errno::ACCESS)
}

fn convert(stat: &Statx, xattrs: XattrKinds, unreadable: bool) -> Attributes {
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
        xattrs,
        unreadable,
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
        let most = name.to_bytes().len() + ENTRY_BYTES;
        if size + most + MAX_PATH > LIST_BYTES || entries.len() >= LIST_ENTRIES {
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
        size += encoded(&entry);
        entries.push(entry);
    }
    Ok(FileAnswer::List { entries, next: 0 })
}

/// What an entry takes in an answer, in bytes: names are short, and times most of it.
fn encoded(entry: &Entry) -> usize {
    let Entry { name, attributes, link } = entry;
    let number = |value: u64| (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize;
    let bytes = |bytes: &Bytes| number(bytes.0.len() as u64) + bytes.0.len();
    let time = |time: Time| number(time.seconds.unsigned_abs() << 1 | 1) + number(time.nanoseconds.into());
    let numbers = [
        attributes.inode,
        attributes.device,
        attributes.special_device,
        attributes.size,
        attributes.blocks,
        attributes.mode.into(),
        attributes.links.into(),
        attributes.uid.into(),
        attributes.gid.into(),
    ];
    let times = [attributes.accessed, attributes.modified, attributes.changed];
    let flags = 3;
    numbers.into_iter().map(number).sum::<usize>()
        + times.into_iter().map(time).sum::<usize>()
        + bytes(name)
        + link.as_ref().map_or(0, bytes)
        + flags
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_takes_what_is_counted() {
        let time = |seconds| Time {
            seconds,
            nanoseconds: 999_999_999,
        };
        for (number, seconds, link) in [(0, 0, None), (300, -1, None), (u64::MAX, 1 << 40, Some("elsewhere"))] {
            let small = u32::try_from(number).unwrap_or(u32::MAX);
            let attributes = Attributes {
                inode: number,
                device: number,
                mode: small,
                links: small,
                uid: small,
                gid: small,
                special_device: number,
                size: number,
                blocks: number,
                accessed: time(seconds),
                modified: time(seconds),
                changed: time(seconds),
                xattrs: XattrKinds::NONE,
                unreadable: true,
            };
            let entry = Entry {
                name: Bytes(b"name".to_vec()),
                attributes,
                link: link.map(|link: &str| Bytes(link.into())),
            };
            let empty = FileAnswer::List {
                entries: Vec::new(),
                next: 0,
            };
            let one = FileAnswer::List {
                entries: vec![entry.clone()],
                next: 0,
            };
            let length = |answer: &FileAnswer| wire::frame::encode(answer).unwrap().len();
            assert_eq!(encoded(&entry), length(&one) - length(&empty), "{entry:?}");
        }
    }
}
