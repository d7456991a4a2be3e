//! Redirected connections, from accept to their end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_route::{Detected, Options, RequestHead, Router, SessionId, Upstream, Upstreams, detect};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::Intercept;
use super::upstreams::{Ends, SessionStream};
use crate::relay;

/// Enough to tell what is spoken (see [`http_route::detect`]).
const PEEK: usize = 96;
/// Bytes that have come but do not yet tell are looked at again after this; the socket stays readable meanwhile.
const AGAIN: Duration = Duration::from_millis(5);

/// Accepts until the rules are gone.
pub(super) async fn accept(intercept: Arc<Intercept>, listener: TcpListener, own: u16, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((client, address)) => {
                let open = Opened::new(&intercept);
                tokio::spawn(async move {
                    serve(&open.0, client, address, own).await;
                    drop(open);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely; connections wait in the backlog.
                tracing::warn!(%error, "accepting a redirected connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
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
    let ends = Ends {
        intercept: Arc::clone(intercept),
        client: client_address,
        server,
    };
    let whole = intercept.lock().claims.whole(server.port());
    if let Some((session, probed)) = whole {
        if probed && let Err(error) = ends.real().await {
            tracing::debug!(%error, "the real app refuses, and so do we: the port has a TCP probe");
            let _ = client.set_zero_linger();
            return;
        }
        if !is_http(&client, Options::default().first_bytes).await {
            return raw(client, &ends, session).await;
        }
    }
    let router = Decide {
        intercept: Arc::clone(intercept),
        port: server.port(),
    };
    let summary = http_route::route(client, &ends, &router, &Options::default()).await;
    tracing::debug!(client = %client_address, %server, ?summary, "a redirected connection ended");
}

/// All of an unfiltered connection that is not HTTP/1 belongs to its session; what cannot reach it, to the real app.
async fn raw(client: TcpStream, ends: &Ends, session: SessionId) {
    let joined = match ends.session(session).await {
        Ok(SessionStream(stream)) => relay::join(client, stream).await,
        Err(error) => {
            tracing::debug!(%error, "a session cannot take a connection");
            match ends.real().await {
                Ok(mut app) => {
                    let mut client = client;
                    tokio::io::copy_bidirectional(&mut client, &mut app).await.map(|_| ())
                }
                Err(error) => client.set_zero_linger().and(Err(error)),
            }
        }
    };
    if let Err(error) = joined {
        tracing::debug!(%error, "a redirected connection broke");
    }
}

/// Looks at the first bytes without taking them. A client that says nothing waits for the server to speak first.
async fn is_http(client: &TcpStream, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    let mut bytes = [0; PEEK];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match timeout(left, client.peek(&mut bytes)).await {
            Ok(Ok(count @ 1..)) => match detect(&bytes[..count]) {
                Detected::Http1 => return true,
                Detected::NeedMore if !left.is_zero() => tokio::time::sleep(AGAIN).await,
                _ => return false,
            },
            _ => return false,
        }
    }
}

/// Asks the claims for each request, at its time.
struct Decide {
    intercept: Arc<Intercept>,
    port: u16,
}

impl Router for Decide {
    fn decide(&self, head: &RequestHead<'_>) -> Upstream {
        self.intercept.lock().claims.decide(self.port, head)
    }
}
