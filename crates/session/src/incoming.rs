//! The pod's incoming connections, each connected to the app's listener here.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use guest::protocol::Peer;
use tokio::net::{TcpSocket, TcpStream};
use wire::message::{ClaimMode, Incoming, Open};
use wire::{Acceptor, Stream};

use crate::claims::Claims;
use crate::pump;
use crate::relay::{self, canonical};

/// Whose connection comes from which local address.
#[derive(Default)]
pub(crate) struct Peers(Mutex<HashMap<SocketAddr, Peer>>);

impl Peers {
    /// The remote ends behind the peer address of an accepted socket.
    pub(crate) fn of(&self, address: SocketAddr) -> Option<Peer> {
        self.lock().get(&canonical(address)).copied()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SocketAddr, Peer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes what the agent sends until the link is gone.
pub(crate) async fn serve(mut acceptor: Acceptor, claims: Arc<Claims>, peers: Arc<Peers>) {
    while let Some(opened) = acceptor.next().await {
        match opened {
            Ok((Open::Incoming(incoming), stream)) => {
                tokio::spawn(connection(incoming, stream, Arc::clone(&claims), Arc::clone(&peers)));
            }
            Ok((other, _)) => tracing::warn!(?other, "the agent opened a stream that only a session opens"),
            Err(error) => tracing::debug!(%error, "an incoming stream could not be opened"),
        }
    }
}

async fn connection(incoming: Incoming, stream: Stream, claims: Arc<Claims>, peers: Arc<Peers>) {
    let Some(listener) = claims.local(incoming.port) else {
        tracing::debug!(port = incoming.port, "a connection for a listener that is gone");
        return;
    };
    let peer = Peer {
        client: incoming.client,
        server: incoming.server,
    };
    let (socket, source) = match connect(listener, peer, &peers).await {
        Ok(connected) => connected,
        Err(error) => {
            tracing::debug!(%listener, %error, "the app does not take a connection");
            return;
        }
    };
    let ended = match incoming.mode {
        ClaimMode::Steal => pump::join(socket, stream).await,
        ClaimMode::Mirror => pump::mirror(socket, stream).await,
    };
    peers.lock().remove(&source);
    if let Err(error) = ended {
        tracing::debug!(%error, client = %incoming.client, "an incoming connection ended by an error");
    }
}

/// Connects to the app from an address that is known as `peer`'s before the app can accept it.
async fn connect(listener: SocketAddr, peer: Peer, peers: &Peers) -> io::Result<(TcpStream, SocketAddr)> {
    let destination = reachable(canonical(listener));
    let socket = if destination.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    let ip: IpAddr = match destination.ip() {
        IpAddr::V4(v4) if v4.is_loopback() => relay::INCOMING.into(),
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => v6.into(),
    };
    socket.bind(SocketAddr::new(ip, 0))?;
    let source = socket.local_addr()?;
    peers.lock().insert(source, peer);
    match socket.connect(destination).await {
        Ok(stream) => Ok((stream, source)),
        Err(error) => {
            peers.lock().remove(&source);
            Err(error)
        }
    }
}

/// A listener on every address is reached by loopback.
fn reachable(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        // Dual-stack listeners take IPv4 as well, but a V6ONLY one does not.
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    SocketAddr::new(ip, listener.port())
}
