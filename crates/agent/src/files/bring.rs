//! Answers that bring more along than one thing, so that a session far away need not ask for each. Whoever asks guesses
//! what will be needed: nothing here may block for long, or do anything to what it looks at.

use std::collections::VecDeque;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags, RawDir};
use rustix::io::Errno;
use wire::message::{Branch, Bytes, FileAnswer, MAX_PATH, MAX_SMALL, Step, Whole};

use super::answer::{ENTRY_BYTES, MAX_BATCH, at, attributes, entry_of, errno, read_at};
use super::resolve;
use crate::Target;

/// The most that one answer brings, in bytes: below the longest message.
const MOST: usize = 768 << 10;
/// Components of one walk, links included.
const MAX_STEPS: usize = 256;
/// Symlinks of one walk (`MAXSYMLINKS` of the kernel).
const MAX_LINKS: usize = 40;
/// An encoded entry without its name and link is smaller than this and seldom by much.
const USUAL_ENTRY: usize = 80;
/// File systems whose files are made when they are read (linux/magic.h): proc, sysfs, debugfs, tracefs, both cgroups,
/// securityfs, pstore, efivarfs, configfs, bpf, binfmt_misc, selinuxfs.
const MADE_WHEN_READ: [u32; 13] = [
    0x9fa0,
    0x6265_6572,
    0x6462_6720,
    0x7472_6163,
    0x0027_e0eb,
    0x6367_7270,
    0x7363_6673,
    0x6165_676c,
    0xde5e_81e4,
    0x6265_6570,
    0xcafe_4a11,
    0x4249_4e4d,
    0xf97c_ff8c,
];

/// Attributes of each component, and what a small file at the end holds.
pub(super) fn walk(target: &Target, path: &Bytes, known: u32, first: u32) -> io::Result<FileAnswer> {
    if path.0.len() > MAX_PATH {
        return Err(Errno::NAMETOOLONG.into());
    }
    let (mut steps, mut links) = (Vec::new(), 0);
    let mut way: VecDeque<Vec<u8>> = components(&path.0).collect();
    let (mut here, mut walked) = (PathBuf::from("/"), 0);
    while let Some(name) = way.pop_front() {
        if name == b".." {
            here.pop();
            continue;
        }
        here.push(std::ffi::OsStr::from_bytes(&name));
        walked += 1;
        if walked <= known && !way.is_empty() {
            continue;
        }
        let shown = Bytes(here.as_os_str().as_bytes().to_vec());
        let found = look(target, &shown);
        let link = found.as_ref().ok().and_then(|(_, link)| link.clone());
        let failed = found.is_err();
        steps.push(Step {
            path: shown,
            found: found.map_err(|error| errno(&error)),
        });
        if failed || steps.len() >= MAX_STEPS {
            return Ok(FileAnswer::Walk { steps, content: None });
        }
        let Some(link) = link else { continue };
        links += 1;
        if links > MAX_LINKS {
            return Ok(FileAnswer::Walk { steps, content: None });
        }
        here.pop();
        if link.0.first() == Some(&b'/') {
            here = "/".into();
        }
        components(&link.0).rev().for_each(|name| way.push_front(name));
        // What was known is told of the first path only.
        walked = walked.max(known);
    }
    let content = if first > 0 {
        let whole = small(target, &Bytes(here.into_os_string().into_vec()), first.min(MAX_SMALL));
        whole.ok().map(|whole| {
            if let Some(Step { found: Ok(last), .. }) = steps.last_mut() {
                last.0 = whole.attributes;
            }
            whole.data
        })
    } else {
        None
    };
    Ok(FileAnswer::Walk { steps, content })
}

fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    path.split(|&byte| byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .map(<[u8]>::to_vec)
}

fn look(target: &Target, path: &Bytes) -> io::Result<(wire::message::Attributes, Option<Bytes>)> {
    let object = at(target, path, resolve::ITSELF)?;
    let attributes = attributes(&object, c"")?;
    let link = match FileType::from_raw_mode(attributes.mode) {
        FileType::Symlink => Some(Bytes(rustix::fs::readlinkat(&object, c"", Vec::new())?.into_bytes())),
        _ => None,
    };
    Ok((attributes, link))
}

/// Directories, those asked for first, then those below.
pub(super) fn tree(target: &Target, paths: &[Bytes], below: bool, bytes: u32) -> io::Result<FileAnswer> {
    if paths.len() > MAX_BATCH {
        return Err(Errno::TOOBIG.into());
    }
    // What was named may take all of the answer, what lies below its share.
    let (mut left, mut share) = (MOST, usize::try_from(bytes).unwrap_or(MOST));
    let mut branches = Vec::new();
    // With the file system that those below must be on.
    let mut queue: VecDeque<(Bytes, Option<u64>)> = paths.iter().map(|path| (path.clone(), None)).collect();
    while let Some((path, device)) = queue.pop_front() {
        let most = if device.is_some() { left.min(share) } else { left };
        // It may be gone, or too large: what is smaller may still fit.
        let Ok(Some((branch, cost))) = branch(target, &path, device, most) else {
            if most < ENTRY_BYTES {
                break;
            }
            // Looking costs time too.
            share = share.saturating_sub(MOST / 64);
            continue;
        };
        left -= cost;
        if device.is_some() {
            share -= cost;
        }
        let device = Some(branch.attributes.device);
        let directories = branch.entries.iter().filter(|entry| {
            below && Some(entry.attributes.device) == device && entry.attributes.mode & libc::S_IFMT == libc::S_IFDIR
        });
        queue.extend(directories.map(|entry| (Bytes(joined(&path.0, &entry.name.0)), device)));
        branches.push(branch);
    }
    Ok(FileAnswer::Tree(branches))
}

fn joined(directory: &[u8], name: &[u8]) -> Vec<u8> {
    Path::new(std::ffi::OsStr::from_bytes(directory))
        .join(std::ffi::OsStr::from_bytes(name))
        .into_os_string()
        .into_vec()
}

/// `None` when it takes more than `left` bytes.
fn branch(target: &Target, path: &Bytes, device: Option<u64>, left: usize) -> io::Result<Option<(Branch, usize)>> {
    let mut flags = resolve::READ | OFlags::DIRECTORY;
    if device.is_some() {
        flags |= OFlags::NOFOLLOW;
    }
    let directory = at(target, path, flags)?;
    let own = attributes(&directory, c"")?;
    if device.is_some_and(|device| device != own.device) {
        return Err(Errno::XDEV.into());
    }
    let mut size = ENTRY_BYTES + path.0.len();
    let mut entries = Vec::new();
    let mut buffer = Vec::with_capacity(32 << 10);
    let mut names = RawDir::new(&directory, buffer.spare_capacity_mut());
    while let Some(entry) = names.next() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let Ok(entry) = entry_of(&directory, name) else {
            continue;
        };
        size += USUAL_ENTRY + entry.name.0.len() + entry.link.as_ref().map_or(0, |link| link.0.len());
        if size > left {
            return Ok(None);
        }
        entries.push(entry);
    }
    let branch = Branch {
        path: path.clone(),
        attributes: own,
        entries,
    };
    Ok(Some((branch, size)))
}

/// Small files, each whole.
pub(super) fn contents(target: &Target, paths: &[Bytes]) -> io::Result<FileAnswer> {
    if paths.len() > MAX_BATCH {
        return Err(Errno::TOOBIG.into());
    }
    let mut left = MOST;
    let mut one = |path| {
        let whole = small(target, path, MAX_SMALL).map_err(|error| errno(&error))?;
        left = left.checked_sub(whole.data.0.len()).ok_or(libc::E2BIG)?;
        Ok(whole)
    };
    Ok(FileAnswer::Contents(paths.iter().map(&mut one).collect()))
}

/// A regular file of at most `most` bytes. It is looked at before it is opened: opening a FIFO or a device does something.
fn small(target: &Target, path: &Bytes, most: u32) -> io::Result<Whole> {
    let regular = |attributes: &wire::message::Attributes| {
        if FileType::from_raw_mode(attributes.mode) != FileType::RegularFile {
            Err(Errno::OPNOTSUPP)
        } else if attributes.size == 0 || attributes.size > u64::from(most) {
            Err(Errno::FBIG)
        } else {
            Ok(())
        }
    };
    let object = at(target, path, resolve::ITSELF)?;
    regular(&attributes(&object, c"")?)?;
    let kind = u32::try_from(rustix::fs::fstatfs(&object)?.f_type).unwrap_or(0);
    if MADE_WHEN_READ.contains(&kind) {
        return Err(Errno::OPNOTSUPP.into());
    }
    let file = at(target, path, resolve::READ | OFlags::NOFOLLOW)?;
    let attributes = attributes(&file, c"")?;
    regular(&attributes)?;
    match read_at(&file, 0, most)? {
        // Otherwise it is being written.
        (data, true) if data.len() as u64 == attributes.size => Ok(Whole {
            attributes,
            data: Bytes(data),
        }),
        _ => Err(Errno::AGAIN.into()),
    }
}
