//! Files that the kernel opens without asking: in a mount in which nothing can be written, OPEN is answered with ENOSYS. From then
//! on the open of a file that is known costs no trip to the server, a read names the file alone, and nobody says when it is closed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::content::Content;
use super::file::{File, Now};
use super::lookup::Found;
use super::node::Node;
use super::{PodTree, caller};
use crate::Errno;

/// Files that the agent has a descriptor of, for reads to come.
const MOST: usize = 128;
/// What was read ahead of a file is given up when nobody has read on for so long.
const PAUSE: Duration = Duration::from_secs(5);
/// Its descriptor is closed after this: what was removed in the pod is not kept from being freed by who has long closed it. Who reads
/// on gets a new one, if the file is still at its place.
const IDLE: Duration = Duration::from_secs(60);

/// The files that are being read.
#[derive(Default)]
pub(super) struct Readers(Arc<Mutex<HashMap<u64, Reader>>>);

struct Reader {
    file: Arc<File>,
    read: Instant,
}

impl Readers {
    fn get(&self, node: &Node) -> Option<Arc<File>> {
        let mut readers = lock(&self.0);
        let reader = readers.get_mut(&node.id)?;
        reader.read = Instant::now();
        Some(Arc::clone(&reader.file))
    }

    fn keep(&self, node: &Node, file: &Arc<File>) {
        let reader = Reader {
            file: Arc::clone(file),
            read: Instant::now(),
        };
        let mut readers = lock(&self.0);
        readers.insert(node.id, reader);
        if readers.len() > MOST {
            let oldest = readers.iter().min_by_key(|(_, reader)| reader.read);
            if let Some(oldest) = oldest.map(|(&id, _)| id) {
                readers.remove(&oldest);
            }
        }
        drop(readers);
        tokio::spawn(rest(node.id, Arc::downgrade(file), Arc::downgrade(&self.0)));
    }

    pub(super) fn remove(&self, id: u64) {
        lock(&self.0).remove(&id);
    }
}

/// Lets go of a file that nobody reads any more.
async fn rest(id: u64, file: Weak<File>, readers: Weak<Mutex<HashMap<u64, Reader>>>) {
    loop {
        tokio::time::sleep(PAUSE).await;
        let (Some(file), Some(readers)) = (file.upgrade(), readers.upgrade()) else {
            return;
        };
        let mut readers = lock(&readers);
        let Some(reader) = readers.get(&id).filter(|reader| Arc::ptr_eq(&reader.file, &file)) else {
            return;
        };
        let idle = reader.read.elapsed();
        if idle >= IDLE {
            readers.remove(&id);
            return;
        }
        drop(readers);
        if idle >= PAUSE {
            file.pause();
        }
    }
}

fn lock(readers: &Mutex<HashMap<u64, Reader>>) -> MutexGuard<'_, HashMap<u64, Reader>> {
    readers.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PodTree {
    pub(crate) fn opens_unasked(&self) -> bool {
        self.unasked
    }

    /// `size` bytes of a file from `offset` on, in parts; fewer only at its end.
    ///
    /// # Errors
    /// The pod's; `ESTALE` for a file that is not at its place any more, and of which nothing is held; `EIO` when the link is gone.
    pub(crate) async fn read_unasked(&self, node: &Arc<Node>, offset: u64, size: u32) -> Result<Vec<Bytes>, Errno> {
        let file = self.reader(node).await?;
        self.read(&file, offset, size).await
    }

    async fn reader(&self, node: &Arc<Node>) -> Result<Arc<File>, Errno> {
        let same = |file: &Arc<File>| matches!(file.now(), Now::Same);
        if let Some(file) = self.readers.get(node).filter(same) {
            return Ok(file);
        }
        // The kernel asks for several parts of a file at once: one of them opens it.
        let _turn = node.opening.lock().await;
        let content = match self.readers.get(node).map(|file| (file.now(), file)) {
            Some((Now::Same, file)) => return Ok(file),
            Some((Now::Changed(content), _)) => Arc::new(content),
            Some((Now::Another, _)) | None => self.content(node, node.stamp().0).await?,
        };
        let file = Arc::new(File::new(Arc::clone(node), content));
        if file.is_held() {
            self.readers.keep(node, &file);
        }
        Ok(file)
    }

    /// Whether the app may have opened another file than the one that was found at its place: it has read from it.
    pub(super) fn is_replaced(&self, node: &Node, found: &Content) -> bool {
        let state = node.state();
        let other = |stamp: super::Stamp| !stamp.same_file(found.stamp());
        self.unasked && !node.is_mounted() && state.cached.is_some_and(other)
    }

    /// Whether the app may have a file open.
    pub(super) fn may_be_open(&self, node: &Node) -> bool {
        let unknown = self.unasked && !node.is_mounted() && !node.is_directory();
        unknown || node.is_open()
    }

    /// How long the kernel may believe what was found: it must ask at each open of what is not to be read.
    pub(crate) fn valid(&self, found: &Found) -> Duration {
        match self.unasked && found.attributes.unreadable {
            true => Duration::ZERO,
            false => found.valid,
        }
    }

    /// Whether thread `caller`, which looks a name up, is refused what was found because it wants to open it.
    pub(crate) fn is_refused(&self, found: &Found, caller: u32) -> bool {
        self.unasked && found.attributes.unreadable && caller::opens(caller)
    }
}
