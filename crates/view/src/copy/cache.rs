//! The cache directory: private, mirrors the app's paths, never walked through symlinks.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno as Code;
use wire::message::Attributes;

use crate::Errno;

pub(super) struct Cache {
    /// As the caller sees it.
    directory: PathBuf,
    root: OwnedFd,
    /// Files on their way, moved to their place when complete.
    incoming: OwnedFd,
    next: AtomicU64,
}

/// A file on its way into the cache; removed when it does not get there.
pub(super) struct Incoming<'a> {
    cache: &'a Cache,
    /// Its name among the incoming ones; `None`: it fills a placeholder.
    name: Option<String>,
    pub(super) file: File,
    placed: bool,
}

impl Drop for Incoming<'_> {
    fn drop(&mut self) {
        match &self.name {
            Some(name) if !self.placed => {
                let _ = rustix::fs::unlinkat(&self.cache.incoming, name, AtFlags::empty());
            }
            None if !self.placed => {
                let _ = self.file.set_len(0);
            }
            _ => {}
        }
    }
}

impl Cache {
    pub(super) fn new(directory: &Path) -> Result<Self, Errno> {
        crate::files::private_directory(directory)?;
        let (root, incoming) = (super::root(directory), directory.join("incoming"));
        crate::files::private_directory(&root)?;
        crate::files::private_directory(&incoming)?;
        let open = |path: &Path| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty())
        };
        Ok(Self {
            root: open(&root)?,
            incoming: open(&incoming)?,
            directory: root,
            next: AtomicU64::new(0),
        })
    }

    /// Where an app's path lies.
    pub(super) fn path(&self, path: &Path) -> PathBuf {
        self.directory.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Opens a directory of the cache, which is made on the way with everything above it; what is in the way goes.
    fn open(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut directory = rustix::fs::openat(&self.root, ".", flags, Mode::empty())?;
        for part in path.components() {
            let Component::Normal(name) = part else { continue };
            let opened = match rustix::fs::openat(&directory, name, flags, Mode::empty()) {
                Err(Code::NOENT) => None,
                Err(Code::LOOP | Code::NOTDIR) => {
                    rustix::fs::unlinkat(&directory, name, AtFlags::empty())?;
                    None
                }
                other => Some(other?),
            };
            directory = match opened {
                Some(opened) => opened,
                None => {
                    match rustix::fs::mkdirat(&directory, name, Mode::RWXU) {
                        Ok(()) | Err(Code::EXIST) => {}
                        Err(error) => return Err(error.into()),
                    }
                    rustix::fs::openat(&directory, name, flags, Mode::empty())?
                }
            };
        }
        Ok(directory)
    }

    /// The directory a path is in, and its name there.
    fn parent<'p>(&self, path: &'p Path) -> Result<(OwnedFd, &'p OsStr), Errno> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        Ok((self.open(path.parent().unwrap_or(Path::new("/")))?, name))
    }

    /// Begins a file.
    pub(super) fn incoming(&self) -> Result<Incoming<'_>, Errno> {
        let name = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.incoming, &name, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(Incoming {
            cache: self,
            name: Some(name),
            file: file.into(),
            placed: false,
        })
    }

    /// Begins the content of a placeholder, which nobody reads before it is complete. It stays the same file, as programs
    /// check that look at a file before they open it (cp, tar). `None`: no such file is there.
    pub(super) fn filling(&self, path: &Path) -> Result<Option<Incoming<'_>>, Errno> {
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = match rustix::fs::openat(&parent, name, flags, Mode::empty()) {
            Err(Code::NOENT) => return Ok(None),
            other => other?,
        };
        if FileType::from_raw_mode(rustix::fs::fstat(&handle)?.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        // The pod's mode may refuse writing to its own user, who we are.
        let link = format!("/proc/self/fd/{}", handle.as_raw_fd());
        rustix::fs::chmod(&link, Mode::RUSR | Mode::WUSR)?;
        let file = rustix::fs::open(&link, OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Some(Incoming {
            cache: self,
            name: None,
            file: file.into(),
            placed: false,
        }))
    }

    /// Puts a complete file, with mode and times, in the place of whatever is there.
    pub(super) fn place(&self, mut file: Incoming<'_>, path: &Path, attributes: &Attributes) -> Result<(), Errno> {
        // Its owner reads it whatever the pod's owner may.
        let mode = Mode::from_raw_mode((attributes.mode & 0o777) | 0o400);
        rustix::fs::fchmod(&file.file, mode)?;
        rustix::fs::futimens(&file.file, &timestamps(attributes))?;
        if let Some(incoming) = &file.name {
            let (parent, name) = self.parent(path)?;
            make_room(&parent, name)?;
            rustix::fs::renameat(&self.incoming, incoming, &parent, name)?;
        }
        file.placed = true;
        Ok(())
    }

    /// Stands for what is known by its attributes only. `link` is a symlink's target.
    pub(super) fn placeholder(&self, path: &Path, attributes: &Attributes, link: Option<&[u8]>) -> Result<(), Errno> {
        match attributes.mode & libc::S_IFMT {
            libc::S_IFDIR => self.directory(path, attributes),
            libc::S_IFLNK => {
                let (parent, name) = self.parent(path)?;
                make_room(&parent, name)?;
                match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
                    Ok(()) | Err(Code::NOENT) => {}
                    Err(error) => return Err(error.into()),
                }
                rustix::fs::symlinkat(OsStr::from_bytes(link.ok_or(Errno::IO)?), &parent, name)?;
                let _ = rustix::fs::utimensat(&parent, name, &timestamps(attributes), AtFlags::SYMLINK_NOFOLLOW);
                Ok(())
            }
            // Sockets and devices lead nowhere here; a FIFO at least blocks as one does.
            kind => {
                if kind == libc::S_IFREG {
                    let incoming = self.incoming()?;
                    rustix::fs::ftruncate(&incoming.file, attributes.size)?;
                    self.place(incoming, path, attributes)
                } else {
                    let kind = if kind == libc::S_IFSOCK {
                        FileType::Socket
                    } else {
                        FileType::Fifo
                    };
                    let mode = Mode::from_raw_mode((attributes.mode & 0o777) | 0o400);
                    let (parent, name) = self.parent(path)?;
                    remove(&parent, name)?;
                    Ok(rustix::fs::mknodat(&parent, name, kind, mode, 0)?)
                }
            }
        }
    }

    pub(super) fn directory(&self, path: &Path, attributes: &Attributes) -> Result<(), Errno> {
        let directory = self.open(path)?;
        rustix::fs::fchmod(&directory, Mode::from_raw_mode((attributes.mode & 0o777) | 0o700))?;
        rustix::fs::futimens(&directory, &timestamps(attributes))?;
        Ok(())
    }

    /// Sets the times of a directory once its entries are there.
    pub(super) fn times(&self, path: &Path, attributes: &Attributes) {
        if let Ok(directory) = self.open(path) {
            let _ = rustix::fs::futimens(&directory, &timestamps(attributes));
        }
    }

    /// Removes what is not among `names` from a directory.
    pub(super) fn retain(&self, path: &Path, names: &HashSet<Box<[u8]>>) -> Result<(), Errno> {
        let directory = self.open(path)?;
        for entry in rustix::fs::Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." && !names.contains(name) {
                remove(&directory, OsStr::from_bytes(name))?;
            }
        }
        Ok(())
    }
}

/// A directory in the way of something else goes with all that is in it.
fn make_room(parent: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => remove(parent, name),
        Ok(_) | Err(Code::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Removes a name, and everything below it; links are not followed.
fn remove(parent: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Code::NOENT) => return Ok(()),
        Err(Code::ISDIR | Code::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    for entry in rustix::fs::Dir::read_from(&directory)? {
        let entry = entry?;
        let child = entry.file_name().to_bytes();
        if child != b"." && child != b".." {
            remove(&directory, OsStr::from_bytes(child))?;
        }
    }
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

fn timestamps(attributes: &Attributes) -> Timestamps {
    let time = |time: wire::message::Time| Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds.min(999_999_999).into(),
    };
    Timestamps {
        last_access: time(attributes.accessed),
        last_modification: time(attributes.modified),
    }
}
