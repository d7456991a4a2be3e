//! A socket at the target and a stream of the link, joined: bytes both ways, half-close as half-close, a reset as a reset.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use wire::Stream;

/// A copying buffer begins small, since most connections are idle, and grows while it is filled.
const SMALL: usize = 2 << 10;
const LARGE: usize = wire::BULK;

/// A byte stream that can be ended by force.
pub(crate) trait Abort: AsyncRead + AsyncWrite + Unpin + Send {
    /// Makes the drop that follows a reset.
    fn abort(&self);
}

impl Abort for tokio::net::TcpStream {
    fn abort(&self) {
        // A socket that is gone needs no reset.
        let _ = self.set_zero_linger();
    }
}

impl Abort for tokio::net::UnixStream {
    /// Closing is all there is: its peer reads the end, or ECONNRESET where it left something unread.
    fn abort(&self) {}
}

/// Copies until both directions have ended in order, or either breaks; then both ends are reset.
pub(crate) async fn join<S: Abort>(socket: S, stream: Stream) -> io::Result<()> {
    let (mut from_socket, mut to_socket) = tokio::io::split(socket);
    let (mut from_stream, mut to_stream) = stream.split();
    let joined = {
        let up = copy(&mut from_stream, &mut to_socket);
        let down = copy(&mut from_socket, &mut to_stream);
        tokio::try_join!(up, down).map(|_| ())
    };
    if joined.is_err() {
        // Dropped without its end, the stream is reset by itself.
        from_socket.unsplit(to_socket).abort();
    }
    joined
}

async fn copy<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(reader: &mut R, writer: &mut W) -> io::Result<()> {
    let mut buffer = vec![0; SMALL];
    loop {
        let count = reader.read(&mut buffer).await?;
        if count == 0 {
            return match writer.shutdown().await {
                // The other side has closed for good: nothing more can be said to it.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
                result => result,
            };
        }
        writer.write_all(&buffer[..count]).await?;
        writer.flush().await?;
        if count == buffer.len() && buffer.len() < LARGE {
            buffer.resize((buffer.len() * 4).min(LARGE), 0);
        }
    }
}
