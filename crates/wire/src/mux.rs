//! The mux: one task drives yamux over the buffered transport.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Duration, Sleep};

use crate::outbox::{Gate, Pulse, SharedOutbox};
use crate::{BoxTransport, LinkError};

/// Streams that may be open at once, each way.
pub(crate) const MAX_STREAMS: usize = 4096;
/// yamux ends the whole connection at its own limit, so that limit lies beyond what both ends keep to.
const YAMUX_STREAMS: usize = 3 * MAX_STREAMS;
/// By how much all windows of one end together may outgrow their initial 256 KiB each, in bytes. One stream at 100 MB/s and
/// 100 ms needs 10 MB.
const WINDOW_BUDGET: usize = 24 << 20;
/// The largest frame on the transport in bytes: bounds how long a small frame waits behind a large one. The runtime, the
/// kubelet and the API server each pass an exec stream on in pieces of this size: a frame that is a little larger would cost
/// them a second, tiny piece.
const FRAME: usize = 32 << 10;
/// yamux' own header.
const YAMUX_HEADER: usize = 12;
/// The largest payload of one frame in bytes.
pub(crate) const MAX_FRAME: usize = FRAME - YAMUX_HEADER;
/// How long an orderly close may take to write what is left.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

pub(crate) type OpenReply = oneshot::Sender<Result<yamux::Stream, LinkError>>;

/// What the driver shares with links and streams.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) gate: Arc<Gate>,
    pub(crate) pulse: Arc<Pulse>,
    ended: watch::Sender<Option<LinkError>>,
    end_requested: Notify,
}

impl Shared {
    /// Why the link ended, or `None` while it is up.
    pub(crate) fn reason(&self) -> Option<LinkError> {
        self.ended.borrow().clone()
    }

    pub(crate) async fn ended(&self) -> LinkError {
        let mut watch = self.ended.subscribe();
        match watch.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or(LinkError::Closed),
            Err(_) => LinkError::Closed,
        }
    }

    /// Ends the link for this reason; the first reason stays.
    pub(crate) fn end(&self, reason: LinkError) {
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            if first {
                *ended = Some(reason);
            }
            first
        });
        self.end_requested.notify_one();
        self.gate.release();
    }
}

/// Starts the mux. Inbound streams come out of the receiver; outbound ones are asked for through the sender.
pub(crate) fn start(
    transport: BoxTransport,
    mode: yamux::Mode,
) -> (
    Arc<Shared>,
    mpsc::UnboundedSender<OpenReply>,
    mpsc::UnboundedReceiver<yamux::Stream>,
) {
    let gate = Arc::new(Gate::default());
    let pulse = Arc::new(Pulse::new());
    let outbox = SharedOutbox::new(transport, Arc::clone(&gate), Arc::clone(&pulse));
    let mut config = yamux::Config::default();
    config.set_max_connection_receive_window(None);
    config.set_max_num_streams(YAMUX_STREAMS);
    config
        .set_max_connection_receive_window(Some(YAMUX_STREAMS * yamux::DEFAULT_CREDIT as usize + WINDOW_BUDGET))
        .set_read_after_close(true)
        .set_split_send_size(MAX_FRAME);
    let shared = Arc::new(Shared {
        gate,
        pulse,
        ended: watch::Sender::new(None),
        end_requested: Notify::new(),
    });
    let (open, opens) = mpsc::unbounded_channel();
    let (inbound, accepted) = mpsc::unbounded_channel();
    let driver = Driver {
        connection: yamux::Connection::new(outbox.clone(), config, mode),
        outbox,
        opens,
        queue: VecDeque::new(),
        inbound,
        closing: None,
    };
    tokio::spawn(run(driver, Arc::clone(&shared)));
    (shared, open, accepted)
}

async fn run(mut driver: Driver, shared: Arc<Shared>) {
    let reason = {
        let end = shared.end_requested.notified();
        tokio::pin!(end);
        std::future::poll_fn(|context| {
            if driver.closing.is_none() && end.as_mut().poll(context).is_ready() {
                driver.closing = Some(Box::pin(tokio::time::sleep(CLOSE_DEADLINE)));
            }
            driver.poll(context)
        })
        .await
    };
    shared.end(reason);
    for open in driver.queue.drain(..) {
        let _ = open.send(Err(shared.reason().unwrap_or(LinkError::Closed)));
    }
    // Dropping the connection wakes every stream; they find the reason in `shared`.
}

struct Driver {
    connection: yamux::Connection<SharedOutbox>,
    outbox: SharedOutbox,
    opens: mpsc::UnboundedReceiver<OpenReply>,
    /// Opens that yamux holds back until the other end has acknowledged earlier ones.
    queue: VecDeque<OpenReply>,
    inbound: mpsc::UnboundedSender<yamux::Stream>,
    /// Set once the link is to be closed: when to stop being orderly about it.
    closing: Option<Pin<Box<Sleep>>>,
}

impl Driver {
    /// Ready with the reason when the link has ended.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<LinkError> {
        if let Some(deadline) = &mut self.closing {
            if self.connection.poll_close(context).is_ready() || deadline.as_mut().poll(context).is_ready() {
                return Poll::Ready(LinkError::ClosedHere);
            }
            return Poll::Pending;
        }
        while let Poll::Ready(Some(open)) = self.opens.poll_recv(context) {
            self.queue.push_back(open);
        }
        if let Poll::Ready(error) = self.poll_opens(context) {
            return Poll::Ready(error);
        }
        loop {
            match self.connection.poll_next_inbound(context) {
                Poll::Ready(Some(Ok(stream))) => {
                    // Without an acceptor the stream is dropped, which resets it.
                    let _ = self.inbound.send(stream);
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(failure(error)),
                Poll::Ready(None) => return Poll::Ready(LinkError::Closed),
                Poll::Pending => break,
            }
        }
        match self.outbox.poll_drain(context) {
            Poll::Ready(Err(error)) => Poll::Ready(LinkError::io("writing to the transport", error)),
            _ => Poll::Pending,
        }
    }

    fn poll_opens(&mut self, context: &mut Context<'_>) -> Poll<LinkError> {
        while let Some(open) = self.queue.pop_front() {
            if open.is_closed() {
                continue;
            }
            match self.connection.poll_new_outbound(context) {
                Poll::Ready(Ok(stream)) => {
                    let _ = open.send(Ok(stream));
                }
                Poll::Ready(Err(yamux::ConnectionError::TooManyStreams)) => {
                    let _ = open.send(Err(LinkError::TooManyStreams(YAMUX_STREAMS)));
                }
                Poll::Ready(Err(error)) => {
                    let reason = failure(error);
                    let _ = open.send(Err(reason.clone()));
                    return Poll::Ready(reason);
                }
                Poll::Pending => {
                    self.queue.push_front(open);
                    break;
                }
            }
        }
        Poll::Pending
    }
}

fn failure(error: yamux::ConnectionError) -> LinkError {
    match error {
        yamux::ConnectionError::Closed => LinkError::Closed,
        yamux::ConnectionError::Io(error) => LinkError::io("the transport", error),
        yamux::ConnectionError::Decode(yamux::FrameDecodeError::Io(error)) => match error.kind() {
            std::io::ErrorKind::UnexpectedEof => LinkError::Ended { what: "the transport" },
            _ => LinkError::io("reading from the transport", error),
        },
        other => LinkError::Protocol(other.to_string()),
    }
}

/// Ends the link when the other end has been silent for `limit`.
pub(crate) async fn watch_silence(shared: Arc<Shared>, what: &'static str, limit: Duration) {
    loop {
        tokio::select! {
            _ = shared.ended() => return,
            () = tokio::time::sleep_until(shared.pulse.last() + limit) => {}
        }
        if shared.pulse.silent_for() >= limit {
            shared.end(LinkError::Timeout { what, limit });
            return;
        }
    }
}
