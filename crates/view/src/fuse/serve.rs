//! The loop: requests in, many of them under way, replies out.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use super::abi::{self, init};
use super::answer::{Answer, answer};
use super::decode::{Operation, Request, decode};
use super::device::{BUFFER, Delivery, Device, MAX_WRITE};
use super::handles::Handles;
use super::reply::Reply;
use crate::tree::PodTree;
use crate::{Errno, Members};

/// How long what a signal interrupts is waited for: few programs expect EINTR of a file, and to one that is told so a change did
/// not take place.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether the caller is to be killed, who waits for nothing any more.
const LOOK: Duration = Duration::from_millis(100);

/// Why serving ended before the mount did.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot read /dev/fuse")]
    Device(#[source] io::Error),
    #[error("the kernel speaks FUSE {major}.{minor}; 7.31 (Linux 5.4) or later is needed")]
    Protocol { major: u32, minor: u32 },
}

/// What all requests of one mount share.
pub(crate) struct Connection {
    device: Device,
    pub(crate) tree: Arc<PodTree>,
    pub(crate) handles: Handles,
    /// Who may look; `None`: whom the kernel lets in.
    pub(super) members: Option<Members>,
    /// Requests under way. Whoever takes one out of here answers it: the task that works on it, or its interrupt.
    waiting: Mutex<HashMap<u64, Waiting>>,
}

/// A request under way.
struct Waiting {
    task: Option<AbortHandle>,
    caller: u32,
    /// The open file that it reads.
    reads: Option<u64>,
}

/// Serves a mounted connection until it is unmounted; `members`: who may look into it. The descriptor must be the only one
/// of its kind, so that dropping this future ends the connection.
///
/// # Errors
/// See [`ServeError`].
pub async fn serve(fuse: OwnedFd, tree: Arc<PodTree>, members: Option<Members>) -> Result<(), ServeError> {
    let connection = Arc::new(Connection {
        device: Device::new(fuse).map_err(ServeError::Device)?,
        tree,
        handles: Handles::default(),
        members,
        waiting: Mutex::default(),
    });
    // Tasks hold the connection, and with it the descriptor: they end with this future.
    let _abort = AbortAll(&connection);
    let mut buffer = vec![0; BUFFER];
    loop {
        let look = connection.waiting().is_empty();
        let read = connection.device.read(&mut buffer, look).await;
        let Some(length) = read.map_err(ServeError::Device)? else {
            break;
        };
        let data = buffer.get(..length).unwrap_or_default();
        match decode(data) {
            Ok(request) => {
                if connection.take(request).await?.is_end() {
                    break;
                }
            }
            Err(malformed) => {
                tracing::warn!(%malformed, "ignored");
                if malformed.unique != 0 {
                    connection.device.write(malformed.unique, &Reply::Failed(Errno::IO));
                }
            }
        }
    }
    Ok(())
}

struct AbortAll<'a>(&'a Connection);

impl Drop for AbortAll<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting();
        let tasks = waiting.drain().filter_map(|(_, waiting)| waiting.task);
        tasks.for_each(|task| task.abort());
    }
}

/// Whether the mount goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Request,
    End,
}

impl Next {
    fn is_end(self) -> bool {
        self == Self::End
    }
}

impl Connection {
    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The mode of a node has changed by what the kernel takes for no change of it.
    pub(crate) fn outdated(&self, node: u64) {
        self.device.outdated(node);
    }

    async fn take(self: &Arc<Self>, request: Request<'_>) -> Result<Next, ServeError> {
        let Request {
            unique,
            node,
            caller,
            operation,
        } = request;
        match operation {
            Operation::Init(asked) => {
                self.device.write(unique, &greet(&asked)?);
            }
            Operation::Destroy => {
                self.device.write(unique, &Reply::EMPTY);
                return Ok(Next::End);
            }
            Operation::Interrupt { unique: interrupted } => self.interrupt(interrupted),
            Operation::Forget { lookups } => self.tree.forget(node, lookups),
            Operation::BatchForget(all) => {
                for one in all {
                    self.tree.forget(one.node, one.lookups);
                }
            }
            Operation::Unknown => {
                self.device.write(unique, &Reply::Failed(Errno::NOSYS));
            }
            Operation::Release { handle } | Operation::ReleaseDirectory { handle } => {
                self.handles.remove(handle);
                self.device.write(unique, &Reply::EMPTY);
            }
            other => self.start(unique, (node, caller), other).await,
        }
        Ok(Next::Request)
    }

    /// What is known already is answered at once, the rest by a task.
    async fn start(self: &Arc<Self>, unique: u64, (node, caller): (u64, u32), operation: Operation<'_>) {
        if let Some(answer) = self.turned_away(node, caller, &operation) {
            self.deliver(unique, answer);
            return;
        }
        let reads = match &operation {
            Operation::Read(read) => Some(read.handle),
            _ => None,
        };
        let connection = Arc::clone(self);
        let mut answering = Box::pin(answer(connection, node, caller, operation));
        let first = poll_fn(|context| Poll::Ready(answering.as_mut().poll(context))).await;
        if let Poll::Ready(answer) = first {
            self.deliver(unique, answer);
            return;
        }
        let waiting = Waiting {
            task: None,
            caller,
            reads,
        };
        self.waiting().insert(unique, waiting);
        let connection = Arc::clone(self);
        let task = tokio::spawn(async move {
            let answer = answering.await;
            let wanted = connection.waiting().remove(&unique).is_some();
            if wanted {
                connection.deliver(unique, answer);
            } else {
                answer.discard(&connection);
            }
        });
        if let Some(waiting) = self.waiting().get_mut(&unique) {
            waiting.task = Some(task.abort_handle());
        }
    }

    /// A request that is not there any more has been answered.
    fn interrupt(self: &Arc<Self>, unique: u64) {
        let (caller, reads) = match self.waiting().get(&unique) {
            Some(waiting) => (waiting.caller, waiting.reads),
            None => return,
        };
        // It may wait for ever for what the pod has to say, as at a pipe.
        let is_endless = reads.is_some_and(|handle| self.handles.file(handle).is_ok_and(|file| file.direct));
        let begun = Instant::now();
        // Weak: the mount may end meanwhile.
        let connection = Arc::downgrade(self);
        tokio::spawn(async move {
            while !is_endless && begun.elapsed() < PATIENCE && !is_to_die(caller) {
                tokio::time::sleep(LOOK).await;
                let connection = connection.upgrade();
                if connection.is_none_or(|connection| !connection.waiting().contains_key(&unique)) {
                    return;
                }
            }
            if let Some(connection) = connection.upgrade() {
                connection.give_up(unique);
            }
        });
    }

    fn give_up(&self, unique: u64) {
        let Some(waiting) = self.waiting().remove(&unique) else {
            return;
        };
        if let Some(task) = waiting.task {
            task.abort();
        }
        self.device.write(unique, &Reply::Failed(Errno::INTR));
    }

    /// Hands out what the answer names, and takes it back when nobody wants the answer.
    fn deliver(&self, unique: u64, answer: Answer) {
        let (reply, handed) = answer.hand_out(self);
        if self.device.write(unique, &reply) == Delivery::Unwanted {
            handed.take_back(self);
        }
    }
}

/// Whether SIGKILL waits for a thread, as it does in each of a process that any signal ends (proc_pid_status(5)).
fn is_to_die(thread: u32) -> bool {
    const KILL: u64 = 1 << (libc::SIGKILL - 1);
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    let pending = status.lines().find_map(|line| line.strip_prefix("SigPnd:"));
    pending.is_some_and(|set| u64::from_str_radix(set.trim(), 16).is_ok_and(|set| set & KILL != 0))
}

fn greet(asked: &abi::InitIn) -> Result<Reply, ServeError> {
    if asked.major != abi::MAJOR || asked.minor < abi::MINOR_LEAST {
        return Err(ServeError::Protocol {
            major: asked.major,
            minor: asked.minor,
        });
    }
    let wanted = init::ASYNC_READ
        | init::ATOMIC_O_TRUNC
        | init::BIG_WRITES
        | init::AUTO_INVAL_DATA
        | init::DO_READDIRPLUS
        | init::READDIRPLUS_AUTO
        | init::ASYNC_DIO
        | init::PARALLEL_DIROPS
        | init::MAX_PAGES
        | init::CACHE_SYMLINKS;
    Ok(Reply::of(&abi::InitOut {
        major: abi::MAJOR,
        minor: asked.minor.min(abi::MINOR_MOST),
        max_readahead: asked.max_readahead,
        flags: asked.flags & wanted,
        max_background: 64,
        congestion_threshold: 48,
        max_write: MAX_WRITE,
        time_granularity: 1,
        max_pages: 256,
        ..abi::InitOut::default()
    }))
}
