//! A socket and what is behind it, joined: bytes both ways, half-close as half-close, a reset as a reset.

use std::io;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use crate::BULK;

/// A copying buffer begins small, since most connections are idle, and grows while it is filled.
const SMALL: usize = 2 << 10;

/// Copies until both directions have ended in order, or either breaks.
///
/// Whatever came in is handed on before a break is: who can no longer be written to may still have something to say, and what
/// a stream has brought is good although its link has ended. A socket that was not told all, because what is behind it broke,
/// or because this is dropped or the process ends, is reset: nobody takes half of something for the whole. `transport` is
/// the socket's TCP connection, where there is one; `held` is dropped once the socket was told all, or will not be.
///
/// # Errors
/// What broke.
pub async fn join<S, B, H>(socket: S, behind: B, transport: fn(&S) -> Option<&TcpStream>, held: H) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite,
{
    if let Some(transport) = transport(&socket) {
        // Small answers must not wait for a full segment.
        let _ = transport.set_nodelay(true);
    }
    let socket = Shared(Mutex::new(socket));
    // Makes any close a reset (RST).
    socket.linger(transport, Some(Duration::ZERO));
    let (mut from_behind, mut to_behind) = tokio::io::split(behind);
    let inward = async {
        let inward = copy(&mut from_behind, &socket).await?;
        if inward.is_ok() {
            socket.linger(transport, None);
        }
        drop(held);
        Ok(inward)
    };
    let outward = copy(&socket, &mut to_behind);
    // The first that cannot read any more ends both.
    let (inward, outward) = tokio::try_join!(inward, outward)?;
    inward.and(outward)
}

/// A socket that is read, written and looked at by turns.
struct Shared<S>(Mutex<S>);

impl<S> Shared<S> {
    fn lock(&self) -> MutexGuard<'_, S> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn linger(&self, transport: fn(&S) -> Option<&TcpStream>, linger: Option<Duration>) {
        if let Some(transport) = transport(&self.lock()) {
            // A socket that is gone needs neither.
            let _ = socket2::SockRef::from(transport).set_linger(linger);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for &Shared<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for &Shared<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.lock()).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_shutdown(context)
    }
}

/// The outer error is the reader's, the inner one the writer's.
async fn copy<R, W>(mut reader: R, mut writer: W) -> io::Result<io::Result<()>>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; SMALL];
    loop {
        let count = reader.read(&mut buffer).await?;
        if count == 0 {
            return match writer.shutdown().await {
                // The other side has closed for good: nothing more can be said to it.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(Ok(())),
                ended => Ok(ended),
            };
        }
        let write = async {
            writer.write_all(&buffer[..count]).await?;
            writer.flush().await
        };
        if let Err(error) = write.await {
            return Ok(Err(error));
        }
        if count == buffer.len() && buffer.len() < BULK {
            buffer.resize((buffer.len() * 4).min(BULK), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::pin::pin;

    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::message::{Destination, Dial, Open};
    use crate::{Acceptor, Hello, Link, Stream};

    /// More than a stream's window and a socket's buffers hold.
    const MUCH: usize = 16 << 20;

    struct Joined {
        /// Talks to the socket.
        peer: TcpStream,
        /// Talks to the stream.
        far: Stream,
        far_link: Link,
        joined: JoinHandle<io::Result<()>>,
        _ends: (Link, Acceptor, Acceptor),
    }

    async fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    async fn joined() -> Joined {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let hello = || Hello::new([1; 16], [2; 16], "ada");
        let (near, far) = tokio::join!(crate::connect(ours, hello()), crate::accept(theirs, |_| hello()));
        let ((near_link, near_acceptor, _), (far_link, mut acceptor, _)) = (near.unwrap(), far.unwrap());
        let open = Open::Dial(Dial {
            destination: Destination::Tcp("10.0.0.1:80".parse().unwrap()),
            timeout_ms: 0,
        });
        let near = near_link.open(&open, &[]).await.unwrap();
        let (_, far) = acceptor.next().await.unwrap().unwrap();
        let (peer, socket) = connected().await;
        Joined {
            peer,
            far,
            far_link,
            joined: tokio::spawn(join(socket, near, |socket| Some(socket), ())),
            _ends: (near_link, near_acceptor, acceptor),
        }
    }

    #[tokio::test]
    async fn small_answers_do_not_wait_for_a_full_segment() {
        let (_peer, socket) = connected().await;
        let same = socket.as_fd().try_clone_to_owned().unwrap();
        let (behind, _far) = tokio::io::duplex(1);
        let mut joined = pin!(join(socket, behind, |socket| Some(socket), ()));
        assert!(futures::poll!(&mut joined).is_pending());
        assert!(socket2::SockRef::from(&same).tcp_nodelay().unwrap());
    }

    #[tokio::test]
    async fn both_ends_in_order() {
        let mut ends = joined().await;
        let (said, mut heard) = (vec![1; MUCH], Vec::new());
        let ask = async {
            ends.peer.write_all(&said).await.unwrap();
            ends.peer.shutdown().await.unwrap();
        };
        let (_, read) = tokio::join!(ask, ends.far.read_to_end(&mut heard));
        read.unwrap();
        assert_eq!(heard.len(), MUCH);
        ends.far.write_all(b"answer").await.unwrap();
        ends.far.shutdown().await.unwrap();
        let mut answer = String::new();
        ends.peer.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "answer");
        ends.joined.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn what_a_lost_link_has_brought_is_handed_on_and_is_not_taken_for_the_whole() {
        let mut ends = joined().await;
        ends.far.write_all(b"half of it").await.unwrap();
        ends.far.flush().await.unwrap();
        let mut heard = [0; 10];
        ends.peer.read_exact(&mut heard).await.unwrap();
        ends.far.write_all(b", and more").await.unwrap();
        ends.far.flush().await.unwrap();
        ends.far_link.close();
        // A writer finds the link's end first, and what has come is still there.
        ends.peer.write_all(b"question").await.unwrap();
        assert!(ends.joined.await.unwrap().is_err());
        ends.peer.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b", and more");
        let end = ends.peer.read(&mut heard).await;
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn the_last_words_of_one_who_listens_no_more_are_handed_on() {
        let mut ends = joined().await;
        ends.far.write_all(b"a question that is not read").await.unwrap();
        ends.far.flush().await.unwrap();
        ends.peer.readable().await.unwrap();
        ends.peer.write_all(b"no").await.unwrap();
        // With something unread, a close is a reset.
        drop(ends.peer);
        let mut answer = [0; 2];
        ends.far.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"no");
        assert!(ends.far.read(&mut answer).await.is_err());
    }

    #[tokio::test]
    async fn what_was_told_whole_arrives_whoever_leaves() {
        let mut ends = joined().await;
        ends.far.write_all(&[1; 100_000]).await.unwrap();
        ends.far.shutdown().await.unwrap();
        // Its end is there, and most of it still in the kernel.
        tokio::time::sleep(Duration::from_millis(100)).await;
        ends.joined.abort();
        drop(ends.far);
        let mut heard = Vec::new();
        ends.peer.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard.len(), 100_000);
    }

    #[tokio::test]
    async fn a_socket_whose_join_is_given_up_is_reset() {
        let mut ends = joined().await;
        ends.peer.write_all(b"!").await.unwrap();
        ends.far.read_exact(&mut [0]).await.unwrap();
        ends.joined.abort();
        let end = ends.peer.read(&mut [0]).await;
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
