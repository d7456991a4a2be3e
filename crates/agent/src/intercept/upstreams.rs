//! The two places a redirected connection's requests can go to.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http_route::{SessionId, Upstreams};
use tokio::net::{TcpSocket, TcpStream};
use wire::message::{ClaimMode, Incoming, Open};

use super::Intercept;
use super::session_stream::SessionStream;

/// Opens upstreams for one client.
pub(super) struct Ends {
    pub intercept: Arc<Intercept>,
    pub client: SocketAddr,
    /// Where the client wanted to go.
    pub server: SocketAddr,
    /// A session's stream that was opened before it was clear what the client wants.
    opened: Mutex<Option<(SessionId, SessionStream)>>,
}

impl Upstreams for Ends {
    type Real = TcpStream;
    type Session = SessionStream;

    async fn real(&self) -> io::Result<TcpStream> {
        // The client's first request was not the session's after all: its stream must not grow old here.
        drop(self.opened().take());
        let socket = if self.server.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        let standing_in = self.mark(&socket)?;
        if standing_in.is_none() {
            // An address of the pod's own, as a sidecar's 127.0.0.6; where it is none, the app sees the pod's.
            let _ = socket.bind(SocketAddr::new(self.client.ip(), 0));
        }
        let connected = socket.connect(self.server).await;
        // The client's address was decided by the first packet.
        if let Some(client) = standing_in
            && let Some(active) = &mut self.intercept.lock().active
        {
            active.table.remove_client(client);
        }
        let stream = connected?;
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    async fn session(&self, id: SessionId) -> io::Result<SessionStream> {
        if let Some((_, stream)) = self.opened().take_if(|(session, _)| *session == id) {
            return Ok(stream);
        }
        let session = self.intercept.session(id.0).ok_or(io::ErrorKind::NotConnected)?;
        let incoming = Incoming {
            mode: ClaimMode::Steal,
            port: self.server.port(),
            client: self.client,
            server: self.server,
        };
        Ok(SessionStream::new(
            session.link.open(&Open::Incoming(incoming), &[]).await?,
        ))
    }
}

impl Ends {
    pub(super) fn new(intercept: &Arc<Intercept>, client: SocketAddr, server: SocketAddr) -> Self {
        Self {
            intercept: Arc::clone(intercept),
            client,
            server,
            opened: Mutex::default(),
        }
    }

    /// Keeps a stream for the client's first request, if that is the session's.
    pub(super) fn keep(&self, session: SessionId, stream: SessionStream) {
        *self.opened() = Some((session, stream));
    }

    fn opened(&self) -> MutexGuard<'_, Option<(SessionId, SessionStream)>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks the socket so that it is not redirected again, and so that the app sees the client's address where that is
    /// possible; gives the client back if it must be given up again.
    fn mark(&self, socket: &TcpSocket) -> io::Result<Option<IpAddr>> {
        let mut state = self.intercept.lock();
        let Some(active) = &mut state.active else {
            // The rules are gone, so nothing redirects.
            return Ok(None);
        };
        let client = self.client.ip();
        let foreign = !client.is_loopback() && !self.server.ip().is_loopback();
        let added = if foreign {
            Some(active.table.add_client(client))
        } else {
            None
        };
        let (mark, standing_in) = match added {
            Some(Ok(mark)) => (mark, Some(client)),
            Some(Err(error)) => {
                tracing::warn!(%error, %client, "the app will not see this client's address");
                (active.table.own_mark(), None)
            }
            None => (active.table.own_mark(), None),
        };
        socket2::SockRef::from(socket).set_mark(mark.get())?;
        Ok(standing_in)
    }
}
