//! Servers on loopback behind the routing that the agent uses.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http_route::{Content, Options, RequestHead, Router, SessionId, Upstream, Upstreams, route};
use tokio::net::{TcpListener, TcpStream};

/// Where requests go.
#[derive(Debug, Clone, Copy)]
pub enum Way {
    Passed,
    Stolen,
    /// Stolen, once the body has come.
    ByBody,
}

pub const WAYS: [Way; 3] = [Way::Passed, Way::Stolen, Way::ByBody];

impl Router for Way {
    fn decide(&self, _: &RequestHead<'_>, content: Content<'_>) -> Option<Upstream> {
        match (self, content) {
            (Self::Passed, _) => Some(Upstream::Real),
            (Self::ByBody, Content::Coming) => None,
            (Self::Stolen | Self::ByBody, _) => Some(Upstream::Session(SessionId(1))),
        }
    }
}

/// One server for both: what is asked here is how they are reached.
struct Server(SocketAddr);

impl Server {
    async fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.0).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl Upstreams for Server {
    type Real = TcpStream;
    type Session = TcpStream;

    async fn real(&self) -> io::Result<TcpStream> {
        self.connect().await
    }

    async fn session(&self, _: SessionId) -> io::Result<TcpStream> {
        self.connect().await
    }
}

/// A listener on a free port of loopback.
///
/// # Panics
/// When there is none.
pub async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

/// Where a server can be reached this way.
pub async fn front(server: SocketAddr, way: Way) -> SocketAddr {
    let (listener, address) = listener().await;
    let options = Options {
        // What never comes whole is not to hold up the suites.
        head: Duration::from_millis(500),
        ..Options::default()
    };
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(async move {
                client.set_nodelay(true)?;
                io::Result::Ok(route(client, &Server(server), &way, &options).await)
            });
        }
    });
    address
}
