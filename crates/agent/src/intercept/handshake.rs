//! The TLS handshake of a client, answered as the real app would.
//!
//! The client's hello is read, the real app is asked with the same name and protocols, and the client is told what that one
//! chose, so that all three speak alike. Where the real app does not answer the client is answered all the same: what is a
//! session's can be served, and what is not fails as it does without TLS.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_route::{Detected, detect};
use tls::Hello;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::socket::Socket;
use super::terminator::Terminator;
use super::upstreams::{Agreed, Ends};
use crate::session::Session;

/// For one end's handshake.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);
/// For the real app's where it has only probes to answer: an app that is stopped in a debugger takes connections.
const ASIDE: Duration = Duration::from_secs(1);
/// How long a client of a port with TLS may be silent before it is taken for one that waits for the server to speak.
const SILENCE: Duration = Duration::from_secs(2);
/// A client's first byte that does not tell is looked at again after this; the socket stays readable meanwhile.
const AGAIN: Duration = Duration::from_millis(5);

/// Whether the client begins a handshake.
pub(super) async fn begins(client: &TcpStream) -> bool {
    let told = async {
        let mut bytes = [0; 2];
        loop {
            match client.peek(&mut bytes).await {
                Ok(1) if detect(&bytes[..1]) == Detected::NeedMore => tokio::time::sleep(AGAIN).await,
                Ok(count) => return detect(&bytes[..count]) == Detected::Tls,
                Err(_) => return false,
            }
        }
    };
    timeout(SILENCE, told).await.unwrap_or(false)
}

/// `None` when there is no more to be done for the client; `session` is told why, if that is worth telling. With `aside` the
/// real app has only probes to answer.
pub(super) async fn terminate(
    client: TcpStream,
    ends: &mut Ends,
    terminator: &Terminator,
    session: &Arc<Session>,
    aside: bool,
) -> Option<Socket> {
    let port = ends.server.port();
    let material = terminator.material(session).await;
    let waiting = match bounded(HANDSHAKE, tls::accept(client)).await {
        Ok(waiting) => waiting,
        Err(error) => return failed(port, session, &error),
    };
    let hello = waiting.hello();
    let patience = if aside { ASIDE } else { HANDSHAKE };
    let real = bounded(patience, ends.originate(&material.origination, &hello)).await;
    let protocol = match &real {
        Ok(real) => real.protocol().map(<[u8]>::to_vec),
        Err(error) => {
            if tls::is_refusal(error) {
                session.standing.warn(format!(
                    "port {port}: the real app does not take TLS as its clients speak it: {error}"
                ));
            }
            hello.safest()
        }
    };
    if material.origination.missed_certificate() {
        session.standing.warn(format!(
            "port {port}: the real app asks for a client certificate, and there is none to present: `client_certificate` and \
             `client_key` in incoming.tls"
        ));
    }
    let agreed = Hello {
        server_name: hello.server_name,
        protocols: protocol.into_iter().collect(),
    };
    let answer = waiting.answer(&material.termination, agreed.protocols.first().map(Vec::as_slice));
    let answered = bounded(HANDSHAKE, answer).await;
    ends.agree(
        Agreed {
            material,
            hello: agreed,
            by_real_app: real.is_ok(),
        },
        real.ok(),
    );
    match answered {
        Ok(stream) => Some(Socket::terminated(stream)),
        Err(error) => failed(port, session, &error),
    }
}

/// A client that leaves is nothing to tell of.
fn failed(port: u16, session: &Session, error: &io::Error) -> Option<Socket> {
    tracing::debug!(%error, port, "a client's TLS handshake failed");
    if tls::is_refusal(error) {
        session
            .standing
            .warn(format!("port {port}: a client's TLS handshake failed: {error}"));
    }
    None
}

async fn bounded<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    timeout(limit, work).await.map_err(late)?
}
