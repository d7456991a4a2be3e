//! Requests with ids over one stream, answered in any order.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};

use crate::message::{FileAnswer, FileOperation, FileReply, FileRequest, Open};
use crate::{Link, LinkError, Stream, frame, stream};

/// Encoded requests that may wait for the stream before callers are held back.
const QUEUE: usize = 64;

/// What is asked and answered on a stream.
pub trait Protocol: Send + 'static {
    type Question;
    type Answer: Send + 'static;
    /// What the other end sends.
    type Message: DeserializeOwned + Send;

    /// # Errors
    /// When the request is too long.
    fn request(id: u32, question: Self::Question) -> Result<Vec<u8>, LinkError>;

    /// The answer inside a message; other messages are dealt with here.
    fn route(&mut self, message: Self::Message) -> Option<(u32, Self::Answer)>;
}

/// The asking end. Clones share the stream, which ends when the last of them is dropped.
pub struct Calls<P: Protocol> {
    requests: mpsc::Sender<Vec<u8>>,
    pending: Arc<Mutex<Pending<P::Answer>>>,
}

impl<P: Protocol> Clone for Calls<P> {
    fn clone(&self) -> Self {
        Self {
            requests: self.requests.clone(),
            pending: Arc::clone(&self.pending),
        }
    }
}

impl<P: Protocol> std::fmt::Debug for Calls<P> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Calls")
            .field("ended", &lock(&self.pending).ended)
            .finish_non_exhaustive()
    }
}

struct Pending<A> {
    next: u32,
    waiting: HashMap<u32, oneshot::Sender<A>>,
    ended: Option<LinkError>,
}

impl<P: Protocol> Calls<P> {
    /// Takes the stream over.
    #[must_use]
    pub fn new(stream: Stream, protocol: P) -> Self {
        let (requests, queue) = mpsc::channel(QUEUE);
        let pending = Arc::new(Mutex::new(Pending {
            next: 0,
            waiting: HashMap::new(),
            ended: None,
        }));
        tokio::spawn(run(stream, protocol, queue, Arc::clone(&pending)));
        Self { requests, pending }
    }

    /// Asks and waits for the answer. Many calls may be under way; a call that is dropped is forgotten.
    ///
    /// # Errors
    /// Why the link ended, for every call that had no answer by then; when the request is too long.
    pub async fn call(&self, question: P::Question) -> Result<P::Answer, LinkError> {
        let (reply, answer) = oneshot::channel();
        let id = self.register(reply)?;
        let _forget = Forget {
            id,
            pending: &self.pending,
        };
        let request = P::request(id, question)?;
        if self.requests.send(request).await.is_err() {
            return Err(self.reason());
        }
        answer.await.map_err(|_| self.reason())
    }

    fn register(&self, reply: oneshot::Sender<P::Answer>) -> Result<u32, LinkError> {
        let mut pending = lock(&self.pending);
        if let Some(reason) = &pending.ended {
            return Err(reason.clone());
        }
        loop {
            let id = pending.next;
            pending.next = id.wrapping_add(1);
            if let std::collections::hash_map::Entry::Vacant(entry) = pending.waiting.entry(id) {
                entry.insert(reply);
                return Ok(id);
            }
        }
    }

    fn reason(&self) -> LinkError {
        lock(&self.pending).ended.clone().unwrap_or(LinkError::Closed)
    }

    /// A handle that does not keep the stream open.
    pub(crate) fn downgrade(&self) -> WeakCalls<P> {
        WeakCalls {
            requests: self.requests.downgrade(),
            pending: Arc::clone(&self.pending),
        }
    }
}

pub(crate) struct WeakCalls<P: Protocol> {
    requests: mpsc::WeakSender<Vec<u8>>,
    pending: Arc<Mutex<Pending<P::Answer>>>,
}

impl<P: Protocol> WeakCalls<P> {
    pub(crate) fn upgrade(&self) -> Option<Calls<P>> {
        Some(Calls {
            requests: self.requests.upgrade()?,
            pending: Arc::clone(&self.pending),
        })
    }
}

struct Forget<'a, A> {
    id: u32,
    pending: &'a Mutex<Pending<A>>,
}

impl<A> Drop for Forget<'_, A> {
    fn drop(&mut self) {
        lock(self.pending).waiting.remove(&self.id);
    }
}

async fn run<P: Protocol>(
    stream: Stream,
    mut protocol: P,
    mut queue: mpsc::Receiver<Vec<u8>>,
    pending: Arc<Mutex<Pending<P::Answer>>>,
) {
    let link = Arc::clone(&stream.owner().shared);
    let (mut reader, mut writer) = stream.split();
    let ended = tokio::select! {
        ended = receive(&mut reader, &mut protocol, &pending) => ended,
        ended = send(&mut writer, &mut queue) => ended,
    };
    let reason = link.reason().unwrap_or(ended);
    let mut pending = lock(&pending);
    pending.ended = Some(reason);
    // Their callers find the reason there.
    pending.waiting.clear();
}

async fn receive<P: Protocol>(
    reader: &mut stream::ReadHalf,
    protocol: &mut P,
    pending: &Mutex<Pending<P::Answer>>,
) -> LinkError {
    loop {
        match frame::next_message(reader).await {
            Ok(Some(message)) => {
                if let Some((id, answer)) = protocol.route(message)
                    && let Some(waiting) = lock(pending).waiting.remove(&id)
                {
                    let _ = waiting.send(answer);
                }
            }
            Ok(None) => {
                return LinkError::Ended {
                    what: "the stream of answers",
                };
            }
            Err(error) => return error,
        }
    }
}

async fn send(writer: &mut stream::WriteHalf, queue: &mut mpsc::Receiver<Vec<u8>>) -> LinkError {
    while let Some(request) = queue.recv().await {
        if let Err(error) = frame::write_encoded(writer, &request).await {
            return error;
        }
    }
    LinkError::ClosedHere
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Streams for whole directories and files. A stream takes 256 KiB before its window has grown, and a short answer would wait
/// behind a long one.
const LONG: usize = 4;

/// Asks for files on streams of [`Open::Files`].
#[derive(Debug, Clone)]
pub struct FilesClient {
    short: Calls<Files>,
    /// In turn.
    long: [Calls<Files>; LONG],
    next: Arc<AtomicUsize>,
}

impl FilesClient {
    /// # Errors
    /// As [`Link::open`].
    pub async fn open(link: &Link) -> Result<Self, LinkError> {
        let calls = async || Ok(Calls::new(link.open(&Open::Files, &[]).await?, Files));
        Ok(Self {
            short: calls().await?,
            long: [calls().await?, calls().await?, calls().await?, calls().await?],
            next: Arc::default(),
        })
    }

    /// # Errors
    /// Why the link ended, or that the request is too long. What fails in the pod is [`FileAnswer::Failed`].
    pub async fn call(&self, operation: FileOperation) -> Result<FileAnswer, LinkError> {
        // Handles are known on their own stream only.
        let calls = match operation.is_long() {
            true => &self.long[self.next.fetch_add(1, Ordering::Relaxed) % LONG],
            false => &self.short,
        };
        calls.call(operation).await
    }
}

/// The protocol of [`FilesClient`].
#[derive(Debug)]
pub struct Files;

impl Protocol for Files {
    type Question = FileOperation;
    type Answer = FileAnswer;
    type Message = FileReply;

    fn request(id: u32, body: FileOperation) -> Result<Vec<u8>, LinkError> {
        frame::encode_packed(&FileRequest { id, body })
    }

    fn route(&mut self, message: FileReply) -> Option<(u32, FileAnswer)> {
        Some((message.id, message.body))
    }
}
