//! Carries bytes between a local socket and a stream of the link, each direction with its own half-close; an abortive
//! close at one end becomes one at the other.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes that one direction of a connection takes at once.
const BUFFER: usize = wire::BULK;

/// Both directions until both are done. On an error the local socket is reset and the stream dropped unfinished, which
/// the other end sees as a reset.
pub(crate) async fn join<S>(mut socket: TcpStream, stream: S) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // Small answers must not wait for a full segment on either side.
    let _ = socket.set_nodelay(true);
    let result = {
        let (mut from_socket, mut to_socket) = socket.split();
        let (mut from_stream, mut to_stream) = tokio::io::split(stream);
        tokio::try_join!(
            one_way(&mut from_socket, &mut to_stream),
            one_way(&mut from_stream, &mut to_socket)
        )
        .map(drop)
    };
    if result.is_err() {
        reset(&socket);
    }
    result
}

async fn one_way<R, W>(from: &mut R, to: &mut W) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return match to.shutdown().await {
                // The other side is already gone, so there is nobody to tell.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
                other => other,
            };
        }
        to.write_all(&buffer[..length]).await?;
        to.flush().await?;
    }
}

/// Makes the coming close a reset (RST), as the remote end's was.
pub(crate) fn reset(socket: &TcpStream) {
    let _ = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO));
}
