//! A link: its two ends open streams to each other.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use crate::message::Open;
use crate::mux::{self, MAX_STREAMS, OpenReply, Shared};
use crate::{Hello, LinkError, Stream, Transport, frame, preface, resume};

/// How long the opener of a stream may take to say what it wants.
const HEADER_DEADLINE: Duration = Duration::from_secs(15);

/// Makes a link as the session: says hello, waits for the agent's.
///
/// # Errors
/// When the other end is no agent, speaks no common version, or does not answer within 15 s.
pub async fn connect<T: Transport>(mut transport: T, hello: Hello) -> Result<(Link, Acceptor, Hello), LinkError> {
    let theirs = preface::call(&mut transport, &hello).await?;
    let (link, acceptor) = start(transport, &hello, &theirs, yamux::Mode::Client);
    Ok((link, acceptor, theirs))
}

/// Makes a link as the agent: waits for the session's hello, answers with what `make_hello` makes of it.
///
/// # Errors
/// As [`connect`].
pub async fn accept<T: Transport>(
    mut transport: T,
    make_hello: impl FnOnce(&Hello) -> Hello,
) -> Result<(Link, Acceptor, Hello), LinkError> {
    let (theirs, ours) = preface::answer(&mut transport, make_hello).await?;
    let (link, acceptor) = start(transport, &ours, &theirs, yamux::Mode::Server);
    Ok((link, acceptor, theirs))
}

fn start<T: Transport>(transport: T, ours: &Hello, theirs: &Hello, mode: yamux::Mode) -> (Link, Acceptor) {
    let (shared, opens, inbound) = mux::start(resume::layer(transport, ours, theirs), mode);
    let owner = Arc::new(Owner {
        shared: Arc::clone(&shared),
    });
    let (ready, opened) = mpsc::unbounded_channel();
    tokio::spawn(greet(inbound, ready, Arc::downgrade(&owner)));
    let acceptor = Arc::clone(&owner);
    let link = Link {
        owner,
        opens,
        slots: Arc::new(Semaphore::new(MAX_STREAMS)),
    };
    (
        link,
        Acceptor {
            opened,
            _owner: acceptor,
        },
    )
}

/// Closes the link when the last of its links and streams is gone.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) shared: Arc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.end(LinkError::ClosedHere);
    }
}

/// One end of a link. Clones are the same link; it closes when the last of them and of its streams is dropped.
#[derive(Clone)]
pub struct Link {
    owner: Arc<Owner>,
    opens: mpsc::UnboundedSender<OpenReply>,
    slots: Arc<Semaphore>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Link")
            .field("ended", &self.owner.shared.reason())
            .finish_non_exhaustive()
    }
}

impl Link {
    /// Opens a stream for `open`, with `early` data in the same flight; waits for no answer. `early` should stay below
    /// 128 KiB: what exceeds the stream's first window (256 KiB) waits for the other end to read.
    ///
    /// # Errors
    /// When the link has ended, or 4096 streams opened by this end are open.
    pub async fn open(&self, open: &Open, early: &[u8]) -> Result<Stream, LinkError> {
        let slot = Arc::clone(&self.slots)
            .try_acquire_owned()
            .map_err(|_| LinkError::TooManyStreams(MAX_STREAMS))?;
        let mut flight = frame::encode(open)?;
        flight.extend_from_slice(early);
        let mut stream = self.bare(Some(slot)).await?;
        stream
            .write_all(&flight)
            .await
            .map_err(|error| LinkError::io("opening a stream", error))?;
        stream
            .flush()
            .await
            .map_err(|error| LinkError::io("opening a stream", error))?;
        Ok(stream)
    }

    async fn bare(&self, slot: Option<OwnedSemaphorePermit>) -> Result<Stream, LinkError> {
        let (reply, answer) = oneshot::channel();
        let ended = || self.owner.shared.reason().unwrap_or(LinkError::Closed);
        self.opens.send(reply).map_err(|_| ended())?;
        let inner = answer.await.map_err(|_| ended())??;
        Ok(Stream::new(inner, Arc::clone(&self.owner), slot))
    }

    /// Waits for the link's end and says why.
    pub async fn closed(&self) -> LinkError {
        self.owner.shared.ended().await
    }

    /// Why the link ended; `None` while it is up.
    #[must_use]
    pub fn reason(&self) -> Option<LinkError> {
        self.owner.shared.reason()
    }

    /// Ends the link: what streams have handed over is still written (for up to 2 s), then the transport is closed. Streams
    /// that are open end as reset.
    pub fn close(&self) {
        self.owner.shared.end(LinkError::ClosedHere);
    }

    /// Ends the link for a reason of the caller's, which everything that waits on it will report.
    pub fn fail(&self, reason: LinkError) {
        self.owner.shared.end(reason);
    }

    /// From now on, ends the link when nothing at all has come in for `limit`; `what` is what was waited for. The session's
    /// heartbeats keep both directions from being silent.
    pub fn expect_life(&self, what: &'static str, limit: Duration) {
        let shared = Arc::clone(&self.owner.shared);
        tokio::spawn(mux::watch_silence(shared, what, limit));
    }
}

/// The streams that the other end opens.
#[derive(Debug)]
pub struct Acceptor {
    opened: mpsc::UnboundedReceiver<Result<(Open, Stream), LinkError>>,
    _owner: Arc<Owner>,
}

impl Acceptor {
    /// The next stream and what it is for; an error for a stream whose opener did not say so (the stream is reset, the link
    /// goes on); `None` when the link has ended.
    pub async fn next(&mut self) -> Option<Result<(Open, Stream), LinkError>> {
        self.opened.recv().await
    }
}

/// Reads the header of each inbound stream, each in its own time.
async fn greet(
    mut inbound: mpsc::UnboundedReceiver<yamux::Stream>,
    ready: mpsc::UnboundedSender<Result<(Open, Stream), LinkError>>,
    // Weak: who only accepts does not keep the link up for itself.
    owner: Weak<Owner>,
) {
    let slots = Arc::new(Semaphore::new(MAX_STREAMS));
    while let Some(inner) = inbound.recv().await {
        let Some(owner) = owner.upgrade() else { return };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            let _ = ready.send(Err(LinkError::TooManyStreams(MAX_STREAMS)));
            continue;
        };
        let ready = ready.clone();
        tokio::spawn(async move {
            let mut stream = Stream::new(inner, owner, Some(slot));
            stream.acknowledge();
            let what = "a new stream's header";
            let result = match timeout(HEADER_DEADLINE, frame::read_message(&mut stream)).await {
                Ok(Ok(open)) => Ok((open, stream)),
                Ok(Err(error)) => Err(error),
                Err(_) => Err(LinkError::Timeout {
                    what,
                    limit: HEADER_DEADLINE,
                }),
            };
            let _ = ready.send(result);
        });
    }
}
