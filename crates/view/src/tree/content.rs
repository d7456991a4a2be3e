//! Open files of the pod: the first bytes, and a handle for the rest.

use std::sync::Arc;

use bytes::Bytes;
use wire::message::{Attributes, FileAnswer, FileOperation, MAX_READ};

use super::node::Stamp;
use crate::remote::{ask, checked, to_bytes};
use crate::{Errno, Pod};

/// Bytes that come with an open.
pub(crate) const FIRST: u32 = 128 << 10;

/// A file of the pod, opened.
pub(crate) struct Content {
    pub(crate) attributes: Attributes,
    /// The file's first bytes when it was opened; all of it where there is no handle.
    pub(crate) first: Bytes,
    /// How often the app had changed the file by then.
    pub(crate) changes: u64,
    handle: Option<Arc<Handle>>,
}

/// The agent's descriptor, closed when this is dropped.
pub(crate) struct Handle {
    pub(crate) pod: Pod,
    pub(crate) number: u64,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Without a runtime the session is over, and the agent closes everything itself.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (pod, number) = (self.pod.clone(), self.number);
            runtime.spawn(async move {
                let _ = pod.call(FileOperation::Close(number)).await;
            });
        }
    }
}

impl Content {
    /// Opens a file in one round trip. `size` is what is believed of it: one that fits into an answer comes whole.
    ///
    /// # Errors
    /// The pod's; `EIO` when the link is gone.
    pub(crate) async fn open(pod: &Pod, path: &std::path::Path, size: u64, changes: u64) -> Result<Self, Errno> {
        let most = if size < u64::from(MAX_READ) { MAX_READ } else { FIRST };
        let operation = FileOperation::Open {
            path: to_bytes(path),
            first: most,
        };
        let opening = {
            let pod = pod.clone();
            // On its own: when the caller is interrupted meanwhile, the handle that comes is still closed.
            tokio::spawn(async move {
                match ask(&pod, operation).await? {
                    FileAnswer::Open {
                        attributes,
                        handle,
                        data,
                    } => {
                        let handle = handle.map(|number| Arc::new(Handle { pod, number }));
                        let attributes = checked(attributes)?;
                        let mut first = Bytes::from(data.0);
                        first.truncate(most as usize);
                        Ok(Self {
                            attributes,
                            first,
                            changes,
                            handle,
                        })
                    }
                    _ => Err(Errno::IO),
                }
            })
        };
        opening.await.map_err(|_| Errno::IO)?
    }

    /// A file that was brought along, all of it.
    pub(crate) fn whole(attributes: Attributes, data: Bytes) -> Self {
        Self {
            attributes,
            first: data,
            changes: 0,
            handle: None,
        }
    }

    /// The same file after it has changed, of which nothing has been read yet; `None` where the agent has no descriptor of it.
    pub(crate) fn changed(&self, attributes: Attributes, changes: u64) -> Option<Self> {
        let handle = Some(Arc::clone(self.handle.as_ref()?));
        Some(Self {
            attributes,
            first: Bytes::new(),
            changes,
            handle,
        })
    }

    pub(crate) fn stamp(&self) -> Stamp {
        Stamp::of(&self.attributes)
    }

    /// All of the file is in `first`.
    pub(crate) fn is_whole(&self) -> bool {
        self.handle.is_none()
    }

    /// A file that does not say its size, as in /proc: the kernel must not believe the size it was told.
    pub(crate) fn is_sizeless(&self) -> bool {
        self.attributes.mode & libc::S_IFMT != libc::S_IFREG
            || (self.attributes.size == 0 && (self.handle.is_some() || !self.first.is_empty()))
    }

    /// One read at the agent, at most [`MAX_READ`] bytes; shorter only at the end of the file.
    ///
    /// # Errors
    /// The pod's; `EIO` when the link is gone.
    pub(crate) async fn read(&self, offset: u64, length: u32) -> Result<Bytes, Errno> {
        match &self.handle {
            Some(handle) => handle.read(offset, length).await,
            None => Ok(Bytes::new()),
        }
    }
}

impl Handle {
    /// As [`Content::read`].
    pub(crate) async fn read(&self, offset: u64, length: u32) -> Result<Bytes, Errno> {
        let length = length.min(MAX_READ);
        let operation = FileOperation::Read {
            handle: self.number,
            offset,
            length,
        };
        match ask(&self.pod, operation).await? {
            FileAnswer::Read(data) => {
                let mut data = Bytes::from(data.0);
                data.truncate(length as usize);
                Ok(data)
            }
            _ => Err(Errno::IO),
        }
    }
}
