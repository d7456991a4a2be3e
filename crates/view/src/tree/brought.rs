//! What answers of the pod have brought along, by the pod's paths: directories, attributes, absent names, small files. All of
//! it is bounded; directories that nobody has asked about for the longest go first.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use wire::message::{Attributes, Entry};

use super::content::Content;
use super::node::Stamp;
use super::{FRESH, guess};
use crate::Errno;
use crate::remote::{checked, is_link, is_name};

/// Names that are remembered of all directories together: about 40 MB.
const NAMES: usize = 150_000;
/// Bytes of files.
const BYTES: usize = 64 << 20;
/// Changes of the app that are remembered one by one.
const TOUCHED: usize = 64;
/// Entries of a directory that is remembered whole: the answer that renews it must hold them.
pub(crate) const WHOLE: usize = 5000;

#[derive(Default)]
pub(crate) struct Brought(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    touched: Touched,
    directories: HashMap<PathBuf, Directory>,
    names: usize,
    bytes: usize,
    uses: u64,
}

/// What the app has changed, and when that was done: answers to what was asked before may not know of it.
#[derive(Default)]
struct Touched {
    last: VecDeque<(PathBuf, Instant)>,
    /// Of what is not among the last any more.
    before: Option<Instant>,
}

impl Touched {
    fn add(&mut self, path: &Path) {
        self.last.retain(|(known, _)| known != path);
        self.last.push_back((path.to_owned(), Instant::now()));
        if self.last.len() > TOUCHED
            && let Some((_, at)) = self.last.pop_front()
        {
            self.before = Some(at);
        }
    }

    /// Whether an answer about a path, which was asked for then, may be from before a change of it, of what is in it, or of
    /// what it is in.
    fn is_older(&self, path: &Path, asked: Instant) -> bool {
        self.before.is_some_and(|at| asked < at)
            || (self.last.iter()).any(|(known, at)| {
                asked < *at && (path.starts_with(known) || known.ancestors().take(3).any(|up| up == path))
            })
    }
}

#[derive(Default)]
struct Directory {
    /// When all its names were asked for, and the file system it is on; `None`: it has others than those known.
    whole: Option<(Instant, u64)>,
    used: u64,
    names: HashMap<Box<[u8]>, Known>,
}

struct Known {
    asked: Instant,
    found: Result<Attributes, Errno>,
    link: Option<Box<[u8]>>,
    content: Option<Arc<Content>>,
    coming: Option<watch::Receiver<bool>>,
}

/// What is known of a path.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) found: Result<Attributes, Errno>,
    pub(crate) link: Option<Box<[u8]>>,
    pub(crate) age: Duration,
}

pub(crate) enum Look {
    Fresh(Seen),
    /// Known too long ago, in a directory that can be renewed as a whole.
    Lapsed,
    /// Known too long ago, and not much else of its directory.
    LapsedAlone,
    Unknown,
}

impl Brought {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn look(&self, path: &Path) -> Look {
        let Some((directory, name)) = split(path) else {
            return Look::Unknown;
        };
        let mut inner = self.lock();
        inner.uses += 1;
        let uses = inner.uses;
        let Some(directory) = inner.directories.get_mut(directory) else {
            return Look::Unknown;
        };
        directory.used = uses;
        let whole = directory.whole.map(|(asked, _)| asked);
        let known = directory.names.get(name);
        let asked = known.map(|known| known.asked).max(whole);
        match asked.map(|asked| asked.elapsed()).filter(|age| *age < FRESH) {
            Some(age) => Look::Fresh(Seen {
                found: known.map_or(Err(Errno::NOENT), |known| known.found),
                link: known.and_then(|known| known.link.clone()),
                age,
            }),
            None if whole.is_some() => Look::Lapsed,
            None if known.is_some() => Look::LapsedAlone,
            None => Look::Unknown,
        }
    }

    /// How long ago all of a directory was asked for; `None` where not all of it is known.
    pub(crate) fn age(&self, path: &Path) -> Option<Duration> {
        let (asked, _) = self.lock().directories.get(path)?.whole?;
        Some(asked.elapsed())
    }

    /// The entries of a whole directory; `Err` says whether it is known at all.
    pub(crate) fn entries(&self, path: &Path) -> Result<(Vec<Entry>, Instant), bool> {
        let inner = self.lock();
        let directory = inner.directories.get(path).ok_or(false)?;
        let (asked, _) = directory.whole.ok_or(false)?;
        if asked.elapsed() >= FRESH {
            return Err(true);
        }
        let entries = directory.names.iter().filter_map(|(name, known)| {
            Some(Entry {
                name: wire::message::Bytes(name.to_vec()),
                attributes: known.found.ok()?,
                link: known.link.clone().map(|link| wire::message::Bytes(link.into())),
            })
        });
        Ok((entries.collect(), asked))
    }

    /// One name, which was asked for then.
    pub(crate) fn put(&self, path: &Path, found: Result<Attributes, Errno>, link: Option<Box<[u8]>>, asked: Instant) {
        let mut inner = self.lock();
        if let Some((directory, name)) = split(path)
            && !inner.touched.is_older(path, asked)
        {
            inner.put(directory, name, found, link, asked);
        }
    }

    /// The app has changed what is at a path, or made, moved or removed it; `directory`: it may be one.
    pub(crate) fn forget(&self, path: &Path, directory: bool) {
        let mut inner = self.lock();
        inner.touched.add(path);
        // The directory's own attributes have changed with it.
        for path in path.ancestors().take(2) {
            if let Some((directory, name)) = split(path)
                && let Some(directory) = inner.directories.get_mut(directory)
            {
                directory.whole = None;
                if let Some(gone) = directory.names.remove(name) {
                    inner.names -= 1;
                    inner.bytes -= gone.content.map_or(0, |content| content.first.len());
                }
            }
        }
        if !directory {
            return;
        }
        let below: Vec<PathBuf> = (inner.directories.keys())
            .filter(|known| known.starts_with(path))
            .cloned()
            .collect();
        below.iter().for_each(|path| inner.drop_directory(path));
    }

    /// All of a directory, which was asked for then.
    pub(crate) fn put_whole(&self, path: &Path, device: u64, entries: &[Entry], asked: Instant) {
        let mut inner = self.lock();
        if inner.touched.is_older(path, asked) {
            return;
        }
        if entries.len() > WHOLE {
            inner.drop_directory(path);
            return;
        }
        let mut gone = inner.directories.remove(path).unwrap_or_default();
        inner.names -= gone.names.len();
        inner.uses += 1;
        let directory = Directory {
            whole: Some((asked, device)),
            used: inner.uses,
            names: HashMap::with_capacity(entries.len()),
        };
        inner.directories.insert(path.to_owned(), directory);
        for entry in entries.iter().filter(|entry| is_name(&entry.name.0)) {
            let Ok(attributes) = checked(entry.attributes) else {
                continue;
            };
            let link = entry.link.as_ref().filter(|link| is_link(&link.0));
            // What files hold stays with them as long as they have not changed.
            if let Some(known) = gone.names.remove(&*entry.name.0) {
                inner.names += 1;
                if let Some(directory) = inner.directories.get_mut(path) {
                    directory.names.insert(entry.name.0.as_slice().into(), known);
                }
            }
            inner.put(
                path,
                &entry.name.0,
                Ok(attributes),
                link.map(|link| link.0.as_slice().into()),
                asked,
            );
        }
        let left = gone.names.into_values().filter_map(|known| known.content);
        inner.bytes -= left.map(|content| content.first.len()).sum::<usize>();
        inner.bound();
    }

    pub(crate) fn drop_directory(&self, path: &Path) {
        self.lock().drop_directory(path);
    }

    /// What a file holds, if that is known of the file with this stamp.
    pub(crate) fn content(&self, path: &Path, stamp: Stamp) -> Option<Arc<Content>> {
        let (directory, name) = split(path)?;
        let inner = self.lock();
        let content = inner.directories.get(directory)?.names.get(name)?.content.clone()?;
        (content.stamp() == stamp).then_some(content)
    }

    pub(crate) fn put_content(&self, path: &Path, content: Content, asked: Instant) {
        let Some((directory, name)) = split(path) else { return };
        let mut inner = self.lock();
        if inner.touched.is_older(path, asked) {
            return;
        }
        inner.put(directory, name, Ok(content.attributes), None, asked);
        let length = content.first.len();
        let known = inner
            .directories
            .get_mut(directory)
            .and_then(|known| known.names.get_mut(name));
        if let Some(known) = known {
            let before = known.content.replace(Arc::new(content));
            known.coming = None;
            inner.bytes += length;
            inner.bytes -= before.map_or(0, |before| before.first.len());
        }
        inner.bound();
    }

    /// Ends with what a file holds, where that is on its way.
    pub(crate) fn coming(&self, path: &Path) -> Option<watch::Receiver<bool>> {
        let (directory, name) = split(path)?;
        let inner = self.lock();
        inner.directories.get(directory)?.names.get(name)?.coming.clone()
    }

    /// Directories that should be renewed together with this one: on its file system, the nearest to it first, up to so many
    /// entries.
    pub(crate) fn lapsing(&self, path: &Path, entries: usize) -> Vec<PathBuf> {
        let inner = self.lock();
        let device = inner
            .directories
            .get(path)
            .and_then(|known| known.whole)
            .map(|(_, device)| device);
        let mut all: Vec<(usize, &PathBuf, usize)> = inner
            .directories
            .iter()
            .filter(|(_, known)| {
                known
                    .whole
                    .is_some_and(|(asked, on)| Some(on) == device && asked.elapsed() > FRESH / 3)
            })
            .map(|(other, known)| (guess::shared(path, other), other, known.names.len() + 1))
            .filter(|(shared, ..)| *shared > 1)
            .collect();
        all.sort_by(|one, other| other.0.cmp(&one.0).then_with(|| one.1.cmp(other.1)));
        let mut left = entries;
        let nearest = all.into_iter().map_while(|(_, path, names)| {
            left = left.checked_sub(names)?;
            Some(path.clone())
        });
        nearest.collect()
    }

    /// The nearest directories below (or at) this one that are not known whole, at most so many.
    pub(crate) fn frontier(&self, path: &Path, most: usize) -> Vec<PathBuf> {
        let mut found = Vec::new();
        self.lock().descend(path, |path, directory| {
            if directory.is_none_or(|directory| directory.whole.is_none()) {
                found.push(path.to_owned());
            }
            found.len() < most
        });
        found
    }

    /// Small files below (or in) a directory, the nearest first, that may be of use: not known, not on their way, one of
    /// these kinds, at most so many bytes; with their sizes.
    pub(crate) fn wanted(&self, path: &Path, kinds: &guess::Kinds, bytes: u64) -> Vec<(PathBuf, u64)> {
        let inner = self.lock();
        let (mut found, mut left) = (Vec::new(), bytes);
        inner.descend(path, |path, directory| {
            let names = directory.into_iter().flat_map(|directory| &directory.names);
            for (name, known) in names {
                let Ok(attributes) = known.found else { continue };
                let small = (1..=u64::from(wire::message::MAX_SMALL)).contains(&attributes.size);
                let regular = attributes.mode & libc::S_IFMT == libc::S_IFREG;
                if !small || !regular || known.coming.is_some() || !kinds.has(name) {
                    continue;
                }
                if (known.content.as_ref()).is_some_and(|content| content.stamp() == Stamp::of(&attributes)) {
                    continue;
                }
                let Some(rest) = left.checked_sub(attributes.size) else {
                    continue;
                };
                left = rest;
                found.push((path.join(OsStr::from_bytes(name)), attributes.size));
            }
            left > bytes / 16
        });
        found
    }

    /// Files are on their way until `arrival` says that it is over.
    pub(crate) fn are_coming(&self, paths: &[PathBuf], arrival: &watch::Receiver<bool>) {
        let mut inner = self.lock();
        for path in paths {
            if let Some(known) = inner.known(path) {
                known.coming = Some(arrival.clone());
            }
        }
    }

    /// A file that did not come.
    pub(crate) fn not_coming(&self, path: &Path) {
        if let Some(known) = self.lock().known(path) {
            known.coming = None;
        }
    }
}

impl Inner {
    fn put(
        &mut self,
        directory: &Path,
        name: &[u8],
        found: Result<Attributes, Errno>,
        link: Option<Box<[u8]>>,
        asked: Instant,
    ) {
        if !self.directories.contains_key(directory) {
            self.uses += 1;
            let fresh = Directory {
                used: self.uses,
                ..Directory::default()
            };
            self.directories.insert(directory.to_owned(), fresh);
        }
        let Some(known) = self.directories.get_mut(directory) else {
            return;
        };
        let Some(known) = known.names.get_mut(name) else {
            let new = Known {
                asked,
                found,
                link,
                content: None,
                coming: None,
            };
            known.names.insert(name.into(), new);
            self.names += 1;
            return;
        };
        if known.asked <= asked {
            known.asked = asked;
            known.found = found;
            known.link = link;
        }
    }

    fn known(&mut self, path: &Path) -> Option<&mut Known> {
        let (directory, name) = split(path)?;
        self.directories.get_mut(directory)?.names.get_mut(name)
    }

    /// This directory and those below it that are known, the nearest first, until `visit` has had enough.
    fn descend(&self, path: &Path, mut visit: impl FnMut(&Path, Option<&Directory>) -> bool) {
        let mut queue = std::collections::VecDeque::from([path.to_owned()]);
        while let Some(path) = queue.pop_front() {
            let directory = self.directories.get(&path);
            if !visit(&path, directory) {
                return;
            }
            let device = directory
                .and_then(|directory| directory.whole)
                .map(|(_, device)| device);
            let below = directory.into_iter().flat_map(|directory| &directory.names);
            let mut below: Vec<&[u8]> = below
                .filter(|(_, known)| {
                    known.found.is_ok_and(|attributes| {
                        attributes.mode & libc::S_IFMT == libc::S_IFDIR && Some(attributes.device) == device
                    })
                })
                .map(|(name, _)| &**name)
                .collect();
            below.sort_unstable();
            queue.extend(below.into_iter().map(|name| path.join(OsStr::from_bytes(name))));
        }
    }

    fn drop_directory(&mut self, path: &Path) {
        if let Some(gone) = self.directories.remove(path) {
            self.names -= gone.names.len();
            let contents = gone.names.into_values().filter_map(|known| known.content);
            self.bytes -= contents.map(|content| content.first.len()).sum::<usize>();
        }
    }

    fn bound(&mut self) {
        while self.names > NAMES || self.bytes > BYTES {
            let oldest = self.directories.iter().min_by_key(|(_, known)| known.used);
            let Some(oldest) = oldest.map(|(path, _)| path.clone()) else {
                return;
            };
            self.drop_directory(&oldest);
        }
    }
}

fn split(path: &Path) -> Option<(&Path, &[u8])> {
    Some((path.parent()?, path.file_name()?.as_bytes()))
}
