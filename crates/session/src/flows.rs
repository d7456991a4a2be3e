//! Outgoing TCP flows: a remote end from the agent and the app's waiting socket, brought together.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use guest::protocol::{Answer, Errno, FlowId};
use wire::message::{Destination, Dial, Dialed, Open};
use wire::{Stream, Underway, frame};

use crate::relay::Relay;
use crate::router::Router;

/// What is known of a flow before both halves are there.
enum Half {
    Dialed(Stream),
    Attached(SocketAddr),
}

/// The flows that wait for their other half.
pub(crate) struct Flows {
    router: Router,
    relay: Arc<Relay>,
    underway: Underway,
    waiting: Mutex<HashMap<FlowId, Half>>,
}

impl Flows {
    pub(crate) fn new(router: Router, relay: Arc<Relay>, underway: Underway) -> Self {
        Self {
            router,
            relay,
            underway,
            waiting: Mutex::default(),
        }
    }

    /// Opens the remote end and hands the outcome to `answer` before the app can see it.
    pub(crate) async fn dial(self: Arc<Self>, flow: FlowId, destination: SocketAddr, answer: impl FnOnce(Answer)) {
        match dial(&self.router, Destination::Tcp(destination)).await {
            Ok((stream, local)) => {
                answer(Answer::Dialed(Ok(local)));
                self.meet(flow, Half::Dialed(stream));
            }
            Err(errno) => {
                self.lock().remove(&flow);
                answer(Answer::Dialed(Err(errno)));
            }
        }
    }

    /// The app's socket waits at the relay.
    pub(crate) fn attach(self: Arc<Self>, flow: FlowId, source: SocketAddr) {
        self.meet(flow, Half::Attached(source));
    }

    /// The app closed its socket or gave up; a dial that comes later is dropped by [`Relay::complete`] failing.
    pub(crate) fn abandon(&self, flow: FlowId) {
        self.lock().remove(&flow);
    }

    fn meet(self: Arc<Self>, flow: FlowId, half: Half) {
        let mut waiting = self.lock();
        let (mut stream, source) = match (half, waiting.remove(&flow)) {
            (Half::Dialed(stream), Some(Half::Attached(source)))
            | (Half::Attached(source), Some(Half::Dialed(stream))) => (stream, source),
            (half, _) => {
                waiting.insert(flow, half);
                return;
            }
        };
        drop(waiting);
        // From its first moment as a connection, since the app may have written and gone when it is looked at.
        stream.hold_sending(self.underway.hold());
        let relay = Arc::clone(&self.relay);
        tokio::spawn(async move {
            match relay.complete(source).await {
                Ok(socket) => {
                    if let Err(error) = wire::join(socket, stream, |socket| Some(socket), ()).await {
                        tracing::debug!(?flow, %error, "flow ended by an error");
                    }
                }
                Err(error) => tracing::debug!(?flow, %source, %error, "the app's socket is gone"),
            }
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<FlowId, Half>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens a flow from the pod: the stream behind it and the pod's end.
pub(crate) async fn dial(router: &Router, destination: Destination) -> Result<(Stream, SocketAddr), Errno> {
    let lost = |error: wire::LinkError| {
        tracing::debug!(%error, "dial");
        let errno = match error {
            // As without a free port.
            wire::LinkError::TooManyStreams(_) => rustix::io::Errno::ADDRNOTAVAIL,
            _ => rustix::io::Errno::NETUNREACH,
        };
        Errno(errno.raw_os_error())
    };
    let mut stream = router
        .open(&Open::Dial(Dial {
            destination,
            timeout_ms: 0,
        }))
        .await
        .map_err(lost)?;
    match frame::read_message::<Dialed, _>(&mut stream).await.map_err(lost)? {
        Dialed::Ok { local } => Ok((stream, local)),
        Dialed::Failed(fault) => {
            tracing::debug!(%fault, "dial");
            Err(Errno(fault.errno))
        }
    }
}
