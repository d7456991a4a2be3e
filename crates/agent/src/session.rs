//! One session: its link, its services, its end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;
use wire::message::Open;
use wire::{Hello, Link, LinkError, Stream, Transport, Underway};

use crate::reconnect::{self, Reconnecting};
use crate::sessions::Standing;
use crate::{Agent, control, dial, files};

static NEXT: AtomicU64 = AtomicU64::new(1);

/// What a session's services know of it.
pub(crate) struct Session {
    /// Counts sessions of this agent, from 1.
    pub id: u64,
    /// What the person calls themselves; whoever meets this session's claims reads it.
    pub owner: String,
    pub link: Link,
    pub agent: Arc<Agent>,
    /// Cancelled at the session's end: everything it started stops.
    pub ended: CancellationToken,
    pub standing: Standing,
    pub reconnecting: Mutex<Reconnecting>,
    pub file_slots: files::Slots,
    /// What the session says to the pod, until it is the pod's.
    pub unheard: Underway,
}

impl Session {
    /// Its claims end.
    pub(crate) fn release(&self) {
        self.agent.intercept.release(self.id);
        self.agent.mirror.release(self.id);
        self.agent.datagrams.release(self.id);
        reconnect::end(self);
        self.standing.release();
    }
}

/// Serves the session on this transport until it says goodbye or its transport is lost. Its claims end at that moment.
///
/// A lease that outlives the transport is the resume layer's (see [`wire::resume`]): then a session is found again here by
/// [`Hello::session`] and [`Hello::token`], and only its claims end with the transport.
///
/// # Errors
/// Why the link could not be made or was lost; a session that closes it is in order.
pub async fn serve<T: Transport>(transport: T, agent: Arc<Agent>) -> Result<(), LinkError> {
    let (link, mut acceptor, peer) =
        wire::accept(transport, |peer| Hello::new(peer.session, [0; 16], "inpod agent")).await?;
    link.expect_life("the session's heartbeat", wire::control::SILENCE);
    let ended = CancellationToken::new();
    let session = Arc::new(Session {
        id: NEXT.fetch_add(1, Ordering::Relaxed),
        standing: Standing::new(&peer, &ended),
        owner: peer.owner,
        link,
        agent,
        ended,
        reconnecting: Mutex::default(),
        file_slots: files::Slots::default(),
        unheard: Underway::default(),
    });
    session.agent.sessions.add(&session);
    tracing::info!(
        id = session.id,
        owner = session.owner,
        build = peer.build,
        "a session begins"
    );
    while let Some(opened) = acceptor.next().await {
        match opened {
            Ok((open, stream)) => start(&session, open, stream),
            Err(error) => tracing::debug!(%error, "a stream was refused"),
        }
    }
    let reason = session.link.closed().await;
    session.ended.cancel();
    session.release();
    session.agent.sessions.remove(&session);
    // What has come is good, whatever became of the link.
    session.unheard.arrived().await;
    tracing::info!(id = session.id, %reason, "a session ends");
    match reason {
        LinkError::Closed | LinkError::ClosedHere => Ok(()),
        other => Err(other),
    }
}

fn start(session: &Arc<Session>, open: Open, stream: Stream) {
    let session = Arc::clone(session);
    let is_flow = matches!(open, Open::Dial(_));
    tokio::spawn(async move {
        let ended = session.ended.clone();
        let service = async {
            match open {
                Open::Control => control::serve(&session, stream).await,
                Open::Dial(dial) => dial::serve(&session, dial, stream).await,
                Open::Files => files::serve(&session, stream).await,
                // Dropping the stream resets it: only the agent opens these.
                Open::Incoming(_) | Open::Datagrams(_) | Open::Terminated(_) => {
                    tracing::debug!("a session opened a stream that only an agent opens");
                }
            }
        };
        let over = async {
            ended.cancelled().await;
            if is_flow {
                session.unheard.arrived().await;
            }
        };
        tokio::select! {
            () = service => {}
            () = over => {}
        }
    });
}
