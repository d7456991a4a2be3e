//! Outgoing flows: TCP, UDP and unix sockets, opened as the pod would, with the errors it would get.

mod udp;
mod unix;

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use wire::message::{Destination, Dial, Dialed, Fault};
use wire::{LinkError, Stream, frame};

use crate::session::Session;

pub(crate) async fn serve(session: &Arc<Session>, dial: Dial, stream: Stream) {
    let limit = (dial.timeout_ms > 0).then(|| Duration::from_millis(dial.timeout_ms.into()));
    let ended = match dial.destination {
        Destination::Tcp(address) => tcp(session, address, limit, stream).await,
        Destination::Udp(address) => udp::serve(session, address, stream).await,
        Destination::Unix(path) => unix::serve(session, path, limit, stream).await,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an outgoing flow ended");
    }
}

async fn tcp(session: &Session, address: SocketAddr, limit: Option<Duration>, stream: Stream) -> Result<(), LinkError> {
    let connect = async {
        let socket = TcpStream::connect(address).await?;
        let local = socket.local_addr()?;
        Ok((socket, local))
    };
    let connected = in_time(limit, connect).await;
    let Some((socket, stream)) = answered(session, connected, stream, || format!("connecting to {address}")).await?
    else {
        return Ok(());
    };
    let held = stream.receiving();
    joined(wire::join(socket, stream, |socket| Some(socket), held).await)
}

fn joined(result: io::Result<()>) -> Result<(), LinkError> {
    result.map_err(|source| LinkError::Io {
        what: "an outgoing flow",
        source: Arc::new(source),
    })
}

async fn in_time<T>(limit: Option<Duration>, connect: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match limit {
        None => connect.await,
        Some(limit) => {
            let late = |_| io::Error::from_raw_os_error(libc::ETIMEDOUT);
            tokio::time::timeout(limit, connect).await.map_err(late)?
        }
    }
}

/// Says how it went; gives both back where there is something to join. From then on the session's end waits for what is
/// said on the stream.
async fn answered<S>(
    session: &Session,
    connected: io::Result<(S, SocketAddr)>,
    mut stream: Stream,
    what: impl FnOnce() -> String,
) -> Result<Option<(S, Stream)>, LinkError> {
    let (socket, answer) = match connected {
        Ok((socket, local)) => (Some(socket), Dialed::Ok { local }),
        Err(error) => (None, Dialed::Failed(fault(&error, what()))),
    };
    if socket.is_some() {
        stream.hold_receiving(session.unheard.hold());
    }
    frame::write_message(&mut stream, &answer).await?;
    match socket {
        Some(socket) => Ok(Some((socket, stream))),
        None => {
            let end = tokio::io::AsyncWriteExt::shutdown(&mut stream).await;
            joined(end).map(|()| None)
        }
    }
}

fn fault(error: &io::Error, what: String) -> Fault {
    Fault {
        errno: error.raw_os_error().unwrap_or(libc::EIO),
        what,
    }
}

/// What stands for the address of a socket that has none.
fn nowhere() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
}
