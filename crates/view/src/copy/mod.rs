//! The copy backend: without a usable /dev/fuse, files are fetched whole into a private cache on first use.
//!
//! The cache mirrors the paths of the app below one directory. What is known only by its attributes is a placeholder: a
//! sparse file of the right size, an empty directory, a symlink as itself. What a placeholder reads as means nothing: who
//! opens a path asks for [`Fetch::Content`] first.
//!
//! Invariant: nothing is created through a symlink of the cache, so a pod cannot make it write elsewhere.

mod cache;
mod resolve;
mod transfer;

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rules::{FileRules, Place};
use wire::message::Attributes;

use crate::remote::read_link;
use crate::tree::{self, At, Listed, Places, Stamp, Supply, list_page};
use crate::{Errno, Pod};
use cache::Cache;
use resolve::Resolved;

/// How long a path's attributes are believed.
const FRESH: Duration = Duration::from_secs(1);
/// Paths whose attributes are remembered.
const REMEMBERED: usize = 50_000;

/// Where the app's paths lie in the directory of a copy view: `P` at `root`/`P`.
#[must_use]
pub fn root(directory: &Path) -> PathBuf {
    directory.join("root")
}

/// Gets what a person should know: one sentence.
pub type Warn = Arc<dyn Fn(String) + Send + Sync>;

/// How much of a path there must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fetch {
    /// A placeholder with type, size, mode and times; a symlink as itself.
    Attributes,
    /// A file's content, a directory's entries as placeholders; a symlink in the last component is followed.
    Content,
}

/// Most bytes that are copied.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of one file; beyond it `EFBIG`.
    pub file: u64,
    /// Of all files together; beyond it `ENOSPC`.
    pub all: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file: 256 << 20,
            all: 1 << 30,
        }
    }
}

/// The pod's files, copied on first use.
pub struct CopyView {
    pod: Pod,
    /// What is asked next, brought along.
    supply: Arc<Supply>,
    rules: Arc<FileRules>,
    places: Places,
    directory: PathBuf,
    cache: OnceLock<Cache>,
    limits: Limits,
    warn: Warn,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: HashMap<PathBuf, (Instant, Result<Attributes, Errno>)>,
    copies: HashMap<PathBuf, Arc<tokio::sync::Mutex<Copy>>>,
    bytes: u64,
    warned: HashSet<PathBuf>,
}

/// What lies in the cache for one path.
#[derive(Default)]
struct Copy {
    /// How much, and of which state of the file.
    have: Option<(Fetch, Stamp)>,
    bytes: u64,
}

impl CopyView {
    /// `directory` is made, for this user alone, on first use, and is the caller's to remove.
    #[must_use]
    pub fn new(pod: Pod, rules: Arc<FileRules>, directory: PathBuf, warn: Warn) -> Self {
        Self {
            supply: Supply::new(Arc::clone(&pod)),
            pod,
            places: Places::new(Arc::clone(&rules)),
            rules,
            directory,
            cache: OnceLock::new(),
            limits: Limits::default(),
            warn,
            state: Mutex::default(),
        }
    }

    /// With other limits than the usual ones.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Brings an absolute path into the cache and says where it lies on this machine. Symlinks on the way are followed as
    /// the app sees them: where one leads to a local path, that path is the answer.
    ///
    /// # Errors
    /// The pod's errno; `ENOENT` for hidden paths; `EFBIG` and `ENOSPC` beyond the limits, with a warning; `EIO` when the
    /// link is gone.
    pub async fn fetch(&self, path: &Path, what: Fetch) -> Result<PathBuf, Errno> {
        let (path, attributes) = match self.resolve(path, what == Fetch::Content).await? {
            Resolved::Machine(path) => return Ok(path),
            Resolved::Pod(path, attributes) => (path, attributes),
        };
        let cache = self.cache()?;
        let copy = {
            let mut state = self.state();
            Arc::clone(state.copies.entry(path.clone()).or_default())
        };
        // One fetch of a path at a time: who comes second finds it done.
        let mut copy = copy.lock().await;
        let stamp = Stamp::of(&attributes);
        if copy.have.is_some_and(|(have, of)| have >= what && of == stamp) {
            return Ok(cache.path(&path));
        }
        self.discount(&mut copy);
        let had = copy.have.take();
        let stamp = match (what, attributes.mode & libc::S_IFMT) {
            (Fetch::Content, libc::S_IFREG) => {
                let fills = had.is_some_and(|(had, _)| had == Fetch::Attributes);
                self.copy_file(cache, (&path, &attributes), &mut copy, fills).await?
            }
            (Fetch::Content, libc::S_IFDIR) => {
                self.copy_directory(cache, &path, &attributes).await?;
                stamp
            }
            _ => {
                let link = match attributes.mode & libc::S_IFMT {
                    libc::S_IFLNK => Some(read_link(&self.pod, &self.rules.in_pod(&path)).await?),
                    _ => None,
                };
                cache.placeholder(&path, &attributes, link.as_deref())?;
                stamp
            }
        };
        copy.have = Some((what, stamp));
        Ok(cache.path(&path))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cache(&self) -> Result<&Cache, Errno> {
        if let Some(cache) = self.cache.get() {
            return Ok(cache);
        }
        let made = Cache::new(&self.directory)?;
        Ok(self.cache.get_or_init(|| made))
    }

    fn discount(&self, copy: &mut Copy) {
        self.state().bytes -= copy.bytes;
        copy.bytes = 0;
    }

    /// Says something about a path once.
    fn warn_of(&self, path: &Path, why: &str) {
        if self.state().warned.insert(path.to_owned()) {
            (self.warn)(format!("{} was not copied from the pod: {why}", path.display()));
        }
    }

    async fn copy_directory(&self, cache: &Cache, path: &Path, attributes: &Attributes) -> Result<(), Errno> {
        let mut entries = self.list(path).await?;
        let mut names = HashSet::new();
        for entry in &entries {
            names.insert(entry.name.clone());
        }
        cache.directory(path, attributes)?;
        cache.retain(path, &names)?;
        let now = Instant::now();
        for entry in entries.drain(..) {
            let child = path.join(OsStr::from_bytes(&entry.name));
            let record = {
                let mut state = self.state();
                if state.known.len() < REMEMBERED {
                    state.known.insert(child.clone(), (now, Ok(entry.attributes)));
                }
                Arc::clone(state.copies.entry(child.clone()).or_default())
            };
            // Being fetched right now: that one is newer.
            let Ok(mut record) = record.try_lock() else { continue };
            let stamp = Stamp::of(&entry.attributes);
            if record.have.is_some_and(|(_, of)| of == stamp) {
                continue;
            }
            let is_link = entry.attributes.mode & libc::S_IFMT == libc::S_IFLNK;
            if is_link && entry.link.is_none() {
                continue;
            }
            self.discount(&mut record);
            cache.placeholder(&child, &entry.attributes, entry.link.as_deref())?;
            record.have = Some((Fetch::Attributes, stamp));
        }
        cache.times(path, attributes);
        Ok(())
    }

    /// All entries of a directory, as the rules leave them.
    async fn list(&self, path: &Path) -> Result<Vec<Listed>, Errno> {
        let place = match self.rules.decide(path).place {
            Place::Remote => tree::Place::Pod,
            _ => tree::Place::Walked,
        };
        let at = At {
            path: path.to_owned(),
            pod: self.rules.in_pod(path),
            place,
        };
        let (mut entries, mut next) = list_page(&self.pod, &self.places, &at, 0, 0).await?;
        let mut number = 0;
        while next != 0 {
            number += 1;
            let (more, after) = list_page(&self.pod, &self.places, &at, number, next).await?;
            entries.extend(more);
            next = after;
            if entries.len() > transfer::MOST_ENTRIES {
                self.warn_of(path, "the directory has too many entries");
                return Err(Errno::FBIG);
            }
        }
        Ok(entries)
    }
}

impl std::fmt::Debug for CopyView {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "CopyView({})", self.directory.display())
    }
}
