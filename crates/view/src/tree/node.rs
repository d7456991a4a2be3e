//! One object in the pod as the kernel knows it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use wire::message::{Attributes, Time};

use super::FRESH;
use super::content::Content;
use super::listing::Listing;
use super::place::{Place, Places};
use super::xattr::Known;

/// The node id of the mount's root (`FUSE_ROOT_ID`).
pub(crate) const ROOT: u64 = 1;

/// Where a door leads: the app's path, and the pod's where it is not the one that the rules say.
pub(super) type Origin = (PathBuf, Option<PathBuf>);

/// A path in the view with what is there. What replaces it (another inode or type) is another node.
pub(crate) struct Node {
    pub(crate) id: u64,
    names: Mutex<Names>,
    origin: Option<Origin>,
    pub(crate) place: Place,
    state: Mutex<State>,
    /// Open files of the kernel.
    pub(crate) opens: AtomicU32,
    /// Held by who opens the file in the pod.
    pub(super) opening: tokio::sync::Mutex<()>,
}

/// Where a node is: one name, and those that were made for it through this view.
pub(super) struct Names {
    pub(super) all: Vec<Name>,
    /// The last one was removed through this view; it stays to be shown.
    pub(super) gone: bool,
}

/// A name in a directory.
#[derive(Clone)]
pub(super) struct Name {
    pub(super) parent: Arc<Node>,
    pub(super) name: Box<[u8]>,
}

impl Name {
    pub(super) fn key(&self) -> (u64, Box<[u8]>) {
        (self.parent.id, self.name.clone())
    }

    pub(super) fn is(&self, parent: &Node, name: &[u8]) -> bool {
        self.parent.id == parent.id && *self.name == *name
    }
}

pub(crate) struct State {
    pub(crate) attributes: Attributes,
    fetched: Instant,
    /// When the app last changed it: what was asked before that is not believed.
    touched: Option<Instant>,
    /// How often the app has changed its content.
    pub(crate) changes: u64,
    /// A symlink's target.
    pub(crate) link: Option<Box<[u8]>>,
    /// A directory's entries, while fresh.
    pub(crate) listing: Option<Arc<Listing>>,
    pub(crate) content: Held,
    /// A file's extended attributes, while they are as fresh.
    pub(crate) xattrs: Option<Arc<Known>>,
    /// What the pages in the kernel's cache are from.
    pub(crate) cached: Option<Stamp>,
}

/// An open file to use again: small ones are kept, others live as long as somebody has them open.
pub(crate) enum Held {
    None,
    Kept(Arc<Content>),
    Open(Weak<Content>),
}

impl Held {
    pub(crate) fn get(&self) -> Option<Arc<Content>> {
        match self {
            Self::None => None,
            Self::Kept(content) => Some(Arc::clone(content)),
            Self::Open(content) => content.upgrade(),
        }
    }
}

/// Two equal stamps: the same file with the same content and rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    device: u64,
    size: u64,
    modified: Time,
    changed: Time,
}

impl Stamp {
    pub(crate) fn of(attributes: &Attributes) -> Self {
        Self {
            inode: attributes.inode,
            device: attributes.device,
            size: attributes.size,
            modified: attributes.modified,
            changed: attributes.changed,
        }
    }

    pub(crate) fn is_empty(self) -> bool {
        self.size == 0
    }

    pub(crate) fn same_file(self, other: Self) -> bool {
        self.inode == other.inode && self.device == other.device
    }
}

impl Node {
    pub(crate) fn root(attributes: Attributes, place: Place) -> Arc<Self> {
        Arc::new(Self::new(
            ROOT,
            None,
            None,
            place,
            State::new(attributes, Duration::MAX),
        ))
    }

    pub(super) fn new(id: u64, name: Option<Name>, origin: Option<Origin>, place: Place, state: State) -> Self {
        Self {
            id,
            names: Mutex::new(Names {
                all: name.into_iter().collect(),
                gone: false,
            }),
            origin,
            place,
            state: Mutex::new(state),
            opens: AtomicU32::new(0),
            opening: tokio::sync::Mutex::default(),
        }
    }

    /// The path as the app says it.
    pub(crate) fn path(&self) -> PathBuf {
        let (origin, below) = self.way();
        let mut path = origin.map_or_else(|| PathBuf::from("/"), |(path, _)| path);
        path.extend(below);
        path
    }

    /// The path in the pod.
    pub(crate) fn in_pod(&self, places: &Places) -> PathBuf {
        match self.way() {
            (Some((_, Some(mut pod))), below) => {
                pod.extend(below);
                pod
            }
            _ => places.in_pod(&self.path()),
        }
    }

    /// All its paths in the pod.
    pub(crate) fn paths_in_pod(&self, places: &Places) -> Vec<PathBuf> {
        let names = self.names().all.clone();
        if self.origin.is_some() || names.len() < 2 {
            return vec![self.in_pod(places)];
        }
        let path = |Name { parent, name }: &Name| {
            let path = parent.path().join(OsStr::from_bytes(name));
            parent.child_in_pod(&path, name, places)
        };
        names.iter().map(path).collect()
    }

    /// The path in the pod of the name below this node that the app calls `path`.
    pub(crate) fn child_in_pod(&self, path: &Path, name: &[u8], places: &Places) -> PathBuf {
        match self.way().0 {
            Some((_, Some(_))) => self.in_pod(places).join(OsStr::from_bytes(name)),
            _ => places.in_pod(path),
        }
    }

    /// The door through which this node was reached, and the names behind it.
    fn way(&self) -> (Option<Origin>, impl Iterator<Item = OsString>) {
        let mut names = vec![];
        let (mut origin, mut next) = (self.origin.clone(), self.name());
        while let Some(Name { parent, name }) = next.filter(|_| origin.is_none()) {
            names.push(OsString::from_vec(name.into()));
            (origin, next) = (parent.origin.clone(), parent.name());
        }
        (origin, names.into_iter().rev())
    }

    pub(super) fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of its names; the root of the mount has none.
    fn name(&self) -> Option<Name> {
        self.names().all.first().cloned()
    }

    /// What its content is now, as far as it is known.
    pub(crate) fn stamp(&self) -> (Stamp, u64) {
        let state = self.state();
        (Stamp::of(&state.attributes), state.changes)
    }

    /// A directory that it is in.
    pub(crate) fn parent(&self) -> Option<Arc<Self>> {
        self.name().map(|name| name.parent)
    }

    pub(crate) fn is_root(&self) -> bool {
        self.id == ROOT
    }

    /// The app has removed it, and can only have it open.
    pub(crate) fn is_gone(&self) -> bool {
        self.names().gone
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.state().attributes.mode & libc::S_IFMT == libc::S_IFDIR
    }

    /// It is what a mount is made of: the kernel never looks its name up again.
    pub(crate) fn is_mounted(&self) -> bool {
        self.origin.is_some()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.opens.load(Ordering::Relaxed) > 0
    }
}

impl State {
    pub(super) fn new(attributes: Attributes, age: Duration) -> Self {
        Self {
            attributes,
            fetched: past(age),
            touched: None,
            changes: 0,
            link: None,
            listing: None,
            content: Held::None,
            xattrs: None,
            cached: None,
        }
    }

    /// The attributes while they are fresh, and for how long they still are.
    pub(crate) fn fresh(&self) -> Option<(Attributes, Duration)> {
        let left = FRESH.checked_sub(self.fetched.elapsed())?;
        (!left.is_zero()).then_some((self.attributes, left))
    }

    /// Attributes that were asked for `age` ago.
    pub(crate) fn refresh(&mut self, attributes: Attributes, age: Duration) {
        let asked = past(age);
        if self.is_older(asked) {
            return;
        }
        if !Stamp::of(&self.attributes).same_file(Stamp::of(&attributes)) {
            self.link = None;
            self.listing = None;
            self.content = Held::None;
        }
        self.attributes = attributes;
        self.fetched = asked;
    }

    /// What was asked then may not know of the app's last change.
    pub(crate) fn is_older(&self, asked: Instant) -> bool {
        self.touched.is_some_and(|touched| asked < touched)
    }

    /// The app has changed its attributes, and they are these now.
    pub(crate) fn changed(&mut self, attributes: Attributes) {
        self.refresh(attributes, Duration::ZERO);
        self.touched = Some(Instant::now());
        self.xattrs = None;
    }

    /// The app has changed its content, or may have.
    pub(crate) fn rewritten(&mut self) {
        self.changes += 1;
        self.content = Held::None;
        self.cached = None;
    }

    /// The app has changed it in a way that only the pod can tell: entries of a directory, the number of names.
    pub(crate) fn outdated(&mut self) {
        self.fetched = past(Duration::MAX);
        self.touched = Some(Instant::now());
        self.listing = None;
        self.xattrs = None;
    }
}

/// `Duration::MAX` is long ago.
fn past(age: Duration) -> Instant {
    let now = Instant::now();
    now.checked_sub(age.min(FRESH * 2)).unwrap_or(now)
}

impl std::fmt::Debug for Node {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "node {} at {}", self.id, Path::new(&self.path()).display())
    }
}
