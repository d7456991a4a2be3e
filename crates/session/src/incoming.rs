//! The pod's incoming connections, each connected to the app's listener here.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use guest::protocol::Peer;
use tokio::net::{TcpSocket, TcpStream};
use wire::message::{Incoming, Open};
use wire::{Acceptor, Stream};

use crate::arrivals;
use crate::claims::Claims;
use crate::pump;
use crate::relay::{self, canonical};

/// Whose connection, or whose datagrams, come from which local address.
#[derive(Default)]
pub(crate) struct Peers(Mutex<HashMap<SocketAddr, Peer>>);

impl Peers {
    /// The remote ends behind the peer address of an accepted socket.
    pub(crate) fn of(&self, address: SocketAddr) -> Option<Peer> {
        self.lock().get(&canonical(address)).copied()
    }

    pub(crate) fn insert(&self, address: SocketAddr, peer: Peer) {
        self.lock().insert(address, peer);
    }

    pub(crate) fn remove(&self, address: SocketAddr) {
        self.lock().remove(&address);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SocketAddr, Peer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes what the agent sends until the link is gone: connections, whose ends are in `peers`, and datagrams, whose are in
/// `clients`.
pub(crate) async fn serve(mut acceptor: Acceptor, claims: Arc<Claims>, peers: Arc<Peers>, clients: Arc<Peers>) {
    while let Some(opened) = acceptor.next().await {
        match opened {
            Ok((Open::Incoming(incoming), stream)) => {
                tokio::spawn(connection(incoming, stream, Arc::clone(&claims), Arc::clone(&peers)));
            }
            Ok((Open::Datagrams(claim), stream)) => {
                tokio::spawn(arrivals::serve(
                    claim,
                    stream,
                    Arc::clone(&claims),
                    Arc::clone(&clients),
                ));
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
        mode if mode.steals() => pump::join(socket, stream).await,
        _ => pump::mirror(socket, stream).await,
    };
    peers.remove(source);
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
    socket.bind(from(destination))?;
    let source = socket.local_addr()?;
    peers.insert(source, peer);
    match socket.connect(destination).await {
        Ok(stream) => Ok((stream, source)),
        Err(error) => {
            peers.remove(source);
            Err(error)
        }
    }
}

/// Where what is for a local listener comes from.
pub(crate) fn from(listener: SocketAddr) -> SocketAddr {
    let ip: IpAddr = match listener.ip() {
        IpAddr::V4(v4) if v4.is_loopback() => relay::INCOMING.into(),
        other => other,
    };
    SocketAddr::new(ip, 0)
}

/// A listener on every address is reached by loopback.
pub(crate) fn reachable(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        // Dual-stack listeners take IPv4 as well, but a V6ONLY one does not.
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    SocketAddr::new(ip, listener.port())
}
