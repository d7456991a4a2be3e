//! The namespace backend: the app's own mount namespace, in which the pod's files lie at their real places.
//!
//! [`Layout::plan`] finds where the rules change from the machine to the pod and back, without touching
//! anything. [`Layout::enter`] runs in the app's process between fork and exec: it leaves the mount namespace, mounts FUSE
//! once at a private place, builds a new root from the machine's entries, binds the pod's parts over it, and makes it the
//! root. A directory of the machine that lacks a name which the pod has is replicated: a tmpfs with each of its entries
//! bound into it, so what the app creates directly in such a directory stays in memory and goes with the app. Where changes
//! are kept on this machine, the kernel's overlay file system lies over a part of the pod before it is bound.

mod boundary;
mod build;
mod enter;
mod error;
mod mount;
mod overlay;
mod setup;

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rules::FileRules;

use boundary::Boundary;
pub use error::NsError;
pub(crate) use setup::{Step, probe};

/// What the plan needs to know of the pod.
#[derive(Debug, Clone, Default)]
pub struct PodRoot {
    /// The names in the pod's `/`, and whether each is a directory.
    pub names: Vec<(Vec<u8>, bool)>,
}

impl PodRoot {
    fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.names
            .iter()
            .map(|(name, _)| name)
            .filter(|name| crate::remote::is_name(name))
            .map(|name| PathBuf::from("/").join(OsString::from_vec(name.clone())))
    }
}

/// Where the pod's files go in the app's mount namespace.
#[derive(Debug, Clone)]
pub struct Layout {
    rules: FileRules,
    boundaries: Vec<Boundary>,
    /// The text of the app's /etc/nsswitch.conf.
    nsswitch: Option<Vec<u8>>,
    user: bool,
    /// Where changes are kept that stay on this machine.
    changes: Option<PathBuf>,
}

/// What could not be placed, and why; the app runs without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    pub path: PathBuf,
    pub why: String,
}

impl Layout {
    /// Reads the names in the machine's `/` and nothing else. `nsswitch` may be empty: then the machine's file stays.
    /// `user` as [`crate::Backend::Namespace`] says.
    #[must_use]
    pub fn plan(rules: &FileRules, pod: &PodRoot, nsswitch: &[u8], user: bool) -> Self {
        Self {
            boundaries: boundary::boundaries(rules, pod.paths().chain(on_machine())),
            nsswitch: (!nsswitch.is_empty() && !rules.local_names).then(|| nsswitch.to_vec()),
            rules: rules.clone(),
            user,
            changes: None,
        }
    }

    /// Keeps in a directory of this machine what the app changes below the paths that [`FileRules::is_kept_here`]: it is
    /// made ready by [`changes::open`](crate::changes::open).
    #[must_use]
    pub fn keep_changes(mut self, directory: PathBuf) -> Self {
        self.changes = Some(directory);
        self
    }

    /// Nothing of the pod would be seen: the namespace can be left out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nsswitch.is_none()
            && self
                .boundaries
                .iter()
                .all(|boundary| boundary.place == rules::Place::Local)
    }

    /// Moves this process into the namespace; for the app's process, single-threaded, between fork and exec, before the
    /// seccomp filter. `send` hands the FUSE connection to the session's server, which must be serving it from then on: what
    /// follows looks into the mount. The working directory stays.
    ///
    /// # Errors
    /// What was being done with which path, and the errno. The process is then in an undefined place and must end.
    pub fn enter(&self, send: impl FnOnce(OwnedFd) -> io::Result<()>) -> Result<Vec<Skipped>, NsError> {
        enter::enter(self, send)
    }
}

/// The paths that [`Layout::enter`] will look up in the pod, to be asked for in one round trip.
#[must_use]
pub fn start_paths(rules: &FileRules, pod: &PodRoot) -> Vec<PathBuf> {
    boundary::boundaries(rules, pod.paths().chain(on_machine()))
        .into_iter()
        .filter(|boundary| boundary.place != rules::Place::Hidden)
        .map(|boundary| boundary.path)
        .collect()
}

/// What is in the machine's `/`: the rules may say that it is the pod's to have.
fn on_machine() -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir("/").into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path()))
}
