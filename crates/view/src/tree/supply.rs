//! The pod's answers, and what they bring along, so that what is asked next is here already.
//!
//! A name that is missing is asked for with the rest of the path that its caller walks. Misses near each other have their
//! directories, and the small files in them, brought along in the background, more each time. What lapses is renewed for all
//! directories around in one question. Nobody waits for longer than his own question takes.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use wire::message::{Branch, Entry, FileAnswer, FileOperation, MAX_SMALL, Step};

use super::FRESH;
use super::brought::{Brought, Look, Seen, WHOLE};
use super::caller::Intent;
use super::content::Content;
use super::guess::Misses;
use super::node::Stamp;
use crate::remote::{ask, checked, is_link, to_bytes};
use crate::{Errno, Pod};

/// Bytes of listings that come with a first miss, and with later ones at most.
const LISTINGS: (u32, u32) = (64 << 10, 768 << 10);
/// The same of small files.
const FILES: (u64, u64) = (1 << 20, 16 << 20);
/// Files asked for in one question, in bytes and number: they are there the sooner the fewer.
const BATCH: (u64, usize) = (256 << 10, 256);
/// Bytes of small files that may be on their way at a time.
const COMING: usize = 32 << 20;
/// How long a directory that was too large for an answer is not asked for whole again.
const LARGE: Duration = Duration::from_secs(60);
/// How long a common renewal is waited for before the one thing is asked alone.
const PATIENCE: Duration = Duration::from_millis(500);

pub(crate) struct Supply {
    pod: Pod,
    brought: Brought,
    names: Mutex<Misses>,
    files: Mutex<Misses>,
    /// Directories that are being renewed; the sender ends when that is over.
    renewing: Mutex<HashMap<PathBuf, watch::Receiver<bool>>>,
    /// Directories that were too large for an answer, and when.
    large: Mutex<HashMap<PathBuf, Instant>>,
    coming: AtomicUsize,
}

/// How a file came.
pub(crate) enum Opened {
    Brought(Arc<Content>),
    Asked(Arc<Content>),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn ended(mut running: watch::Receiver<bool>) {
    let _ = running.wait_for(|over| *over).await;
}

impl Supply {
    pub(crate) fn new(pod: Pod) -> Arc<Self> {
        Arc::new(Self {
            pod,
            brought: Brought::default(),
            names: Mutex::default(),
            files: Mutex::default(),
            renewing: Mutex::default(),
            large: Mutex::default(),
            coming: AtomicUsize::new(0),
        })
    }

    /// Attributes of a path in the pod, the last component not followed. `intent` is asked for where nothing is known.
    ///
    /// # Errors
    /// When the link is gone; what the pod says is in the answer.
    pub(crate) async fn look(
        self: &Arc<Self>,
        path: &Path,
        intent: impl FnOnce() -> Option<Intent>,
    ) -> Result<Seen, Errno> {
        match self.brought.look(path) {
            Look::Fresh(seen) => {
                if seen.age > FRESH / 2
                    && let Some(directory) = path.parent()
                    && self.brought.age(directory).is_some_and(|age| age > FRESH / 2)
                {
                    drop(self.renewal(directory));
                }
                return Ok(seen);
            }
            Look::Lapsed => {
                self.renewed(path.parent().unwrap_or(path)).await;
                if let Look::Fresh(seen) = self.brought.look(path) {
                    return Ok(seen);
                }
            }
            Look::LapsedAlone => {
                // From now on it is renewed with its directory, before it lapses.
                if let Some(directory) = path.parent() {
                    self.name_missed(directory);
                }
            }
            Look::Unknown => {}
        }
        self.walk(path, intent().unwrap_or_default()).await
    }

    /// One question about a path and what its caller will want behind it.
    async fn walk(self: &Arc<Self>, path: &Path, intent: Intent) -> Result<Seen, Errno> {
        let mut whole = path.to_owned();
        whole.extend(intent.rest.iter().map(|name| OsStr::from_bytes(name)));
        let known = path.iter().count().saturating_sub(2);
        let operation = FileOperation::Walk {
            path: to_bytes(&whole),
            known: u32::try_from(known).unwrap_or(0),
            first: if intent.reads { MAX_SMALL } else { 0 },
        };
        let asked = Instant::now();
        let FileAnswer::Walk { steps, content } = ask(&self.pod, operation).await? else {
            return Err(Errno::IO);
        };
        let mut first = None;
        let mut last = None;
        for Step { path: at, found } in steps {
            let at = PathBuf::from(OsStr::from_bytes(&at.0));
            let found = found.map_err(Errno::from_pod);
            let link = (found.as_ref().ok()).and_then(|(_, link)| link.clone().filter(|link| is_link(&link.0)));
            let link: Option<Box<[u8]>> = link.map(|link| link.0.into());
            let found = found.and_then(|(attributes, _)| checked(attributes));
            // What failed otherwise than by not being there is asked again.
            if matches!(found, Ok(_) | Err(Errno::NOENT)) {
                self.brought.put(&at, found, link.clone(), asked);
            }
            if first.is_none() && at == path {
                let age = asked.elapsed();
                first = Some(Seen { found, link, age });
            }
            last = Some((at, found));
        }
        if let Some((at, found)) = last {
            if let (Some(data), Ok(attributes)) = (content, found) {
                self.brought
                    .put_content(&at, Content::whole(attributes, data.0.into()), asked);
                self.file_missed(&at);
            }
            let directory = found.is_ok_and(|found| found.mode & libc::S_IFMT == libc::S_IFDIR);
            let directory = if directory { Some(at.as_path()) } else { at.parent() };
            if let Some(directory) = directory {
                self.name_missed(directory);
            }
        }
        first.ok_or(Errno::IO)
    }

    /// The entries of a directory, where they come in one answer, and when they were true.
    pub(crate) async fn entries(self: &Arc<Self>, path: &Path) -> Option<(Vec<Entry>, Instant)> {
        match self.brought.entries(path) {
            Ok(found) => return Some(found),
            Err(true) => self.renewed(path).await,
            Err(false) => {
                let guess = lock(&self.names).add(path, b"");
                let mut paths = self.brought.frontier(&guess.region, 64);
                paths.retain(|other| other != path);
                paths.insert(0, path.to_owned());
                self.tree(paths, guess.before).await;
            }
        }
        self.brought.entries(path).ok()
    }

    /// See [`Brought::forget`].
    pub(crate) fn forget(&self, path: &Path, directory: bool) {
        self.brought.forget(path, directory);
    }

    /// A file that was asked for by its name: as it was brought along, or is on its way, or as `open` gets it from the pod, whichever
    /// is first.
    ///
    /// # Errors
    /// Those of `open`.
    pub(crate) async fn open(
        self: &Arc<Self>,
        path: &Path,
        stamp: Stamp,
        open: impl Future<Output = Result<Arc<Content>, Errno>>,
    ) -> Result<Opened, Errno> {
        if let Some(content) = self.content(path, stamp) {
            return Ok(Opened::Brought(content));
        }
        if !stamp.is_empty() {
            self.file_missed(path);
        }
        tokio::select! {
            biased;
            content = self.arrival(path, stamp) => Ok(Opened::Brought(content)),
            content = open => content.map(Opened::Asked),
        }
    }

    /// A small file that was brought along.
    fn content(&self, path: &Path, stamp: Stamp) -> Option<Arc<Content>> {
        self.brought.content(path, stamp)
    }

    /// Waits for a file that is on its way; for ever where none is, or it did not come.
    async fn arrival(&self, path: &Path, stamp: Stamp) -> Arc<Content> {
        if let Some(coming) = self.brought.coming(path) {
            ended(coming).await;
            if let Some(content) = self.content(path, stamp) {
                return content;
            }
        }
        std::future::pending().await
    }

    /// A name was asked for in a directory of which not all is known.
    fn name_missed(self: &Arc<Self>, directory: &Path) {
        let guess = lock(&self.names).add(directory, b"");
        let mut paths = self.brought.frontier(&guess.region, 64);
        paths.retain(|path| !self.is_large(path));
        if !paths.is_empty() {
            let supply = Arc::clone(self);
            tokio::spawn(async move { supply.tree(paths, guess.before).await });
        }
    }

    async fn tree(&self, paths: Vec<PathBuf>, before: u32) {
        let (asked, operation) = (
            Instant::now(),
            FileOperation::Tree {
                paths: paths.iter().map(|path| to_bytes(path)).collect(),
                below: true,
                bytes: (LISTINGS.0 << before.min(8)).min(LISTINGS.1),
            },
        );
        if let Ok(FileAnswer::Tree(branches)) = ask(&self.pod, operation).await {
            self.put(branches, asked);
            self.note_large(&paths);
        }
    }

    /// What was asked for first had all the room of an answer that has come.
    fn note_large(&self, paths: &[PathBuf]) {
        if let Some(path) = paths.first()
            && self.brought.age(path).is_none()
        {
            let mut large = lock(&self.large);
            large.retain(|_, noted| noted.elapsed() < LARGE);
            large.insert(path.clone(), Instant::now());
        }
    }

    /// Whether a directory was too large for an answer, a short time ago.
    pub(super) fn is_large(&self, path: &Path) -> bool {
        lock(&self.large).get(path).is_some_and(|noted| noted.elapsed() < LARGE)
    }

    fn put(&self, branches: Vec<Branch>, asked: Instant) {
        for Branch {
            path,
            attributes,
            entries,
        } in branches
        {
            let path = PathBuf::from(OsStr::from_bytes(&path.0));
            if let Ok(attributes) = checked(attributes) {
                self.brought.put(&path, Ok(attributes), None, asked);
            }
            self.brought.put_whole(&path, attributes.device, &entries, asked);
        }
    }

    /// Renews a directory that has lapsed.
    async fn renewed(self: &Arc<Self>, path: &Path) {
        let running = self.renewal(path);
        let _ = tokio::time::timeout(PATIENCE, ended(running)).await;
    }

    /// Renews a directory and others around it, on its own; ends when the directory is renewed.
    fn renewal(self: &Arc<Self>, path: &Path) -> watch::Receiver<bool> {
        let mut renewing = lock(&self.renewing);
        if let Some(running) = renewing.get(path) {
            return running.clone();
        }
        let (over, running) = watch::channel(false);
        let mut paths = self.brought.lapsing(path, WHOLE + 1);
        paths.retain(|other| other != path && !renewing.contains_key(other));
        paths.truncate(1000);
        paths.insert(0, path.to_owned());
        for path in &paths {
            renewing.insert(path.clone(), running.clone());
        }
        drop(renewing);
        let supply = Arc::clone(self);
        tokio::spawn(async move {
            let operation = FileOperation::Tree {
                paths: paths.iter().map(|path| to_bytes(path)).collect(),
                below: false,
                bytes: LISTINGS.1,
            };
            let asked = Instant::now();
            let answer = ask(&supply.pod, operation).await;
            let answered = answer.is_ok();
            if let Ok(FileAnswer::Tree(branches)) = answer {
                supply.put(branches, asked);
            }
            // What did not come is no directory any more, or too large.
            if let Some(path) = paths.first()
                && supply.brought.age(path).is_none_or(|age| age >= FRESH)
            {
                supply.brought.drop_directory(path);
                if answered {
                    supply.note_large(&paths);
                }
            }
            let mut renewing = lock(&supply.renewing);
            paths.iter().for_each(|path| drop(renewing.remove(path)));
            drop(renewing);
            let _ = over.send(true);
        });
        running
    }

    /// A file was opened that nobody had brought along: those like it around are.
    fn file_missed(self: &Arc<Self>, path: &Path) {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return;
        };
        let guess = lock(&self.files).add(directory, name.as_bytes());
        let supply = Arc::clone(self);
        tokio::spawn(async move {
            if supply.brought.age(&guess.region).is_none() {
                let before = lock(&supply.names).add(&guess.region, b"").before;
                supply.tree(vec![guess.region.clone()], before).await;
            }
            let room = COMING.saturating_sub(supply.coming.load(Ordering::Relaxed)) as u64;
            let bytes = (FILES.0 << guess.before.min(8)).min(FILES.1).min(room);
            supply.fetch(supply.brought.wanted(&guess.region, &guess.kinds, bytes));
        });
    }

    /// Fetches files, each in one of several questions at once.
    fn fetch(self: &Arc<Self>, wanted: Vec<(PathBuf, u64)>) {
        let mut batches: Vec<(Vec<PathBuf>, u64)> = Vec::new();
        for (path, size) in wanted {
            match batches.last_mut() {
                Some((paths, bytes)) if *bytes + size <= BATCH.0 && paths.len() < BATCH.1 => {
                    paths.push(path);
                    *bytes += size;
                }
                _ => batches.push((vec![path], size)),
            }
        }
        for (paths, bytes) in batches {
            let bytes = usize::try_from(bytes).unwrap_or(COMING);
            let (over, arrival) = watch::channel(false);
            self.brought.are_coming(&paths, &arrival);
            self.coming.fetch_add(bytes, Ordering::Relaxed);
            let supply = Arc::clone(self);
            tokio::spawn(async move {
                let operation = FileOperation::Contents(paths.iter().map(|path| to_bytes(path)).collect());
                let asked = Instant::now();
                let answers = match ask(&supply.pod, operation).await {
                    Ok(FileAnswer::Contents(answers)) => answers,
                    _ => Vec::new(),
                };
                for (path, whole) in paths.iter().zip(answers) {
                    let Ok(whole) = whole else { continue };
                    let Ok(attributes) = checked(whole.attributes) else {
                        continue;
                    };
                    if whole.data.0.len() as u64 == attributes.size {
                        let content = Content::whole(attributes, whole.data.0.into());
                        supply.brought.put_content(path, content, asked);
                    }
                }
                paths.iter().for_each(|path| supply.brought.not_coming(path));
                supply.coming.fetch_sub(bytes, Ordering::Relaxed);
                let _ = over.send(true);
            });
        }
    }
}
