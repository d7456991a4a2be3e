//! The far end of the view: whoever answers file operations in the target's root.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use wire::message::{Attributes, Bytes, FileAnswer, FileOperation};

use crate::Errno;

/// The answer to one operation, or why the link is gone.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Result<FileAnswer, Lost>> + Send + 'a>>;

/// Answers file operations: the link in a session, a local directory in tests. Many calls may be under way at once; a call
/// that is dropped is forgotten.
pub trait Remote: Send + Sync + 'static {
    fn call(&self, operation: FileOperation) -> Answering<'_>;
}

/// A shared [`Remote`].
pub type Pod = Arc<dyn Remote>;

/// The link is gone: whatever was asked fails with `EIO`.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the pod's files are out of reach: {0}")]
pub struct Lost(pub String);

impl Remote for wire::FilesClient {
    fn call(&self, operation: FileOperation) -> Answering<'_> {
        Box::pin(async move {
            // The inherent method: the trait's has the same name.
            wire::FilesClient::call(self, operation)
                .await
                .map_err(|error| Lost(error.to_string()))
        })
    }
}

/// Symlinks followed in one path (`MAXSYMLINKS` of the kernel).
pub(crate) const MOST_LINKS: usize = 40;

/// One operation; a lost link is `EIO`, the pod's refusal is its errno.
pub(crate) async fn ask(pod: &Pod, operation: FileOperation) -> Result<FileAnswer, Errno> {
    match pod.call(operation).await {
        Ok(FileAnswer::Failed(errno)) => Err(Errno::from_pod(errno)),
        Ok(answer) => Ok(answer),
        Err(lost) => {
            tracing::debug!(%lost, "file operation failed");
            Err(Errno::IO)
        }
    }
}

/// Attributes of one path in the pod, the last component not followed.
pub(crate) async fn stat(pod: &Pod, path: &Path) -> Result<Attributes, Errno> {
    let mut all = stat_all(pod, vec![to_bytes(path)]).await?;
    all.pop().unwrap_or(Err(Errno::IO))
}

/// Attributes of many paths in one round trip: as many answers as paths.
pub(crate) async fn stat_all(pod: &Pod, paths: Vec<Bytes>) -> Result<Vec<Result<Attributes, Errno>>, Errno> {
    let asked = paths.len();
    match ask(pod, FileOperation::Stat(paths)).await? {
        FileAnswer::Stat(answers) if answers.len() == asked => Ok(answers
            .into_iter()
            .map(|answer| answer.map_err(Errno::from_pod).and_then(checked))
            .collect()),
        _ => Err(Errno::IO),
    }
}

/// Attributes that a kernel can take: a known type, a size that fits `off_t`.
pub(crate) fn checked(attributes: Attributes) -> Result<Attributes, Errno> {
    let known = matches!(
        attributes.mode & libc::S_IFMT,
        libc::S_IFREG | libc::S_IFDIR | libc::S_IFLNK | libc::S_IFIFO | libc::S_IFSOCK | libc::S_IFCHR | libc::S_IFBLK
    );
    if known && i64::try_from(attributes.size).is_ok() {
        Ok(attributes)
    } else {
        Err(Errno::IO)
    }
}

/// A symlink's target.
pub(crate) async fn read_link(pod: &Pod, path: &Path) -> Result<Box<[u8]>, Errno> {
    match ask(pod, FileOperation::ReadLink(to_bytes(path))).await? {
        FileAnswer::ReadLink(link) if is_link(&link.0) => Ok(link.0.into()),
        _ => Err(Errno::IO),
    }
}

/// Whether a symlink can have this target.
pub(crate) fn is_link(target: &[u8]) -> bool {
    !target.is_empty() && target.len() < wire::message::MAX_PATH && !target.contains(&0)
}

pub(crate) fn to_bytes(path: &Path) -> Bytes {
    Bytes(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()).to_vec())
}

/// A name as a directory may hold it (what else comes over the link is left out).
pub(crate) fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name != b"."
        && name != b".."
        && !name.contains(&b'/')
        && !name.contains(&0)
}
