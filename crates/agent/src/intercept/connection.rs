//! Redirected connections, from accept to their end.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_route::{Connection, Content, Options, RawReason, RequestHead, Router, SessionId, Upstream, Upstreams};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use wire::message::ClaimMode;

use super::Intercept;
use super::claims::Whole;
use super::first::{First, first};
use super::handshake;
use super::lanes::Lanes;
use super::session_stream::SessionStream;
use super::socket::Socket;
use super::upstreams::Ends;
use crate::check::Mss;
use crate::unread;

/// Most clients that speak first have done so by then. A session is not bothered before, so that a probe, which is the
/// real app's, is no connection to the local one; a server that speaks first is delayed by no more than this.
const PROMPT: Duration = Duration::from_millis(5);
/// What a server says at once is passed on in pieces of this size.
const GREETING: usize = 4 << 10;

/// Accepts until the rules are gone.
pub(super) async fn accept(
    intercept: Arc<Intercept>,
    listener: TcpListener,
    lanes: Lanes,
    own: u16,
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let served = accepted.and_then(|(client, address)| {
            let open = Opened::new(&intercept);
            lanes.serve(client, move |client| async move {
                serve(&open.0, client, address, own).await;
                drop(open);
            })
        });
        if let Err(error) = served {
            // Out of descriptors, most likely; connections wait in the backlog.
            tracing::warn!(%error, "accepting a redirected connection");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Counts a connection for as long as it is open.
struct Opened(Arc<Intercept>);

impl Opened {
    fn new(intercept: &Arc<Intercept>) -> Self {
        intercept.opened();
        Self(Arc::clone(intercept))
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.closed();
    }
}

async fn serve(intercept: &Arc<Intercept>, client: TcpStream, address: SocketAddr, own: u16) {
    let server = match nft::original_destination(&client) {
        Ok(server) if server.port() != own => server,
        other => {
            tracing::warn!(%address, ?other, "a stranger at the intercept listener was refused");
            let _ = client.set_zero_linger();
            return;
        }
    };
    let _ = client.set_nodelay(true);
    let client_address = SocketAddr::new(address.ip().to_canonical(), address.port());
    intercept.accepted(client_address, server);
    let mss = || Mss::of(&client);
    if intercept
        .checks
        .arrived(client_address, server.port(), mss, ClaimMode::Steal)
    {
        return;
    }
    // Boxed, since every step that it is handed to keeps room for it.
    let mut ends = Box::new(Ends::new(intercept, client_address, server));
    let Some(client) = terminated(client, &mut ends).await else {
        return;
    };
    let whole = intercept.lock().claims.whole(server.port());
    match whole {
        Some(whole) => serve_whole(client, ends, whole).await,
        None => serve_requests(client, ends).await,
    }
}

/// What is inside the client's TLS, where a claim has said how to get there; all else as it is. `None` when the client is
/// gone.
async fn terminated(client: TcpStream, ends: &mut Ends) -> Option<Socket> {
    let claims = ends.intercept.claims(ends.server.port());
    let session = claims.terminator().and_then(|(session, terminator)| {
        let session = ends.intercept.session(session)?;
        Some((session, terminator))
    });
    match session {
        Some((session, terminator)) if handshake::begins(&client).await => {
            let aside = claims.0.iter().all(|held| !held.is_filtered());
            // Ten kilobytes that no other connection is to have room for.
            Box::pin(handshake::terminate(client, ends, terminator, &session, aside)).await
        }
        _ => Some(Socket::Plain(client)),
    }
}

/// A claim without a filter: what is not HTTP is the session's as a connection, and HTTP/1 request by request, so that
/// probes reach the real app, and so that a client that stays connected moves to the real app when the steal ends. HTTP/2 is
/// looked into only for probes that may speak it, gRPC's and, inside of TLS, HTTP's: the real app must speak it for that, and it
/// may be new in the local one.
async fn serve_whole(mut client: Socket, ends: Box<Ends>, whole: Whole) {
    let session = whole.session;
    let prompt = timeout(PROMPT, first(&mut client)).await;
    // The probe, most likely.
    if matches!(prompt, Ok(Ok(First::Nothing))) && whole.tcp_probe && !ends.is_terminated() {
        ends.count(Upstream::Real);
        let app = ends.real().await;
        return to_app(client, app).await;
    }
    let spoken = match prompt {
        Ok(spoken) => spoken,
        Err(_) => {
            let Ok(mut stream) = ends.session(session).await else {
                return serve_requests(client, ends).await;
            };
            let mut greeting = vec![0; GREETING];
            tokio::select! {
                spoken = first(&mut client) => {
                    ends.keep(session, stream);
                    spoken
                }
                said = stream.read(&mut greeting) => {
                    ends.count(Upstream::Session(session));
                    return greeted(client, stream, said.map(|count| &greeting[..count])).await;
                }
            }
        }
    };
    match spoken {
        Ok(First::Http) => serve_requests(client, ends).await,
        Ok(First::Http2) if whole.grpc_probe || (whole.http_probe && ends.real_app_agreed()) => {
            serve_requests(client, ends).await;
        }
        Ok(First::Http2 | First::Other | First::Nothing) => raw(client, &ends, session).await,
        Err(error) => tracing::debug!(%error, "a redirected connection broke before it said anything"),
    }
}

async fn serve_requests(client: Socket, ends: Box<Ends>) {
    let router = Decide {
        intercept: Arc::clone(&ends.intercept),
        port: ends.server.port(),
        terminated: ends.is_terminated(),
        counted: AtomicBool::new(false),
    };
    let summary = http_route::route(client, &*ends, &router, &Options::default()).await;
    tracing::debug!(client = %ends.client, server = %ends.server, ?summary, "a redirected connection ended");
}

/// The local app spoke first, or ended before the client said anything.
async fn greeted(mut client: Socket, stream: SessionStream, said: io::Result<&[u8]>) {
    let joined = match said {
        Ok(bytes) => match client.write_all(bytes).await.and(client.flush().await) {
            Ok(()) => join(client, stream).await,
            Err(error) => Err(error),
        },
        Err(error) => {
            client.reset();
            Err(error)
        }
    };
    if let Err(error) = joined {
        tracing::debug!(%error, "a redirected connection broke");
    }
}

async fn join(client: Socket, stream: SessionStream) -> io::Result<()> {
    let stream = stream.into_inner();
    let held = stream.receiving();
    wire::join(client, stream, |client| Some(client.transport()), held).await
}

/// What is not routed by request belongs to the session as a connection; what cannot reach it, to the real app.
async fn raw(client: Socket, ends: &Ends, session: SessionId) {
    match ends.session(session).await {
        Ok(stream) => {
            ends.count(Upstream::Session(session));
            if let Err(error) = join(client, stream).await {
                tracing::debug!(%error, "a redirected connection broke");
            }
        }
        Err(error) => {
            tracing::debug!(%error, "a session cannot take a connection");
            ends.count(Upstream::Real);
            to_app(client, ends.real().await).await;
        }
    }
}

async fn to_app(mut client: Socket, app: io::Result<Socket>) {
    let joined = match app {
        Ok(app) => wire::join(client, app, |client| Some(client.transport()), ()).await,
        Err(error) => {
            client.reset();
            Err(error)
        }
    };
    if let Err(error) = joined {
        tracing::debug!(%error, "a connection with the real app broke");
    }
}

/// Asks the claims for each request, at its time.
struct Decide {
    intercept: Arc<Intercept>,
    port: u16,
    terminated: bool,
    /// Something of this connection was counted.
    counted: AtomicBool,
}

impl Router for Decide {
    fn decide(&self, head: &RequestHead<'_>, content: Content<'_>) -> Option<Upstream> {
        let claims = self.intercept.claims(self.port);
        let decided = claims.decide(head, content, self.terminated);
        if decided.is_none() && content == Content::Coming {
            return None;
        }
        let upstream = decided.unwrap_or(Upstream::Real);
        claims.count(upstream);
        self.counted.store(true, Ordering::Relaxed);
        Some(upstream)
    }

    fn raw(&self, reason: RawReason, upstream: Upstream) {
        // What follows requests is not counted again.
        if self.counted.swap(true, Ordering::Relaxed) {
            return;
        }
        let claims = self.intercept.claims(self.port);
        claims.count(upstream);
        if let Some(words) = unread::words(self.port, ClaimMode::Steal, reason) {
            let filtered = claims.0.iter().filter(|held| held.is_filtered());
            for session in filtered.filter_map(|held| self.intercept.session(held.session)) {
                session.standing.warn(words.clone());
            }
        }
    }

    fn leaves(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.intercept.unclaimed(self.port))
    }

    fn fallback(&self, session: SessionId) {
        self.intercept.claims(self.port).count_fallback(session);
    }
}
