//! The pod's incoming connections, each connected to the app's listener here.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use guest::protocol::{Peer, SocketCookie};
use http_route::http2;
use tls::Hello;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};
use wire::message::{Incoming, Open, Terminated};
use wire::{Acceptor, Stream, Underway};

use crate::app::App;
use crate::arrivals;
use crate::claims::Claims;
use crate::mirrored::hand_over;
use crate::relay::{self, canonical};
use crate::replay::replay;

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
/// `clients`. What the app answers is `underway`.
pub(crate) async fn serve(
    mut acceptor: Acceptor,
    claims: Arc<Claims>,
    peers: Arc<Peers>,
    clients: Arc<Peers>,
    underway: Underway,
) {
    while let Some(opened) = acceptor.next().await {
        let (claims, peers, underway) = (Arc::clone(&claims), Arc::clone(&peers), underway.clone());
        match opened {
            Ok((Open::Incoming(incoming), stream)) => {
                tokio::spawn(connection(incoming, None, stream, claims, peers, underway));
            }
            Ok((Open::Terminated(terminated), stream)) => {
                let Terminated {
                    incoming,
                    server_name,
                    protocol,
                } = terminated;
                let hello = Hello {
                    server_name,
                    protocols: protocol.map(|protocol| protocol.0).into_iter().collect(),
                };
                tokio::spawn(connection(incoming, Some(hello), stream, claims, peers, underway));
            }
            Ok((Open::Datagrams(claim), stream)) => {
                tokio::spawn(arrivals::serve(claim, stream, claims, Arc::clone(&clients), underway));
            }
            Ok((other, _)) => tracing::warn!(?other, "the agent opened a stream that only a session opens"),
            Err(error) => tracing::debug!(%error, "an incoming stream could not be opened"),
        }
    }
}

/// `hello` is what the client said whose TLS the agent has terminated.
async fn connection(
    incoming: Incoming,
    hello: Option<Hello>,
    stream: Stream,
    claims: Arc<Claims>,
    peers: Arc<Peers>,
    underway: Underway,
) {
    let app = Listener {
        claims,
        port: incoming.port,
        peer: Peer {
            client: incoming.client,
            server: incoming.server,
        },
        peers,
    };
    let ended = match incoming.mode {
        mode if mode.steals() => steal(app, hello, stream, &underway).await,
        _ => mirror(&app, stream).await,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, client = %incoming.client, "an incoming connection ended by an error");
    }
}

async fn steal(app: Listener, hello: Option<Hello>, mut stream: Stream, underway: &Underway) -> io::Result<()> {
    let claims = Arc::clone(&app.claims);
    if let Some((hello, ports)) = hello.as_ref().zip(claims.terminated()) {
        return ports.join(app.port, hello, app, stream, underway).await;
    }
    let (socket, _known) = app.connect().await?;
    stream.hold_sending(underway.hold());
    wire::join(socket, stream, |socket| Some(socket), ()).await
}

/// A copy, which begins with what the client said first.
async fn mirror(app: &Listener, mut copy: Stream) -> io::Result<()> {
    let mut first = Vec::new();
    let is_http2 = loop {
        if let Some(known) = http2::is_prior_knowledge(&first) {
            break known;
        }
        if copy.read_buf(&mut first).await? == 0 {
            break false;
        }
    };
    let lost = |why: &str| app.claims.lost(app.port, why);
    match is_http2 {
        true => replay(&first, copy, app, &lost).await,
        false => hand_over(&first, copy, app, &lost).await,
    }
}

/// The app's listener, wherever it is now, for one client.
struct Listener {
    claims: Arc<Claims>,
    port: u16,
    peer: Peer,
    peers: Arc<Peers>,
}

impl App for Listener {
    type Connection = TcpStream;
    type Kept = Known;

    async fn connect(&self) -> io::Result<(TcpStream, Known)> {
        let listener = self.claims.local(self.port);
        let listener = listener.ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "its listener is gone"))?;
        connect(listener, self.peer, &self.peers).await
    }

    fn listener(&self) -> Option<SocketCookie> {
        self.claims.listener(self.port)
    }
}

/// Connects to the app from an address that is known as `peer`'s before the app can accept it.
async fn connect(listener: SocketAddr, peer: Peer, peers: &Arc<Peers>) -> io::Result<(TcpStream, Known)> {
    let destination = reachable(canonical(listener));
    let socket = if destination.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.bind(from(destination))?;
    let known = Known::new(peers, socket.local_addr()?, peer);
    Ok((socket.connect(destination).await?, known))
}

/// A local address that stands for a client, as long as this is held.
struct Known {
    peers: Arc<Peers>,
    address: SocketAddr,
}

impl Known {
    fn new(peers: &Arc<Peers>, address: SocketAddr, peer: Peer) -> Self {
        peers.insert(address, peer);
        Self {
            peers: Arc::clone(peers),
            address,
        }
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        self.peers.remove(self.address);
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
