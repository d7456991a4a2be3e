//! One file's bytes.

use std::collections::VecDeque;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinHandle;
use wire::message::{Attributes, MAX_READ};

use super::cache::Cache;
use super::{Copy, CopyView};
use crate::Errno;
use crate::tree::{Content, Opened, Stamp};

/// Reads of one file under way at a time.
const READS: usize = 8;
/// Entries of one directory that are copied.
pub(super) const MOST_ENTRIES: usize = 1_000_000;

/// Ends reads that are not wanted any more.
struct Reads(VecDeque<JoinHandle<Result<Bytes, Errno>>>);

impl Drop for Reads {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl CopyView {
    /// Copies a whole file; the stamp is of what was copied.
    /// `fills`: what lies there is a placeholder.
    pub(super) async fn copy_file(
        &self,
        cache: &Cache,
        (path, attributes): (&Path, &Attributes),
        copy: &mut Copy,
        fills: bool,
    ) -> Result<Stamp, Errno> {
        let content = self.content(&self.rules.in_pod(path), attributes).await?;
        self.allow(path, content.attributes.size.max(content.first.len() as u64))?;
        let placeholder = if fills { cache.filling(path)? } else { None };
        let mut incoming = match placeholder {
            Some(placeholder) => placeholder,
            None => cache.incoming()?,
        };
        incoming.file.write_all(&content.first)?;
        let mut written = content.first.len() as u64;
        let mut asked = written;
        let mut reads = Reads(VecDeque::new());
        while !content.is_whole() {
            while reads.0.len() < READS && (asked < content.attributes.size || reads.0.is_empty()) {
                let (content, at) = (Arc::clone(&content), asked);
                reads
                    .0
                    .push_back(tokio::spawn(async move { content.read(at, MAX_READ).await }));
                asked += u64::from(MAX_READ);
            }
            let Some(read) = reads.0.pop_front() else { break };
            let data = read.await.map_err(|_| Errno::IO)??;
            self.allow(path, written + data.len() as u64)?;
            incoming.file.write_all(&data)?;
            written += data.len() as u64;
            // Shorter only at the end.
            if data.len() < MAX_READ as usize {
                break;
            }
        }
        cache.place(incoming, path, &content.attributes)?;
        copy.bytes = written;
        self.state().bytes += written;
        Ok(content.stamp())
    }

    /// A small file may have been brought along, or be on its way.
    async fn content(&self, path: &Path, attributes: &Attributes) -> Result<Arc<Content>, Errno> {
        let open = async { Content::open(&self.pod, path, attributes.size, 0).await.map(Arc::new) };
        match self.supply.open(path, Stamp::of(attributes), open).await? {
            Opened::Brought(content) | Opened::Asked(content) => Ok(content),
        }
    }

    fn allow(&self, path: &Path, size: u64) -> Result<(), Errno> {
        let mebi = |bytes: u64| bytes.div_ceil(1 << 20);
        if size > self.limits.file {
            let why = format!(
                "it has {} MiB, files of at most {} MiB are copied",
                mebi(size),
                mebi(self.limits.file)
            );
            self.warn_of(path, &why);
            return Err(Errno::FBIG);
        }
        if self.state().bytes + size > self.limits.all {
            let why = format!("with it more than {} MiB would have been copied", mebi(self.limits.all));
            self.warn_of(path, &why);
            return Err(Errno::NOSPC);
        }
        Ok(())
    }
}
