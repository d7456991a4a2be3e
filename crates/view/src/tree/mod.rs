//! The pod's files as a tree of nodes: what the FUSE server asks.
//!
//! Attributes, names that do not exist and directories are remembered for [`FRESH`]; the kernel is told how much of that is
//! left, so that it never believes anything older.

mod ahead;
mod brought;
mod caller;
mod change;
mod content;
mod door;
mod file;
mod guess;
mod listing;
mod lookup;
mod near;
mod node;
mod place;
mod supply;
mod table;
mod unasked;
mod xattr;

use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use rules::FileRules;
use tokio::sync::watch;
use wire::message::{Attributes, FileAnswer, FileOperation};

use crate::remote::ask;
use crate::{Errno, Pod};

pub(crate) use brought::Seen;
pub(crate) use caller::Intent;
pub(crate) use content::Content;
pub(crate) use door::Door;
pub(crate) use file::File;
pub(crate) use listing::{At, Directory, Listed, list_page};
pub(crate) use lookup::Found;
pub(crate) use node::{Node, Stamp};
pub(crate) use place::{Place, Places, root_attributes};
pub(crate) use supply::{Opened, Supply};

/// How long what the pod said is believed.
pub(crate) const FRESH: Duration = Duration::from_secs(1);
/// How long what was asked before the app started is believed: the start may take longer than [`FRESH`].
const PRIMED: Duration = Duration::from_secs(5);
/// Directories whose entries are remembered at a time.
const LISTINGS: usize = 8;
/// Bytes of small files that are kept to be opened again.
const KEPT: usize = 16 << 20;

/// Who looks at the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The target's user: decides access(2).
    pub uid: u32,
    /// Whom every file is shown to belong to, as user and group; `None`: as in the pod. For an app in a user namespace that
    /// has one user only: the kernel would let it write to no file of another.
    pub owner: Option<(u32, u32)>,
}

/// The pod's files for one mount.
pub struct PodTree {
    pod: Pod,
    supply: Arc<supply::Supply>,
    places: place::Places,
    identity: Identity,
    table: table::Table,
    /// The device of the target's root: its inode numbers are shown as they are.
    device: Arc<OnceLock<u64>>,
    listings: Mutex<VecDeque<Weak<Node>>>,
    kept: Mutex<Kept>,
    recent: Arc<file::Recent>,
    /// The kernel opens files without asking.
    unasked: bool,
    readers: unasked::Readers,
    ahead: Arc<ahead::Budget>,
    primed: Mutex<Option<Primed>>,
    statfs: Mutex<Option<(Instant, Figures)>>,
    /// A file with an access list has been seen.
    lists: AtomicBool,
}

/// Small files that are kept open-able, oldest first.
#[derive(Default)]
struct Kept {
    files: VecDeque<(Weak<Node>, usize)>,
    bytes: usize,
}

/// What was asked before the app started.
struct Primed {
    paths: Arc<[PathBuf]>,
    answers: watch::Receiver<Option<Arc<Answers>>>,
}

struct Answers {
    at: Instant,
    attributes: HashMap<PathBuf, Result<Attributes, Errno>>,
    /// Targets of the symlinks in the pod's `/`.
    links: HashMap<PathBuf, Box<[u8]>>,
}

/// `statfs(2)` of the target's root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) blocks: u64,
    pub(crate) free: u64,
    pub(crate) available: u64,
    pub(crate) files: u64,
    pub(crate) free_files: u64,
    pub(crate) block_size: u32,
    pub(crate) name_max: u32,
}

impl PodTree {
    /// `unasked`: the kernel may open files without asking, see [`Self::opens_unasked`].
    #[must_use]
    pub(crate) fn new(pod: Pod, rules: Arc<FileRules>, identity: Identity, unasked: bool) -> Self {
        let place = if rules.decide(Path::new("/")).place == rules::Place::Remote {
            place::Place::Pod
        } else {
            place::Place::Walked
        };
        let root = Node::root(place::root_attributes(), place);
        Self {
            supply: supply::Supply::new(Arc::clone(&pod)),
            pod,
            places: place::Places::new(rules),
            identity,
            table: table::Table::new(root),
            device: Arc::default(),
            listings: Mutex::default(),
            kept: Mutex::default(),
            recent: Arc::default(),
            unasked,
            readers: unasked::Readers::default(),
            ahead: Arc::default(),
            primed: Mutex::default(),
            statfs: Mutex::default(),
            lists: AtomicBool::new(false),
        }
    }

    /// Asks for the attributes of these paths, and of all directories above them, in one round trip, which lookups of them
    /// then wait for. Must be called within a tokio runtime.
    pub fn prime(&self, paths: &[PathBuf]) {
        let mut all: Vec<PathBuf> = paths
            .iter()
            .flat_map(|path| path.ancestors())
            .map(Path::to_owned)
            .collect();
        all.sort();
        all.dedup();
        // Far below the longest message.
        all.truncate(1024);
        let asked = all
            .iter()
            .map(|path| crate::remote::to_bytes(&self.places.in_pod(path)))
            .collect();
        let all: Arc<[PathBuf]> = all.into();
        let (sender, answers) = watch::channel(None);
        let (pod, paths, device) = (Arc::clone(&self.pod), Arc::clone(&all), Arc::clone(&self.device));
        tokio::spawn(async move {
            let (answers, links) = tokio::join!(crate::remote::stat_all(&pod, asked), root_links(&pod));
            let answers = answers.unwrap_or_default();
            // The first one is the root.
            if let Some(Ok(root)) = answers.first() {
                device.get_or_init(|| root.device);
            }
            let _ = sender.send(Some(Arc::new(Answers {
                at: Instant::now(),
                attributes: paths.iter().cloned().zip(answers).collect(),
                links,
            })));
        });
        *self.primed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Primed { paths: all, answers });
    }

    pub(crate) fn node(&self, id: u64) -> Result<Arc<Node>, Errno> {
        self.table.get(id).ok_or(Errno::STALE)
    }

    /// The kernel was told of a node.
    pub(crate) fn hand_out(&self, node: &Arc<Node>) {
        self.table.hand_out(node);
    }

    pub(crate) fn forget(&self, id: u64, lookups: u64) {
        self.table.forget(id, lookups);
        if self.unasked && self.table.get(id).is_none() {
            self.readers.remove(id);
        }
    }

    /// Attributes as programs see them.
    pub(crate) fn shown(&self, attributes: &Attributes) -> Attributes {
        let (uid, gid) = self.identity.owner.unwrap_or((attributes.uid, attributes.gid));
        Attributes {
            inode: self.inode(attributes),
            uid,
            gid,
            ..*attributes
        }
    }

    /// What programs see as `st_ino`: the pod's number, told apart by device where the pod has several file systems.
    pub(crate) fn inode(&self, attributes: &Attributes) -> u64 {
        if attributes.device == place::MADE_UP || *self.device.get_or_init(|| attributes.device) == attributes.device {
            attributes.inode
        } else {
            // Fibonacci hashing spreads the device over all bits.
            attributes.inode ^ attributes.device.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        }
    }

    /// Whether the target's user may do this; `mask` as in access(2).
    pub(crate) fn may(&self, node: &Node, attributes: &Attributes, mask: u32) -> Result<(), Errno> {
        if mask & libc::W_OK.cast_unsigned() != 0 {
            self.writable(node)?;
        }
        let directory = attributes.mode & libc::S_IFMT == libc::S_IFDIR;
        if attributes.unreadable && mask & libc::R_OK.cast_unsigned() != 0 {
            return Err(Errno::ACCES);
        }
        let granted = if self.identity.uid == 0 {
            let execute = u32::from(directory || attributes.mode & 0o111 != 0);
            0o6 | execute
        } else if self.identity.uid == attributes.uid {
            attributes.mode >> 6
        } else {
            // Its supplementary groups are not known here (volumes belong to one where the pod has an fsGroup): what a
            // member of the group may is not refused, opening decides.
            attributes.mode | attributes.mode >> 3
        };
        if mask & 0o7 & !granted == 0 {
            Ok(())
        } else {
            Err(Errno::ACCES)
        }
    }

    pub(crate) async fn figures(&self) -> Result<Figures, Errno> {
        if let Some((at, figures)) = *self.statfs.lock().unwrap_or_else(PoisonError::into_inner)
            && at.elapsed() < FRESH
        {
            return Ok(figures);
        }
        let FileAnswer::StatFs {
            blocks,
            free,
            available,
            files,
            free_files,
            block_size,
            name_max,
        } = ask(&self.pod, FileOperation::StatFs).await?
        else {
            return Err(Errno::IO);
        };
        let figures = Figures {
            blocks,
            free,
            available,
            files,
            free_files,
            block_size,
            name_max,
        };
        *self.statfs.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), figures));
        Ok(figures)
    }

    fn remember_listing(&self, node: &Arc<Node>, listing: Arc<listing::Listing>) {
        {
            let mut state = node.state();
            if state.is_older(listing.fetched) {
                return;
            }
            state.listing = Some(listing);
        }
        let mut listings = self.listings.lock().unwrap_or_else(PoisonError::into_inner);
        listings.retain(|known| known.upgrade().is_some_and(|known| known.id != node.id));
        listings.push_back(Arc::downgrade(node));
        if listings.len() > LISTINGS
            && let Some(oldest) = listings.pop_front().and_then(|oldest| oldest.upgrade())
        {
            oldest.state().listing = None;
        }
    }

    /// Keeps a small file's content for the next open.
    fn keep(&self, node: &Arc<Node>, content: &Arc<content::Content>) {
        node.state().content = node::Held::Kept(Arc::clone(content));
        let bytes = content.first.len();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.files.push_back((Arc::downgrade(node), bytes));
        kept.bytes += bytes;
        while kept.bytes > KEPT
            && let Some((oldest, bytes)) = kept.files.pop_front()
        {
            kept.bytes -= bytes;
            if let Some(oldest) = oldest.upgrade()
                && oldest.id != node.id
            {
                let held = oldest.state().content.get();
                oldest.state().content = match &held {
                    Some(content) => node::Held::Open(Arc::downgrade(content)),
                    None => node::Held::None,
                };
            }
        }
    }
}

/// Where the symlinks in the pod's `/` point: images have them there, and each would be a round trip of its own.
async fn root_links(pod: &Pod) -> HashMap<PathBuf, Box<[u8]>> {
    let operation = FileOperation::List {
        path: crate::remote::to_bytes(Path::new("/")),
        cookie: 0,
    };
    let Ok(FileAnswer::List { entries, .. }) = ask(pod, operation).await else {
        return HashMap::new();
    };
    let named = entries
        .into_iter()
        .filter(|entry| crate::remote::is_name(&entry.name.0));
    named
        .filter_map(|entry| Some((Path::new("/").join(OsStr::from_bytes(&entry.name.0)), entry.link?)))
        .filter(|(_, link)| crate::remote::is_link(&link.0))
        .map(|(path, link)| (path, link.0.into()))
        .collect()
}
