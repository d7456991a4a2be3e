//! What the app changes: each is done in the pod before the app is told so, and whatever was remembered is forgotten.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use wire::message::{Attributes, Bytes, Change, Changed, Create, FileAnswer, FileOperation, Object, SetAttributes};

use super::content::Handle;
use super::lookup::gone;
use super::place::Place;
use super::{FRESH, File, Found, Node, PodTree};
use crate::Errno;
use crate::remote::{ask, checked, is_link, is_name, to_bytes};

/// A name in a directory.
pub(crate) type In<'a> = (&'a Arc<Node>, &'a [u8]);

impl PodTree {
    /// # Errors
    /// `EROFS` where the rules let nothing be written.
    pub(crate) fn writable(&self, node: &Node) -> Result<(), Errno> {
        if node.place == Place::Pod && self.places.is_writable(&node.path()) {
            Ok(())
        } else {
            Err(Errno::ROFS)
        }
    }

    /// The path in the pod of a name that may be made, moved or removed.
    fn name(&self, (parent, name): In<'_>) -> Result<Bytes, Errno> {
        if name.len() > 255 {
            return Err(Errno::NAMETOOLONG);
        }
        if !is_name(name) {
            return Err(Errno::INVAL);
        }
        if parent.is_gone() {
            return Err(Errno::NOENT);
        }
        let path = parent.path().join(OsStr::from_bytes(name));
        // What is hidden, or this machine's, cannot be made in the pod either: it would not be seen.
        if self.places.decide(parent.place, &path) != Some(Place::Pod) || !self.places.is_writable(&path) {
            return Err(Errno::ROFS);
        }
        Ok(to_bytes(&parent.child_in_pod(&path, name, &self.places)))
    }

    pub(super) fn path(&self, node: &Node) -> Result<Bytes, Errno> {
        self.writable(node)?;
        if node.is_gone() {
            return Err(Errno::STALE);
        }
        Ok(to_bytes(&node.in_pod(&self.places)))
    }

    /// A name was made, moved or removed, or may have been: what was brought along is not believed any more.
    fn touch(&self, (parent, name): In<'_>) {
        parent.state().outdated();
        let path = parent.path().join(OsStr::from_bytes(name));
        self.disbelieve(&parent.child_in_pod(&path, name, &self.places), true);
    }

    /// The same of what is at each name of a node.
    fn touch_node(&self, node: &Node) {
        node.paths_in_pod(&self.places)
            .iter()
            .for_each(|path| self.disbelieve(path, node.is_directory()));
    }

    fn disbelieve(&self, path: &Path, directory: bool) {
        // From before the app started.
        *self.primed.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.supply.forget(path, directory);
    }

    /// What is there now, at a name that the app has just made.
    fn made(&self, (parent, name): In<'_>, attributes: Attributes) -> Found {
        self.touch((parent, name));
        let found = self.found(parent, name, Place::Pod, attributes, Duration::ZERO);
        found.node.state().changed(attributes);
        Found {
            attributes,
            valid: FRESH,
            ..found
        }
    }

    /// Makes a file where there is none, and opens it. `mode`: with the umask applied.
    ///
    /// # Errors
    /// The pod's; `EROFS` where the rules let nothing be written; `EIO` when the link is gone.
    pub(crate) async fn create(&self, place: In<'_>, mode: u32, flags: u32) -> Result<(Found, File), Errno> {
        let flags = flags.cast_signed();
        let change = Change::Open {
            path: self.name(place)?,
            read: flags & libc::O_ACCMODE != libc::O_WRONLY,
            truncate: flags & libc::O_TRUNC != 0,
            create: Some(Create {
                mode: mode & 0o7777,
                exclusive: flags & libc::O_EXCL != 0,
            }),
        };
        let (attributes, handle) = self.opened(change).await?;
        let found = self.made(place, attributes);
        found.node.state().rewritten();
        let file = File::for_writing(Arc::clone(&found.node), handle);
        Ok((found, file))
    }

    pub(super) async fn open_for_writing(&self, node: &Arc<Node>, read: bool, truncate: bool) -> Result<File, Errno> {
        let change = Change::Open {
            path: self.path(node)?,
            read,
            truncate,
            create: None,
        };
        let (attributes, handle) = self.opened(change).await?;
        if truncate {
            self.touch_node(node);
        }
        let mut state = node.state();
        if truncate {
            state.rewritten();
        }
        state.changed(attributes);
        drop(state);
        Ok(File::for_writing(Arc::clone(node), handle))
    }

    async fn opened(&self, change: Change) -> Result<(Attributes, Handle), Errno> {
        let pod = Arc::clone(&self.pod);
        match self.ask(change).await? {
            Changed::Opened {
                attributes,
                handle: number,
            } => {
                let handle = Handle { pod, number };
                Ok((checked(attributes)?, handle))
            }
            _ => Err(Errno::IO),
        }
    }

    /// # Errors
    /// As [`Self::create`].
    pub(crate) async fn make_directory(&self, place: In<'_>, mode: u32) -> Result<Found, Errno> {
        let path = self.name(place)?;
        let attributes = self.now(Change::MakeDirectory { path, mode }).await?;
        Ok(self.made(place, attributes))
    }

    /// # Errors
    /// As [`Self::create`].
    pub(crate) async fn make_node(&self, place: In<'_>, mode: u32, device: u64) -> Result<Found, Errno> {
        let path = self.name(place)?;
        let attributes = self.now(Change::MakeNode { path, mode, device }).await?;
        Ok(self.made(place, attributes))
    }

    /// # Errors
    /// As [`Self::create`].
    pub(crate) async fn make_link(&self, place: In<'_>, target: &[u8]) -> Result<Found, Errno> {
        if !is_link(target) {
            return Err(Errno::NAMETOOLONG);
        }
        let change = Change::Symlink {
            path: self.name(place)?,
            target: Bytes(target.to_vec()),
        };
        let attributes = self.now(change).await?;
        let found = self.made(place, attributes);
        found.node.state().link = Some(target.into());
        Ok(found)
    }

    /// Another name for a node.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub(crate) async fn link_to(&self, node: &Arc<Node>, place: In<'_>) -> Result<Found, Errno> {
        let change = Change::Link {
            from: self.path(node)?,
            to: self.name(place)?,
        };
        let attributes = self.now(change).await?;
        self.touch(place);
        self.table.linked(node, place.0, place.1);
        self.touch_node(node);
        node.state().changed(attributes);
        Ok(Found {
            node: Arc::clone(node),
            attributes,
            valid: FRESH,
        })
    }

    /// # Errors
    /// As [`Self::create`].
    pub(crate) async fn remove(&self, place: In<'_>, directory: bool) -> Result<(), Errno> {
        let path = self.name(place)?;
        let outcome = self.ask(Change::Remove { path, directory }).await;
        self.touch(place);
        outcome?;
        if let Some(node) = self.table.removed(place.0, place.1) {
            self.one_name_less(&node);
        }
        Ok(())
    }

    fn one_name_less(&self, node: &Arc<Node>) {
        self.touch_node(node);
        let mut state = node.state();
        if node.is_gone() {
            let (attributes, _) = gone(state.attributes);
            state.changed(attributes);
        } else {
            state.outdated();
        }
    }

    /// `flags` as in renameat2(2).
    ///
    /// # Errors
    /// As [`Self::create`].
    pub(crate) async fn rename(&self, from: In<'_>, to: In<'_>, flags: u32) -> Result<(), Errno> {
        let change = Change::Rename {
            from: self.name(from)?,
            to: self.name(to)?,
            flags,
        };
        let moved = [self.table.at(from.0, from.1), self.table.at(to.0, to.1)];
        let outcome = self.ask(change).await;
        self.touch(from);
        self.touch(to);
        outcome?;
        if same(&moved) {
            // Two names of one object: rename(2) does nothing.
            return Ok(());
        }
        if flags & libc::RENAME_EXCHANGE != 0 {
            self.table.exchanged(from, to);
        } else if let Some(over) = self.table.moved(from, to) {
            self.one_name_less(&over);
        }
        // The time of its change.
        for node in moved.iter().flatten().filter(|node| !node.is_gone()) {
            node.state().outdated();
        }
        Ok(())
    }

    /// # Errors
    /// The pod's; `EROFS`, `EIO` as above. `file`: one that is open, whose name may be gone.
    pub(crate) async fn set(
        &self,
        node: &Arc<Node>,
        file: Option<&File>,
        mut attributes: SetAttributes,
    ) -> Result<(Attributes, Duration), Errno> {
        if let Some((uid, gid)) = self.identity.owner {
            // It is shown to be so already.
            attributes.uid = attributes.uid.filter(|&wanted| wanted != uid);
            attributes.gid = attributes.gid.filter(|&wanted| wanted != gid);
        }
        let object = match file.and_then(File::writer) {
            Some(handle) => Object::Handle(handle.number),
            None => Object::Path(self.path(node)?),
        };
        let outcome = self.now(Change::Set { object, attributes }).await;
        let now = self.learn(node, attributes.size.is_some(), outcome)?;
        Ok((now, FRESH))
    }

    /// What a node is after a change, or may be after one that failed; `content`: with what it holds.
    pub(super) fn learn(
        &self,
        node: &Node,
        content: bool,
        outcome: Result<Attributes, Errno>,
    ) -> Result<Attributes, Errno> {
        self.touch_node(node);
        let mut state = node.state();
        if content {
            state.rewritten();
        }
        match outcome {
            Ok(now) => state.changed(now),
            Err(_) => state.outdated(),
        }
        outcome
    }

    /// How many bytes were written.
    ///
    /// # Errors
    /// The pod's; `EBADF` for a file that is not open for writing; `EIO` when the link is gone: what became of it is not
    /// known then.
    pub(crate) async fn write(&self, file: &File, offset: u64, append: bool, data: Vec<u8>) -> Result<u32, Errno> {
        let handle = file.writer().ok_or(Errno::BADF)?.number;
        let asked = u32::try_from(data.len()).map_err(|_| Errno::INVAL)?;
        let change = Change::Write {
            handle,
            offset,
            append,
            data: Bytes(data),
        };
        let (length, outcome) = match self.ask(change).await {
            Ok(Changed::Written { length, attributes }) if length <= asked => (length, checked(attributes)),
            Ok(_) => (0, Err(Errno::IO)),
            Err(errno) => (0, Err(errno)),
        };
        self.learn(&file.node, true, outcome)?;
        Ok(length)
    }

    /// # Errors
    /// The pod's; `EBADF`, `EIO` as above.
    pub(crate) async fn allocate(&self, file: &File, mode: u32, offset: u64, length: u64) -> Result<(), Errno> {
        let change = Change::Allocate {
            handle: file.writer().ok_or(Errno::BADF)?.number,
            mode,
            offset,
            length,
        };
        let outcome = self.now(change).await;
        self.learn(&file.node, true, outcome).map(drop)
    }

    /// What was written is on the pod's disk when this is done. A directory has no `file`.
    ///
    /// # Errors
    /// The pod's; `EIO` when the link is gone.
    pub(crate) async fn sync(&self, node: &Arc<Node>, file: Option<&File>, data: bool) -> Result<(), Errno> {
        let object = match file.and_then(File::writer) {
            Some(handle) => Object::Handle(handle.number),
            // Nothing of the app's can be on the way there.
            None if self.writable(node).is_err() || node.is_gone() => return Ok(()),
            None => Object::Path(to_bytes(&node.in_pod(&self.places))),
        };
        self.ask(Change::Sync { object, data }).await.map(drop)
    }

    pub(super) async fn now(&self, change: Change) -> Result<Attributes, Errno> {
        match self.ask(change).await? {
            Changed::Now(attributes) => checked(attributes),
            _ => Err(Errno::IO),
        }
    }

    async fn ask(&self, change: Change) -> Result<Changed, Errno> {
        match ask(&self.pod, FileOperation::Change(change)).await? {
            FileAnswer::Changed(changed) => Ok(changed),
            _ => Err(Errno::IO),
        }
    }
}

fn same(nodes: &[Option<Arc<Node>>; 2]) -> bool {
    matches!(nodes, [Some(one), Some(other)] if Arc::ptr_eq(one, other))
}
