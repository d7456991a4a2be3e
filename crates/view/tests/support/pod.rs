//! A local directory that answers as an agent does.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};
use view::{Answering, Lost, Remote};
use wire::message::{Attributes, Bytes, Entry, FileAnswer, FileOperation, MAX_SMALL, Time};

/// Entries in one answer.
const PAGE: usize = 5000;

/// What a hostile agent makes of an answer.
pub type Twist = fn(&FileOperation, FileAnswer) -> FileAnswer;

pub struct LocalPod {
    pub root: PathBuf,
    fd: OwnedFd,
    /// Added to each answer.
    pub delay: Mutex<Duration>,
    /// Every operation fails from now on.
    pub lost: AtomicBool,
    /// Operations on paths with this in their name are never answered.
    pub hung: AtomicUsize,
    pub calls: Mutex<Vec<String>>,
    /// Applied to each answer: a hostile agent.
    pub twist: Mutex<Option<Twist>>,
    handles: Mutex<HashMap<u64, Arc<std::fs::File>>>,
    next: AtomicU64,
}

impl LocalPod {
    pub fn new(root: &Path) -> Arc<Self> {
        Arc::new(Self {
            root: root.to_owned(),
            fd: rustix::fs::openat(
                CWD,
                root,
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .unwrap(),
            delay: Mutex::default(),
            lost: AtomicBool::new(false),
            hung: AtomicUsize::new(0),
            calls: Mutex::default(),
            twist: Mutex::default(),
            handles: Mutex::default(),
            next: AtomicU64::new(1),
        })
    }

    pub fn open_handles(&self) -> usize {
        self.handles.lock().unwrap().len()
    }

    /// Calls since the last time this was asked.
    pub fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    pub(super) fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, i32> {
        rustix::fs::openat2(
            &self.fd,
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )
        .map_err(|error| error.raw_os_error())
    }

    pub(super) fn stat(&self, path: &[u8]) -> Result<Attributes, i32> {
        attributes(&self.open(path, OFlags::PATH | OFlags::NOFOLLOW)?)
    }

    fn run(&self, operation: &FileOperation) -> Result<FileAnswer, i32> {
        Ok(match operation {
            FileOperation::Stat(paths) => FileAnswer::Stat(
                paths
                    .iter()
                    .map(|path| {
                        if denied(&path.0, b"unseen") {
                            Err(libc::EACCES)
                        } else {
                            self.stat(&path.0)
                        }
                    })
                    .collect(),
            ),
            FileOperation::List { path, cookie } => {
                let directory = self.open(&path.0, OFlags::RDONLY | OFlags::DIRECTORY)?;
                let mut names: Vec<Vec<u8>> = rustix::fs::Dir::read_from(&directory)
                    .map_err(|error| error.raw_os_error())?
                    .filter_map(|entry| Some(entry.ok()?.file_name().to_bytes().to_vec()))
                    .filter(|name| name != b"." && name != b"..")
                    .collect();
                names.sort();
                let from = usize::try_from(*cookie).unwrap();
                let entries: Vec<Entry> = names
                    .iter()
                    .skip(from)
                    .take(PAGE)
                    .filter_map(|name| {
                        let child =
                            Path::new(std::ffi::OsStr::from_bytes(&path.0)).join(std::ffi::OsStr::from_bytes(name));
                        let attributes = self.stat(child.as_os_str().as_bytes()).ok()?;
                        let link = (attributes.mode & libc::S_IFMT == libc::S_IFLNK)
                            .then(|| self.link(child.as_os_str().as_bytes()).ok())
                            .flatten();
                        Some(Entry {
                            name: Bytes(name.clone()),
                            attributes,
                            link,
                        })
                    })
                    .collect();
                let next = if from + PAGE < names.len() {
                    (from + PAGE) as u64
                } else {
                    0
                };
                FileAnswer::List { entries, next }
            }
            FileOperation::ReadLink(path) => FileAnswer::ReadLink(self.link(&path.0)?),
            FileOperation::Open { path, first } => {
                if denied(&path.0, b"denied") {
                    return Err(libc::EACCES);
                }
                let file = self.open(&path.0, OFlags::RDONLY | OFlags::NONBLOCK)?;
                let attributes = attributes(&file)?;
                let file = std::fs::File::from(file);
                let data = read(&file, 0, *first as usize)?;
                let fits = data.len() < *first as usize;
                let handle = (!fits).then(|| self.next.fetch_add(1, Ordering::Relaxed));
                if let Some(handle) = handle {
                    self.handles.lock().unwrap().insert(handle, Arc::new(file));
                }
                FileAnswer::Open {
                    attributes,
                    handle,
                    data: Bytes(data),
                }
            }
            FileOperation::Read { handle, offset, length } => {
                let file = self.handles.lock().unwrap().get(handle).cloned().ok_or(libc::EBADF)?;
                FileAnswer::Read(Bytes(read(&file, *offset, *length as usize)?))
            }
            FileOperation::Close(handle) => {
                self.handles.lock().unwrap().remove(handle);
                FileAnswer::Closed
            }
            FileOperation::StatFs => FileAnswer::StatFs {
                blocks: 1000,
                free: 500,
                available: 400,
                files: 100,
                free_files: 50,
                block_size: 4096,
                name_max: 255,
            },
            FileOperation::Walk { path, first, .. } => self.walk(path, *first),
            FileOperation::Tree { paths, below, bytes } => FileAnswer::Tree(self.tree(paths, *below, *bytes)),
            FileOperation::Contents(paths) => {
                FileAnswer::Contents(paths.iter().map(|path| self.whole(&path.0, MAX_SMALL)).collect())
            }
            other => return self.xattr(other),
        })
    }

    pub(super) fn entries(&self, path: &[u8]) -> Result<Vec<Entry>, i32> {
        match self.run(&FileOperation::List {
            path: Bytes(path.to_vec()),
            cookie: 0,
        })? {
            FileAnswer::List { entries, next: 0 } => Ok(entries),
            _ => Err(libc::E2BIG),
        }
    }

    pub(super) fn link(&self, path: &[u8]) -> Result<Bytes, i32> {
        let link = self.open(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        let target = rustix::fs::readlinkat(&link, "", Vec::new()).map_err(|error| error.raw_os_error())?;
        Ok(Bytes(target.into_bytes()))
    }
}

/// With paths as text.
fn shown(operation: &FileOperation) -> String {
    let text = |paths: &[Bytes]| -> Vec<String> {
        let paths = paths.iter().map(|path| String::from_utf8_lossy(&path.0).into_owned());
        paths.collect()
    };
    match operation {
        FileOperation::Tree { paths, .. } => format!("Tree {:?}", text(paths)),
        FileOperation::Contents(paths) => format!("Contents {:?}", text(paths)),
        FileOperation::Xattrs(paths) => format!("Xattrs {:?}", text(paths)),
        FileOperation::Walk { path, first, .. } => format!("Walk {:?} {first}", text(std::slice::from_ref(path))),
        other => format!("{other:?}"),
    }
}

pub(super) fn denied(path: &[u8], word: &[u8]) -> bool {
    path.windows(word.len()).any(|part| part == word)
}

fn is_denied(fd: &OwnedFd) -> bool {
    let path = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    path.is_ok_and(|path| denied(path.as_os_str().as_bytes(), b"denied"))
}

pub(super) fn read(file: &std::fs::File, offset: u64, length: usize) -> Result<Vec<u8>, i32> {
    use std::os::unix::fs::FileExt;
    let mut data = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut data[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) => return Err(error.raw_os_error().unwrap_or(libc::EIO)),
        }
    }
    data.truncate(filled);
    Ok(data)
}

pub(super) fn attributes(fd: &OwnedFd) -> Result<Attributes, i32> {
    let stat = rustix::fs::statat(fd, "", AtFlags::EMPTY_PATH).map_err(|error| error.raw_os_error())?;
    let time = |seconds: i64, nanoseconds: u64| Time {
        seconds,
        nanoseconds: nanoseconds as u32,
    };
    Ok(Attributes {
        inode: stat.st_ino,
        device: stat.st_dev,
        mode: stat.st_mode,
        links: stat.st_nlink as u32,
        uid: stat.st_uid,
        gid: stat.st_gid,
        special_device: stat.st_rdev,
        size: stat.st_size as u64,
        blocks: stat.st_blocks as u64,
        accessed: time(stat.st_atime, stat.st_atime_nsec as u64),
        modified: time(stat.st_mtime, stat.st_mtime_nsec as u64),
        changed: time(stat.st_ctime, stat.st_ctime_nsec as u64),
        xattrs: super::xattr::kinds(fd, stat.st_mode),
        unreadable: stat.st_mode & libc::S_IFMT == libc::S_IFREG && is_denied(fd),
    })
}

impl Remote for LocalPod {
    fn call(&self, operation: FileOperation) -> Answering<'_> {
        self.calls.lock().unwrap().push(shown(&operation));
        let hang = match &operation {
            FileOperation::Open { path, .. } | FileOperation::List { path, .. } | FileOperation::ReadLink(path) => {
                denied(&path.0, b"hung")
            }
            FileOperation::Stat(paths) => paths.iter().any(|path| denied(&path.0, b"hung-stat")),
            FileOperation::Walk { path, first, .. } => {
                denied(&path.0, b"hung-stat") || (*first > 0 && denied(&path.0, b"hung"))
            }
            FileOperation::Contents(paths) | FileOperation::Tree { paths, .. } => {
                paths.iter().any(|path| denied(&path.0, b"hung"))
            }
            _ => false,
        };
        Box::pin(async move {
            if hang {
                self.hung.fetch_add(1, Ordering::SeqCst);
                std::future::pending::<()>().await;
            }
            let delay = *self.delay.lock().unwrap();
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            if self.lost.load(Ordering::SeqCst) {
                return Err(Lost("cut by the test".into()));
            }
            // As fast as a local disk: no thread of its own.
            let answer = self.run(&operation).unwrap_or_else(FileAnswer::Failed);
            let twist = *self.twist.lock().unwrap();
            Ok(match twist {
                Some(twist) => twist(&operation, answer),
                None => answer,
            })
        })
    }
}

/// Names in the pod's `/`, as the agent's facts have them.
pub fn root_names(root: &Path) -> Vec<(Vec<u8>, bool)> {
    std::fs::read_dir(root)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_vec(), entry.file_type().unwrap().is_dir())
        })
        .collect()
}

/// Writes a file, and the directories above it.
pub fn write(root: &Path, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let full = root.join(path.trim_start_matches('/'));
    std::fs::create_dir_all(full.parent().unwrap()).unwrap();
    std::fs::write(&full, content).unwrap();
    full
}
