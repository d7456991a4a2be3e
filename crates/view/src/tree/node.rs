//! One name in the pod as the kernel knows it, and the table of all of them.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use wire::message::{Attributes, Time};

use super::FRESH;
use super::content::Content;
use super::listing::Listing;
use super::place::{Place, Places};

/// The node id of the mount's root (`FUSE_ROOT_ID`).
pub(crate) const ROOT: u64 = 1;

/// A path in the view with what is there. What replaces it (another inode or type) is another node.
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) parent: Option<Arc<Node>>,
    pub(crate) name: Box<[u8]>,
    /// Where a door leads: the app's path, and the pod's where it is not the one that the rules say.
    origin: Option<(PathBuf, Option<PathBuf>)>,
    pub(crate) place: Place,
    state: Mutex<State>,
    /// Open files of the kernel.
    pub(crate) opens: AtomicU32,
}

pub(crate) struct State {
    pub(crate) attributes: Attributes,
    fetched: Instant,
    /// A symlink's target.
    pub(crate) link: Option<Box<[u8]>>,
    /// A directory's entries, while fresh.
    pub(crate) listing: Option<Arc<Listing>>,
    pub(crate) content: Held,
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

    pub(crate) fn same_file(self, other: Self) -> bool {
        self.inode == other.inode && self.device == other.device
    }
}

impl Node {
    pub(crate) fn root(attributes: Attributes, place: Place) -> Arc<Self> {
        Arc::new(Self {
            id: ROOT,
            parent: None,
            name: Box::default(),
            origin: None,
            place,
            state: Mutex::new(State::new(attributes, Duration::MAX)),
            opens: AtomicU32::new(0),
        })
    }

    /// The path as the app says it.
    pub(crate) fn path(&self) -> PathBuf {
        let (origin, below) = self.way();
        let mut path = origin.map_or_else(|| PathBuf::from("/"), |(path, _)| path.clone());
        path.extend(below);
        path
    }

    /// The path in the pod.
    pub(crate) fn in_pod(&self, places: &Places) -> PathBuf {
        match self.way() {
            (Some((_, Some(pod))), below) => {
                let mut path = pod.clone();
                path.extend(below);
                path
            }
            _ => places.in_pod(&self.path()),
        }
    }

    /// The path in the pod of the name below this node that the app calls `path`.
    pub(crate) fn child_in_pod(&self, path: &Path, name: &[u8], places: &Places) -> PathBuf {
        match self.way().0 {
            Some((_, Some(_))) => self.in_pod(places).join(OsStr::from_bytes(name)),
            _ => places.in_pod(path),
        }
    }

    /// The door through which this node was reached, and the names behind it.
    fn way(&self) -> (Option<&(PathBuf, Option<PathBuf>)>, impl Iterator<Item = &OsStr>) {
        let mut names = vec![];
        let mut node = self;
        while let Some(parent) = node.parent.as_ref().filter(|_| node.origin.is_none()) {
            names.push(OsStr::from_bytes(&node.name));
            node = parent;
        }
        (node.origin.as_ref(), names.into_iter().rev())
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.state().attributes.mode & libc::S_IFMT == libc::S_IFDIR
    }

    pub(crate) fn is_open(&self) -> bool {
        self.opens.load(Ordering::Relaxed) > 0
    }
}

impl State {
    fn new(attributes: Attributes, age: Duration) -> Self {
        Self {
            attributes,
            fetched: past(age),
            link: None,
            listing: None,
            content: Held::None,
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
        if !Stamp::of(&self.attributes).same_file(Stamp::of(&attributes)) {
            self.link = None;
            self.listing = None;
            self.content = Held::None;
        }
        self.attributes = attributes;
        self.fetched = past(age);
    }
}

/// `Duration::MAX` is long ago.
fn past(age: Duration) -> Instant {
    let now = Instant::now();
    now.checked_sub(age.min(FRESH * 2)).unwrap_or(now)
}

/// All nodes that the kernel may name.
pub(crate) struct Table {
    inner: Mutex<Inner>,
}

struct Inner {
    next: u64,
    nodes: HashMap<u64, Known>,
    /// By parent and name, the node that is there now.
    names: HashMap<(u64, Box<[u8]>), Arc<Node>>,
}

struct Known {
    node: Arc<Node>,
    /// How often the kernel was told of it and has not forgotten it.
    lookups: u64,
}

impl Table {
    pub(crate) fn new(root: Arc<Node>) -> Self {
        let known = Known { node: root, lookups: 1 };
        Self {
            inner: Mutex::new(Inner {
                next: ROOT + 1,
                nodes: HashMap::from([(ROOT, known)]),
                names: HashMap::new(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, id: u64) -> Option<Arc<Node>> {
        self.lock().nodes.get(&id).map(|known| Arc::clone(&known.node))
    }

    /// The node that is known at a name now.
    pub(crate) fn at(&self, parent: &Arc<Node>, name: &[u8]) -> Option<Arc<Node>> {
        self.lock().names.get(&(parent.id, name.into())).map(Arc::clone)
    }

    /// The node for what was found at a name `age` ago. The caller hands it to the kernel ([`Table::hand_out`]).
    pub(crate) fn found(
        &self,
        parent: &Arc<Node>,
        name: &[u8],
        place: Place,
        attributes: Attributes,
        age: Duration,
    ) -> Arc<Node> {
        self.found_behind(parent, name, None, place, attributes, age)
    }

    /// The same behind a door.
    pub(crate) fn found_behind(
        &self,
        parent: &Arc<Node>,
        name: &[u8],
        origin: Option<(PathBuf, Option<PathBuf>)>,
        place: Place,
        attributes: Attributes,
        age: Duration,
    ) -> Arc<Node> {
        let mut inner = self.lock();
        let key = (parent.id, Box::from(name));
        if let Some(node) = inner.names.get(&key) {
            let mut state = node.state();
            if same_node(&state.attributes, &attributes) {
                state.refresh(attributes, age);
                drop(state);
                return Arc::clone(node);
            }
        }
        let id = inner.next;
        inner.next += 1;
        let node = Arc::new(Node {
            id,
            parent: Some(Arc::clone(parent)),
            name: Box::from(name),
            origin,
            place,
            state: Mutex::new(State::new(attributes, age)),
            opens: AtomicU32::new(0),
        });
        inner.names.insert(key, Arc::clone(&node));
        node
    }

    /// The kernel is told of a node once more.
    pub(crate) fn hand_out(&self, node: &Arc<Node>) {
        let mut inner = self.lock();
        inner
            .nodes
            .entry(node.id)
            .or_insert_with(|| Known {
                node: Arc::clone(node),
                lookups: 0,
            })
            .lookups += 1;
    }

    /// The kernel forgets a node `lookups` times, or never got to know it.
    pub(crate) fn forget(&self, id: u64, lookups: u64) {
        let mut inner = self.lock();
        let Some(known) = inner.nodes.get_mut(&id) else {
            return;
        };
        known.lookups = known.lookups.saturating_sub(lookups);
        if known.lookups > 0 || id == ROOT {
            return;
        }
        let Some(Known { node, .. }) = inner.nodes.remove(&id) else {
            return;
        };
        if let Some(parent) = &node.parent {
            let key = (parent.id, node.name.clone());
            if inner.names.get(&key).is_some_and(|there| there.id == id) {
                inner.names.remove(&key);
            }
        }
    }

    /// Drops what the kernel was never told of, such as names found in a listing that it did not ask for.
    pub(crate) fn forget_unknown(&self, node: &Arc<Node>) {
        let mut inner = self.lock();
        if !inner.nodes.contains_key(&node.id)
            && let Some(parent) = &node.parent
        {
            let key = (parent.id, node.name.clone());
            if inner.names.get(&key).is_some_and(|there| there.id == node.id) {
                inner.names.remove(&key);
            }
        }
    }
}

/// A symlink cannot change in place, and its target is cached, so any change of it is another one.
fn same_node(one: &Attributes, other: &Attributes) -> bool {
    one.inode == other.inode
        && one.device == other.device
        && one.mode & libc::S_IFMT == other.mode & libc::S_IFMT
        && (one.mode & libc::S_IFMT != libc::S_IFLNK || one.changed == other.changed)
}

impl std::fmt::Debug for Node {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "node {} at {}", self.id, Path::new(&self.path()).display())
    }
}
