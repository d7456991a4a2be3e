//! Sequential reads are read ahead, with a window that grows while they go on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::watch;
use wire::message::MAX_READ;

use super::content::Content;
use crate::Errno;

/// Bytes of one chunk; chunk `n` begins at `n * CHUNK`.
const CHUNK: u64 = MAX_READ as u64;
/// Chunks that one file may be ahead: 24 MiB, enough for 240 MB/s at 100 ms, which is what the link's windows hold.
const MOST: u64 = 48;
/// Bytes that all files of a mount may be ahead together.
const BUDGET: usize = 48 << 20;

/// What all files of one mount have read ahead.
#[derive(Debug, Default)]
pub(crate) struct Budget(AtomicUsize);

/// A part of the budget, given back when dropped.
struct Share(Arc<Budget>);

impl Budget {
    fn share(self: &Arc<Self>, needed: bool) -> Option<Share> {
        let used = self.0.fetch_add(CHUNK as usize, Ordering::Relaxed);
        let share = Share(Arc::clone(self));
        (needed || used < BUDGET).then_some(share)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.0.fetch_sub(CHUNK as usize, Ordering::Relaxed);
    }
}

type Fetched = Option<Result<Bytes, Errno>>;

/// One chunk on its way or here.
struct Chunk {
    data: watch::Receiver<Fetched>,
    task: tokio::task::JoinHandle<()>,
    _share: Share,
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How one file is being read, by several at once where nobody says who reads.
#[derive(Default)]
pub(crate) struct Ahead {
    /// The one that was read from last comes last.
    streams: Vec<Stream>,
}

/// Readers of one file that are told apart.
const STREAMS: usize = 4;

/// Reads of which each begins where the one before ended, or near.
#[derive(Default)]
struct Stream {
    /// Where the last read ended.
    next: u64,
    /// Chunks to be ahead; 0 until reads are sequential.
    window: u64,
    /// The newest chunk that was asked for because of a read, not ahead.
    reached: u64,
    chunks: BTreeMap<u64, Chunk>,
}

/// Where the bytes of a read come from.
pub(crate) enum Source {
    /// Reads go back and forth: exactly what was asked for.
    Direct,
    /// The chunk's data, and the offset at which it begins.
    Chunk { begin: u64, data: watch::Receiver<Fetched> },
}

impl Ahead {
    /// Plans the read of the byte at `offset` and starts what is to be fetched. `length` is what the caller wants in all.
    pub(crate) fn plan(&mut self, content: &Arc<Content>, budget: &Arc<Budget>, offset: u64, length: u64) -> Source {
        let goes_on = self.streams.iter().rposition(|stream| stream.reaches(offset));
        let mut stream = match goes_on {
            Some(at) => self.streams.remove(at),
            None => {
                if self.streams.len() >= STREAMS {
                    // Rather one that is none yet.
                    let single = self.streams.iter().position(|stream| stream.window == 0);
                    self.streams.remove(single.unwrap_or(0));
                }
                Stream::default()
            }
        };
        let source = if stream.reaches(offset) {
            stream.plan(content, budget, offset, length)
        } else {
            stream.next = offset + length;
            Source::Direct
        };
        self.streams.push(stream);
        source
    }

    /// A chunk that failed, or ended before `offset`, is asked for again next time.
    pub(crate) fn distrust(&mut self, offset: u64) {
        for stream in &mut self.streams {
            stream.chunks.remove(&(offset / CHUNK));
        }
    }

    /// Nobody reads on; what was read ahead is given up.
    pub(crate) fn stop(&mut self) {
        self.streams.clear();
    }
}

impl Stream {
    /// The kernel's own read-ahead sends several requests, which arrive in any order.
    fn reaches(&self, offset: u64) -> bool {
        offset <= self.next + CHUNK && offset + CHUNK >= self.next
    }

    fn plan(&mut self, content: &Arc<Content>, budget: &Arc<Budget>, offset: u64, length: u64) -> Source {
        self.next = self.next.max(offset + length);
        let number = offset / CHUNK;
        if self.window == 0 {
            self.window = 1;
            self.reached = number;
        } else if number > self.reached {
            self.reached = number;
            self.window = (self.window * 2).min(MOST);
        }
        self.chunks = self.chunks.split_off(&number.saturating_sub(2));
        let last = content.attributes.size.saturating_sub(1) / CHUNK;
        for wanted in number..=(number + self.window) {
            let needed = wanted == number;
            if self.chunks.contains_key(&wanted) || (wanted > last && !needed) {
                continue;
            }
            let Some(share) = budget.share(needed) else { break };
            self.chunks.insert(wanted, fetch(Arc::clone(content), wanted, share));
        }
        match self.chunks.get(&number) {
            Some(chunk) => Source::Chunk {
                begin: begin(content, number),
                data: chunk.data.clone(),
            },
            None => Source::Direct,
        }
    }
}

/// The first bytes came with the open.
fn begin(content: &Content, number: u64) -> u64 {
    (number * CHUNK).max(content.first.len() as u64)
}

fn fetch(content: Arc<Content>, number: u64, share: Share) -> Chunk {
    let (sender, data) = watch::channel(None);
    let begin = begin(&content, number);
    let length = ((number + 1) * CHUNK).saturating_sub(begin);
    let task = tokio::spawn(async move {
        let read = content.read(begin, u32::try_from(length).unwrap_or(MAX_READ)).await;
        let _ = sender.send(Some(read));
    });
    Chunk {
        data,
        task,
        _share: share,
    }
}

/// Waits for a chunk.
pub(crate) async fn arrived(mut data: watch::Receiver<Fetched>) -> Result<Bytes, Errno> {
    match data.wait_for(Option::is_some).await {
        Ok(fetched) => fetched.clone().unwrap_or(Err(Errno::IO)),
        // Dropped because reads went elsewhere.
        Err(_) => Err(Errno::STALE),
    }
}
