//! What the session's server holds: both ways to the pod's files behind one value.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rules::FileRules;

use crate::copy::{CopyView, Fetch, Warn};
use crate::{Errno, Identity, Members, Pod, PodTree, fuse, ns};

/// The pod's files for one session.
pub struct Files {
    pod: Pod,
    rules: Arc<FileRules>,
    identity: Identity,
    root: ns::PodRoot,
    copy: CopyView,
}

impl Files {
    /// `directory` is the session's own for the copies (made 0700 on first use), `warn` gets what a person should know.
    #[must_use]
    pub fn new(
        pod: Pod,
        rules: FileRules,
        identity: Identity,
        root: ns::PodRoot,
        directory: PathBuf,
        warn: Warn,
    ) -> Self {
        let rules = Arc::new(rules);
        let copy = CopyView::new(Arc::clone(&pod), Arc::clone(&rules), directory, warn);
        Self {
            pod,
            rules,
            identity,
            root,
            copy,
        }
    }

    /// Serves a mounted FUSE connection until it is unmounted, which is when the last process of the app's mount namespace
    /// has ended. `members`: who may look into it, where other programs see the mount too. Dropping the future closes the connection: whoever looks into the mount gets `ENOTCONN`.
    ///
    /// # Errors
    /// When /dev/fuse cannot be polled or read, or the kernel speaks another protocol.
    pub async fn serve(&self, fuse: OwnedFd, members: Option<Members>) -> Result<(), fuse::ServeError> {
        // Whom the kernel does not ask for is refused nothing, a write least of all, and a file that says no size is empty to it.
        let unasked = members.is_none() && !self.rules.may_write() && !self.rules.shows_sizeless();
        let tree = PodTree::new(Arc::clone(&self.pod), Arc::clone(&self.rules), self.identity, unasked);
        // Nobody walks these at the start where they are not bound to their places.
        if members.is_none() {
            tree.prime(&ns::start_paths(&self.rules, &self.root));
        }
        fuse::serve(fuse, Arc::new(tree), members).await
    }

    /// Where a path of the pod lies on this machine, copied first where needed: see [`CopyView::fetch`].
    ///
    /// # Errors
    /// The pod's errno; `EIO` when the link is gone; `EFBIG`, `ENOSPC` beyond the limits of the copy view.
    pub async fn fetch(&self, path: &Path, what: Fetch) -> Result<PathBuf, Errno> {
        self.copy.fetch(path, what).await
    }
}

impl std::fmt::Debug for Files {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Files").finish_non_exhaustive()
    }
}

/// Makes a directory for this user alone.
pub(crate) fn private_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}
