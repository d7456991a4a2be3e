//! The local app, for whoever makes a client's requests anew.

use std::future::poll_fn;
use std::io;

use bytes::Bytes;
use guest::protocol::SocketCookie;
use h2::{Reason, SendStream};
use tokio::io::{AsyncRead, AsyncWrite};

/// Short DATA frames that are taken: `h2` by itself ends a connection behind a few hundred, which a stream of short messages has.
pub(crate) const DATA_FRAMES: usize = 1 << 20;

pub(crate) trait App: Send + Sync + 'static {
    type Connection: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// What lasts as long as the connection.
    type Kept: Send + Unpin + 'static;

    /// A connection to it, now.
    fn connect(&self) -> impl Future<Output = io::Result<(Self::Connection, Self::Kept)>> + Send;

    /// What it listens on now, where that is known: behind another socket there may be another app.
    fn listener(&self) -> Option<SocketCookie> {
        None
    }
}

/// Told of each mirrored request that has not reached the app whole, and why.
pub(crate) type Lost<'a> = &'a (dyn Fn(&str) + Sync);

/// As the other side's windows allow it.
///
/// # Errors
/// When the stream or its connection is over.
pub(crate) async fn send_data(stream: &mut SendStream<Bytes>, mut bytes: Bytes, end: bool) -> Result<(), h2::Error> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let room = poll_fn(|cx| stream.poll_capacity(cx)).await;
        let room = room.unwrap_or(Err(Reason::CANCEL.into()))?;
        let now = bytes.split_to(room.min(bytes.len()));
        let last = end && bytes.is_empty();
        stream.send_data(now, last)?;
        if last {
            return Ok(());
        }
    }
    if end {
        stream.send_data(bytes, true)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::net::TcpStream;

    use super::*;

    impl App for SocketAddr {
        type Connection = TcpStream;
        type Kept = ();

        async fn connect(&self) -> io::Result<(TcpStream, ())> {
            Ok((TcpStream::connect(self).await?, ()))
        }
    }
}
