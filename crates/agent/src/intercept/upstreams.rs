//! The two places a redirected connection's requests can go to.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http_route::{SessionId, Upstreams};
use tls::{Hello, Origination};
use tokio::net::{TcpSocket, TcpStream};
use wire::message::{Bytes, ClaimMode, Incoming, Open, Terminated};

use super::Intercept;
use super::handshake::HANDSHAKE;
use super::session_stream::SessionStream;
use super::socket::Socket;
use super::terminator::Material;

/// How long a connection to the real app may wait for its first use: one that was closed meanwhile would fail a request.
const KEPT: Duration = Duration::from_secs(2);

/// Opens upstreams for one client.
pub(super) struct Ends {
    pub intercept: Arc<Intercept>,
    pub client: SocketAddr,
    /// Where the client wanted to go.
    pub server: SocketAddr,
    /// A session's stream that was opened before it was clear what the client wants.
    opened: Mutex<Option<(SessionId, SessionStream)>>,
    /// What was agreed on with a client whose TLS was terminated.
    agreed: Option<Agreed>,
    /// The real app's connection that was opened for that.
    asked: Mutex<Option<(Instant, Socket)>>,
}

/// How every end of a terminated connection speaks.
pub(super) struct Agreed {
    pub material: Arc<Material>,
    /// With the protocol that was chosen alone.
    pub hello: Hello,
    /// The real app has chosen it.
    pub by_real_app: bool,
}

impl Upstreams for Ends {
    type Real = Socket;
    type Session = SessionStream;

    async fn real(&self) -> io::Result<Socket> {
        // The client's first request was not the session's after all: its stream must not grow old here.
        drop(self.opened().take());
        let Some(Agreed { material, hello, .. }) = &self.agreed else {
            return Ok(Socket::Plain(self.connect().await?));
        };
        if let Some((since, socket)) = self.asked().take()
            && since.elapsed() < KEPT
        {
            return Ok(socket);
        }
        // Room for a handshake that other connections need not have.
        let originate = Box::pin(self.originate(&material.origination, hello));
        let originated = tokio::time::timeout(HANDSHAKE, originate).await;
        Ok(Socket::terminated(originated.map_err(|_| io::ErrorKind::TimedOut)??))
    }

    async fn session(&self, id: SessionId) -> io::Result<SessionStream> {
        // Nor must the real app's.
        drop(self.asked().take());
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
        let open = match &self.agreed {
            None => Open::Incoming(incoming),
            Some(Agreed { hello, .. }) => Open::Terminated(Terminated {
                incoming,
                server_name: hello.server_name.clone(),
                protocol: hello.protocols.first().cloned().map(Bytes),
            }),
        };
        let mut stream = session.link.open(&open, &[]).await?;
        stream.hold_receiving(session.unheard.hold());
        Ok(SessionStream::new(stream))
    }
}

impl Ends {
    /// A connection to the real app, from the client's address where that is possible.
    async fn connect(&self) -> io::Result<TcpStream> {
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

    /// The same with a client's hello.
    pub(super) async fn originate(&self, how: &Origination, hello: &Hello) -> io::Result<tls::Stream<TcpStream>> {
        how.connect(self.connect().await?, hello).await
    }

    /// From now on both upstreams are opened as was agreed; `real` is for the first request that goes there.
    pub(super) fn agree(&mut self, agreed: Agreed, real: Option<tls::Stream<TcpStream>>) {
        self.agreed = Some(agreed);
        *self.asked() = real.map(|stream| (Instant::now(), Socket::terminated(stream)));
    }

    /// The client's TLS was terminated.
    pub(super) fn is_terminated(&self) -> bool {
        self.agreed.is_some()
    }

    pub(super) fn new(intercept: &Arc<Intercept>, client: SocketAddr, server: SocketAddr) -> Self {
        Self {
            intercept: Arc::clone(intercept),
            client,
            server,
            opened: Mutex::default(),
            agreed: None,
            asked: Mutex::default(),
        }
    }

    /// Keeps a stream for the client's first request, if that is the session's.
    pub(super) fn keep(&self, session: SessionId, stream: SessionStream) {
        *self.opened() = Some((session, stream));
    }

    /// The real app speaks as the client does.
    pub(super) fn real_app_agreed(&self) -> bool {
        self.agreed.as_ref().is_some_and(|agreed| agreed.by_real_app)
    }

    fn asked(&self) -> MutexGuard<'_, Option<(Instant, Socket)>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
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
