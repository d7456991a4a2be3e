//! The two places a redirected connection's requests can go to.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http_route::{Connection, SessionId, Upstreams};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use wire::Stream;
use wire::message::{ClaimMode, Incoming, Open};

use super::Intercept;

/// Opens upstreams for one client.
pub(super) struct Ends {
    pub intercept: Arc<Intercept>,
    pub client: SocketAddr,
    /// Where the client wanted to go.
    pub server: SocketAddr,
}

impl Upstreams for Ends {
    type Real = TcpStream;
    type Session = SessionStream;

    async fn real(&self) -> io::Result<TcpStream> {
        let socket = if self.server.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        let standing_in = self.mark(&socket)?;
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
        let session = self.intercept.session(id.0).ok_or(io::ErrorKind::NotConnected)?;
        let incoming = Incoming {
            mode: ClaimMode::Steal,
            port: self.server.port(),
            client: self.client,
            server: self.server,
        };
        Ok(SessionStream(session.link.open(&Open::Incoming(incoming), &[]).await?))
    }
}

impl Ends {
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

/// A stream to the session. Dropped before its end, it is reset: nothing else is needed for that.
pub(super) struct SessionStream(pub Stream);

impl Connection for SessionStream {}

impl AsyncRead for SessionStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for SessionStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
