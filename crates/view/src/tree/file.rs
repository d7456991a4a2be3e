//! Files as the kernel has them open.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::ahead::{self, Ahead, Source};
use super::content::{Content, Handle};
use super::node::{Held, Node, Stamp};
use super::{FRESH, Opened, PodTree};
use crate::Errno;

/// Files that are kept open for a moment after they were closed.
const RECENT: usize = 16;

/// The last of them; each has a descriptor at the agent, which keeps what was removed meanwhile from being freed.
pub(crate) type Recent = Mutex<std::collections::VecDeque<Arc<Content>>>;

/// An open file of the kernel.
pub(crate) struct File {
    pub(super) node: Arc<Node>,
    kind: Kind,
    pub(crate) direct: bool,
    /// The kernel may keep the pages that it has.
    pub(crate) keep_cache: bool,
}

/// What is at an open file's node.
pub(super) enum Now {
    Same,
    /// The same file, which has changed.
    Changed(Content),
    Another,
}

enum Kind {
    Reading(Mutex<State>),
    /// Whatever is read is asked for: it is what was written.
    Writing(Handle),
}

struct State {
    content: Arc<Content>,
    ahead: Ahead,
}

impl File {
    pub(super) fn new(node: Arc<Node>, content: Arc<Content>) -> Self {
        node.opens.fetch_add(1, Ordering::Relaxed);
        let direct = content.is_sizeless();
        let keep_cache = {
            let mut state = node.state();
            let stamp = content.stamp();
            state.cached.replace(stamp) == Some(stamp) && !direct
        };
        Self {
            node,
            kind: Kind::Reading(Mutex::new(State {
                content,
                ahead: Ahead::default(),
            })),
            direct,
            keep_cache,
        }
    }

    pub(super) fn for_writing(node: Arc<Node>, handle: Handle) -> Self {
        node.opens.fetch_add(1, Ordering::Relaxed);
        Self {
            node,
            kind: Kind::Writing(handle),
            direct: false,
            keep_cache: false,
        }
    }

    /// What a reader of this file reads, and how far that is what is known of the node.
    pub(super) fn now(&self) -> Now {
        let Kind::Reading(state) = &self.kind else {
            return Now::Another;
        };
        let content = Arc::clone(&State::of(state).content);
        let (attributes, changes) = {
            let state = self.node.state();
            (state.attributes, state.changes)
        };
        let stamp = Stamp::of(&attributes);
        if content.stamp() == stamp && content.changes == changes {
            return Now::Same;
        }
        match content
            .changed(attributes, changes)
            .filter(|_| content.stamp().same_file(stamp))
        {
            Some(changed) => Now::Changed(changed),
            None => Now::Another,
        }
    }

    /// The agent has a descriptor of it, until this is dropped.
    pub(super) fn is_held(&self) -> bool {
        match &self.kind {
            Kind::Reading(state) => !State::of(state).content.is_whole(),
            Kind::Writing(_) => true,
        }
    }

    /// Nobody reads on for now.
    pub(super) fn pause(&self) {
        if let Kind::Reading(state) = &self.kind {
            State::of(state).ahead.stop();
        }
    }

    /// The agent's descriptor of a file that is open for writing.
    pub(super) fn writer(&self) -> Option<&Handle> {
        match &self.kind {
            Kind::Reading(_) => None,
            Kind::Writing(handle) => Some(handle),
        }
    }
}

impl State {
    fn of(state: &Mutex<Self>) -> MutexGuard<'_, Self> {
        state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.node.opens.fetch_sub(1, Ordering::Relaxed);
    }
}

impl PodTree {
    /// # Errors
    /// `EROFS` for writing where the rules do not allow it; the pod's (`EACCES` as the target's user gets it); `EIO` when
    /// the link is gone.
    pub(crate) async fn open(&self, node: &Arc<Node>, flags: u32) -> Result<File, Errno> {
        let read = match flags.cast_signed() & libc::O_ACCMODE {
            libc::O_RDONLY => None,
            access => Some(access == libc::O_RDWR),
        };
        let truncate = flags.cast_signed() & libc::O_TRUNC != 0;
        if let Some(read) = read {
            return self.open_for_writing(node, read, truncate).await;
        }
        if truncate {
            drop(self.open_for_writing(node, false, true).await?);
        }
        let (attributes, _) = self.attributes(node).await?;
        let content = self.content(node, Stamp::of(&attributes)).await?;
        Ok(File::new(Arc::clone(node), content))
    }

    /// The content of a file that is `stamp` as far as is known: what is held of it, what was brought along, or the pod's.
    ///
    /// # Errors
    /// The pod's; `EIO` when the link is gone.
    pub(super) async fn content(&self, node: &Arc<Node>, stamp: Stamp) -> Result<Arc<Content>, Errno> {
        let (held, changes) = {
            let state = node.state();
            (state.content.get(), state.changes)
        };
        let as_it_is = |content: &Arc<Content>| content.stamp() == stamp && content.changes == changes;
        if let Some(content) = held.filter(as_it_is) {
            return Ok(content);
        }
        let path = node.in_pod(&self.places);
        match self.supply.open(&path, stamp, self.open_content(node)).await? {
            Opened::Brought(content) => {
                node.state().content = Held::Open(Arc::downgrade(&content));
                Ok(content)
            }
            Opened::Asked(content) if self.is_replaced(node, &content) => Err(Errno::STALE),
            Opened::Asked(content) => {
                node.state().refresh(content.attributes, Duration::ZERO);
                Ok(content)
            }
        }
    }

    async fn open_content(&self, node: &Arc<Node>) -> Result<Arc<Content>, Errno> {
        if node.is_gone() {
            return Err(Errno::STALE);
        }
        let (size, changes) = {
            let state = node.state();
            (state.attributes.size, state.changes)
        };
        let content = Arc::new(Content::open(&self.pod, &node.in_pod(&self.places), size, changes).await?);
        if content.is_whole() && !content.is_sizeless() {
            self.keep(node, &content);
        } else if !content.is_sizeless() {
            node.state().content = Held::Open(Arc::downgrade(&content));
            self.hold(&content);
        }
        Ok(content)
    }

    /// Keeps one of the last files that were opened open for a while: it may be opened again at once.
    fn hold(&self, content: &Arc<Content>) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.push_back(Arc::clone(content));
        if recent.len() > RECENT {
            recent.pop_front();
        }
        let (held, recent) = (Arc::downgrade(content), Arc::downgrade(&self.recent));
        tokio::spawn(async move {
            tokio::time::sleep(FRESH).await;
            if let (Some(content), Some(recent)) = (held.upgrade(), recent.upgrade()) {
                let mut recent = recent.lock().unwrap_or_else(PoisonError::into_inner);
                recent.retain(|other| !Arc::ptr_eq(other, &content));
            }
        });
    }

    /// `size` bytes from `offset` on, in parts; fewer only at the end of the file.
    ///
    /// # Errors
    /// The pod's; `EIO` when the link is gone.
    pub(crate) async fn read(&self, file: &File, offset: u64, size: u32) -> Result<Vec<Bytes>, Errno> {
        let (mut parts, mut at, end) = (Vec::new(), offset, offset.saturating_add(u64::from(size)));
        let reading = match &file.kind {
            Kind::Writing(_) => None,
            Kind::Reading(state) => Some((state, self.current(file, state).await?)),
        };
        while at < end {
            let part = match (&reading, file.writer()) {
                (Some((state, content)), _) => self.part(file, state, content, at, end - at).await?,
                (None, Some(handle)) => handle.read(at, u32::try_from(end - at).unwrap_or(u32::MAX)).await?,
                (None, None) => return Err(Errno::BADF),
            };
            if part.is_empty() {
                break;
            }
            at += part.len() as u64;
            parts.push(part);
            if file.direct {
                // A short read is no end here, and waiting for more might be waiting for ever.
                break;
            }
        }
        Ok(parts)
    }

    /// The content that an open file reads: a small file that was changed in place is opened again.
    async fn current(&self, file: &File, state: &Mutex<State>) -> Result<Arc<Content>, Errno> {
        let content = Arc::clone(&State::of(state).content);
        if file.direct || !content.is_whole() {
            return Ok(content);
        }
        let (now, changes) = file.node.stamp();
        let is_same = now == content.stamp() && changes == content.changes;
        if is_same || !now.same_file(content.stamp()) || file.node.is_gone() {
            return Ok(content);
        }
        let as_it_is = |held: &Arc<Content>| held.stamp() == now && held.changes == changes;
        let held = file.node.state().content.get().filter(as_it_is);
        let newer = match held {
            Some(newer) => newer,
            None => self.open_content(&file.node).await?,
        };
        if !newer.stamp().same_file(content.stamp()) {
            return Ok(content);
        }
        file.node.state().cached = Some(newer.stamp());
        State::of(state).content = Arc::clone(&newer);
        Ok(newer)
    }

    async fn part(
        &self,
        file: &File,
        state: &Mutex<State>,
        content: &Arc<Content>,
        at: u64,
        wanted: u64,
    ) -> Result<Bytes, Errno> {
        let first = content.first.len() as u64;
        // What came with the open is old once the file has changed.
        let unchanged = content.is_whole() || file.node.stamp() == (content.stamp(), content.changes);
        if at < first && unchanged && (content.is_whole() || !file.direct) {
            let from = usize::try_from(at).map_err(|_| Errno::INVAL)?;
            let to = usize::try_from(first.min(at + wanted)).map_err(|_| Errno::INVAL)?;
            return Ok(content.first.slice(from..to));
        }
        if content.is_whole() {
            return Ok(Bytes::new());
        }
        let direct = || content.read(at, u32::try_from(wanted).unwrap_or(u32::MAX));
        if file.direct || !unchanged {
            return direct().await;
        }
        let source = State::of(state).ahead.plan(content, &self.ahead, at, wanted);
        let Source::Chunk { begin, data } = source else {
            return direct().await;
        };
        match ahead::arrived(data).await {
            Ok(data) => {
                let from = usize::try_from(at.saturating_sub(begin)).map_err(|_| Errno::INVAL)?;
                let to = data
                    .len()
                    .min(from + usize::try_from(wanted).map_err(|_| Errno::INVAL)?);
                if from < to {
                    return Ok(data.slice(from..to));
                }
                // The end, or the file has grown since the chunk was fetched.
                State::of(state).ahead.distrust(at);
                direct().await
            }
            Err(Errno::STALE) => direct().await,
            Err(errno) => {
                State::of(state).ahead.distrust(at);
                Err(errno)
            }
        }
    }
}
