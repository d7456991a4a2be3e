//! What the rules make of a name inside the mount.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rules::{FileRules, PathPattern, Place as Decision};
use wire::message::{Attributes, Time, XattrKinds};

/// What a node shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A local directory of the app's; walked on the way to what is the pod's below it, never bound anywhere itself.
    Walked,
    /// The pod's.
    Pod,
    /// Something of this machine inside a directory of the pod: an empty directory or file for the mount over it, or the
    /// machine's symlink.
    Placeholder,
}

/// What a placeholder stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kept {
    Directory,
    File,
    Symlink(PathBuf),
}

/// The rules for one mount, and the machine's own paths inside the pod's.
pub(crate) struct Places {
    rules: Arc<FileRules>,
    /// What of this machine lies below paths of the pod.
    kept: BTreeMap<PathBuf, Kept>,
    /// Directories on the way to those, made up where the pod has none.
    ways: BTreeSet<PathBuf>,
}

impl Places {
    /// Looks at the machine's file system for what is to be kept; never at the mount, which is not there yet.
    pub(crate) fn new(rules: Arc<FileRules>) -> Self {
        let mut kept: BTreeMap<_, _> = kept_inside(&rules)
            .into_iter()
            .filter_map(|path| Some((on_machine(&path)?, path)))
            .map(|(what, path)| (path, what))
            .collect();
        // Not on this machine, but the way to something of the pod's.
        for path in ways_to_pod(&rules) {
            kept.entry(path).or_insert(Kept::Directory);
        }
        let ways = kept
            .keys()
            .flat_map(|path| path.ancestors().skip(1).map(Path::to_owned))
            .collect();
        Self { rules, kept, ways }
    }

    /// Whether the app may change anything, in the pod or for itself.
    pub(crate) fn may_change(&self) -> bool {
        self.rules.may_write() || self.rules.mode == rules::FileMode::WriteLocal
    }

    pub(crate) fn is_writable(&self, path: &Path) -> bool {
        self.rules.is_writable(path)
    }

    pub(crate) fn in_pod(&self, path: &Path) -> PathBuf {
        self.rules.in_pod(path)
    }

    /// Decides a name below a node; `None` does not exist.
    pub(crate) fn decide(&self, parent: Place, path: &Path) -> Option<Place> {
        match (self.rules.decide(path).place, parent) {
            (Decision::Hidden, _) => None,
            (Decision::Remote, Place::Walked | Place::Pod) => Some(Place::Pod),
            // What is mounted over it is not seen here.
            (_, Place::Placeholder) => None,
            (Decision::Local, Place::Walked) => Some(Place::Walked),
            (Decision::Local, Place::Pod) => self.kept.contains_key(path).then_some(Place::Placeholder),
        }
    }

    /// Attributes of a placeholder, or of a directory on the way to one.
    pub(crate) fn made_up(&self, path: &Path) -> Option<Attributes> {
        match self.kept.get(path) {
            Some(kept) => Some(made_up(path, kept)),
            None if self.ways.contains(path) => Some(made_up(path, &Kept::Directory)),
            None => None,
        }
    }

    /// The target of a placeholder that is a symlink.
    pub(crate) fn link(&self, path: &Path) -> Option<Box<[u8]>> {
        match self.kept.get(path) {
            Some(Kept::Symlink(target)) => Some(target.as_os_str().as_bytes().into()),
            _ => None,
        }
    }

    /// Names below `directory` that exist whatever the pod says.
    pub(crate) fn made_up_below(&self, directory: &Path) -> BTreeMap<Vec<u8>, Attributes> {
        let mut found = BTreeMap::new();
        for path in self.kept.keys().chain(&self.ways) {
            if path.parent() == Some(directory)
                && let (Some(name), Some(attributes)) = (path.file_name(), self.made_up(path))
            {
                found.insert(name.as_bytes().to_vec(), attributes);
            }
        }
        found
    }
}

/// Paths that stay local although the directory they are in is the pod's. Globs and regular expressions cannot be enumerated: what they keep local
/// inside a directory of the pod is absent there.
pub(crate) fn kept_inside(rules: &FileRules) -> Vec<PathBuf> {
    let listed = rules.local.iter().filter_map(PathPattern::prefix);
    let known = [rules::KERNEL, rules::SYSTEM, rules::DEVELOPER, rules::SCRATCH];
    let mut paths: Vec<PathBuf> = (rules.kept.iter().map(PathBuf::as_path).chain(listed))
        .chain(known.into_iter().flatten().map(Path::new))
        .filter(|path| rules.decide(path).place == Decision::Local)
        .filter(|path| (path.parent()).is_some_and(|parent| rules.decide(parent).place == Decision::Remote))
        .map(Path::to_owned)
        .collect();
    paths.sort();
    paths.dedup();
    paths
}

/// Local directories inside the pod's in which something is the pod's again.
fn ways_to_pod(rules: &FileRules) -> Vec<PathBuf> {
    let inside = |path: &Path| {
        let above = path.parent().map(|parent| rules.decide(parent).place);
        rules.decide(path).place == Decision::Local && above == Some(Decision::Remote)
    };
    let ends = (rules.volumes.iter().map(PathBuf::as_path)).chain(rules::IDENTITY.iter().map(Path::new));
    ends.flat_map(Path::ancestors)
        .filter(|path| inside(path))
        .map(Path::to_owned)
        .collect()
}

fn on_machine(path: &Path) -> Option<Kept> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some(if metadata.is_dir() {
        Kept::Directory
    } else if metadata.is_symlink() {
        Kept::Symlink(std::fs::read_link(path).ok()?)
    } else {
        Kept::File
    })
}

/// The device of what only this view has.
pub(crate) const MADE_UP: u64 = u64::MAX;

/// Attributes of what only this view has.
fn made_up(path: &Path, kept: &Kept) -> Attributes {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    Attributes {
        inode: hasher.finish() | 1 << 63,
        device: MADE_UP,
        mode: match kept {
            Kept::Directory => libc::S_IFDIR | 0o755,
            Kept::File => libc::S_IFREG | 0o444,
            Kept::Symlink(_) => libc::S_IFLNK | 0o777,
        },
        links: 1,
        uid: 0,
        gid: 0,
        special_device: 0,
        size: match kept {
            Kept::Symlink(target) => target.as_os_str().len() as u64,
            _ => 0,
        },
        blocks: 0,
        accessed: Time::default(),
        modified: Time::default(),
        changed: Time::default(),
        xattrs: XattrKinds::NONE,
        unreadable: false,
    }
}

/// The mount's root before the pod has said anything.
pub(crate) fn root_attributes() -> Attributes {
    made_up(Path::new("/"), &Kept::Directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> FileRules {
        FileRules {
            kept: vec!["/data/project".into(), "/home/me".into()],
            hidden: vec![PathPattern::Prefix("/data/secret".into())],
            ..FileRules::default()
        }
    }

    #[test]
    fn local_inside_the_pods_is_a_placeholder_only_where_it_is_kept() {
        assert!(kept_inside(&rules()).contains(&"/data/project".into()));
        assert!(!kept_inside(&rules()).contains(&"/home/me".into()));
        let mut places = Places::new(Arc::new(rules()));
        places.kept.insert("/data/project".into(), Kept::Directory);
        places.ways.insert("/data".into());
        let decide = |parent, path: &str| places.decide(parent, Path::new(path));
        assert_eq!(decide(Place::Walked, "/data"), Some(Place::Pod));
        assert_eq!(decide(Place::Pod, "/data/x"), Some(Place::Pod));
        assert_eq!(decide(Place::Pod, "/data/secret"), None);
        assert_eq!(decide(Place::Pod, "/data/project"), Some(Place::Placeholder));
        assert_eq!(decide(Place::Placeholder, "/data/project/x"), None);
        assert_eq!(decide(Place::Walked, "/etc"), Some(Place::Walked));
        assert_eq!(decide(Place::Walked, "/etc/hosts"), Some(Place::Pod));
        assert_eq!(decide(Place::Walked, "/run/nscd"), None);
        assert_eq!(places.made_up_below(Path::new("/data")).len(), 1);
    }
}
