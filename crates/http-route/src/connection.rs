//! What the caller provides: connections, a way to open them, and the decision for each request.

use std::future::Future;
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::RequestHead;
use crate::counters::RawReason;

/// A byte stream with half-close; `poll_shutdown` sends the end of our direction and leaves the other open.
pub trait Connection: AsyncRead + AsyncWrite + Unpin + Send {
    /// Makes the drop that follows a reset instead of an orderly end, where the transport can.
    fn reset(&mut self) {}
}

impl Connection for tokio::net::TcpStream {
    fn reset(&mut self) {
        // A socket that is already gone needs no reset.
        let _ = self.set_zero_linger();
    }
}

impl Connection for tokio::io::DuplexStream {}

/// A session as the caller knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Upstream {
    /// The pod's own app ("passthrough").
    Real,
    /// A session ("stolen").
    Session(SessionId),
}

/// Opens upstream connections for one client connection.
pub trait Upstreams: Send + Sync {
    type Real: Connection;
    type Session: Connection;

    /// # Errors
    /// When the real app cannot be reached: the client is reset, which is the nearest to the refusal it would have seen.
    fn real(&self) -> impl Future<Output = io::Result<Self::Real>> + Send;

    /// # Errors
    /// When the session is gone or does not answer: the request goes to the real app instead. The local app's refusal
    /// is best reported here, since a stream that ends after bytes were sent ends the client's connection.
    fn session(&self, id: SessionId) -> impl Future<Output = io::Result<Self::Session>> + Send;
}

/// What is known of a request's body when the router is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    /// It may still come; who must see it is asked once more.
    Coming,
    /// All of it, without its transfer coding.
    Whole(&'a [u8]),
    /// It does not come whole before the request must go: it is too long or too slow, its sender waits for an answer, or
    /// it cannot be read.
    Unseen,
}

/// Decides for each request at its time, so that claims may come and go during a connection.
pub trait Router: Send + Sync {
    /// `None` asks for the body, while that is [`Content::Coming`]; later it leaves the request to the real app.
    fn decide(&self, head: &RequestHead<'_>, content: Content<'_>) -> Option<Upstream>;

    /// The rest of this connection goes, unparsed, to `upstream`.
    fn raw(&self, _reason: RawReason, _upstream: Upstream) {}

    /// Ends when the client is to go on over another connection: one that is idle is then closed, and who makes requests is
    /// told with the next response (`Connection: close`, GOAWAY). What is raw or upgraded stays. Asked once a connection.
    fn leaves(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::pending())
    }

    /// A session could not be opened or was gone before any byte was sent; the request goes to the real app.
    fn fallback(&self, _session: SessionId) {}
}

impl<F: Fn(&RequestHead<'_>) -> Upstream + Send + Sync> Router for F {
    fn decide(&self, head: &RequestHead<'_>, _: Content<'_>) -> Option<Upstream> {
        Some(self(head))
    }
}
