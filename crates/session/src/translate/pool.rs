//! The HTTP/1 connections to the app that stand behind one HTTP/2 connection.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use super::body::RequestBody;
use crate::app::App;

/// How long one may wait for its next request: shorter than apps do, which would close it just then.
const IDLE: Duration = Duration::from_secs(1);
/// Most that wait.
const MAX_IDLE: usize = 8;
/// How long opening one may take.
const CONNECT: Duration = Duration::from_secs(10);
/// Most fields of an answer.
const MAX_FIELDS: usize = 1024;

pub(super) struct Pool<A> {
    app: Arc<A>,
    /// Since when; the one used last is at the end.
    idle: Mutex<Vec<(Instant, Local)>>,
    /// They end with the pool.
    open: Mutex<JoinSet<()>>,
}

/// One connection. It is broken off when this is dropped.
pub(super) struct Local {
    pub(super) sender: SendRequest<RequestBody>,
    /// It has had a request before.
    pub(super) used: bool,
    driver: BreaksOff,
}

struct BreaksOff(Option<AbortHandle>);

impl Drop for BreaksOff {
    fn drop(&mut self) {
        if let Some(driver) = self.0.take() {
            driver.abort();
        }
    }
}

impl Local {
    /// Ends it in order, as far as the app lets it.
    fn close(mut self) {
        self.driver.0 = None;
    }

    /// From now on its socket is somebody else's.
    pub(super) fn upgraded(self) {
        self.close();
    }
}

impl<A: App> Pool<A> {
    pub(super) fn new(app: Arc<A>) -> Self {
        Self {
            app,
            idle: Mutex::default(),
            open: Mutex::default(),
        }
    }

    /// One that waits, or a new one.
    ///
    /// # Errors
    /// When the app cannot be reached.
    pub(super) async fn take(&self) -> io::Result<Local> {
        while let Some((_, local)) = { self.idle().pop() } {
            if local.sender.is_ready() {
                return Ok(local);
            }
            local.close();
        }
        self.fresh().await
    }

    /// A new one.
    ///
    /// # Errors
    /// When the app cannot be reached.
    pub(super) async fn fresh(&self) -> io::Result<Local> {
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the program took no connection within 10 s");
        let (socket, kept) = timeout(CONNECT, self.app.connect()).await.map_err(late)??;
        self.adopt(socket, kept).await
    }

    /// # Errors
    /// When the connection breaks.
    pub(super) async fn adopt(&self, socket: A::Connection, kept: A::Kept) -> io::Result<Local> {
        let socket = TokioIo::new(Socket {
            socket,
            deaf: false,
            _kept: kept,
        });
        let handshake = Builder::new().max_headers(MAX_FIELDS).handshake(socket).await;
        let (sender, driver) = handshake.map_err(io::Error::other)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        while open.try_join_next().is_some() {}
        let driver = open.spawn(async move {
            if let Err(error) = driver.with_upgrades().await {
                tracing::debug!(%error, "a connection to the app ended by an error");
            }
        });
        Ok(Local {
            sender,
            used: false,
            driver: BreaksOff(Some(driver)),
        })
    }

    /// Keeps it for the next request, for a while.
    pub(super) async fn keep(&self, mut local: Local) {
        // The app may have answered before it has had the whole request.
        if local.sender.ready().await.is_err() {
            return local.close();
        }
        local.used = true;
        let surplus = {
            let mut idle = self.idle();
            idle.push((Instant::now(), local));
            (idle.len() > MAX_IDLE).then(|| idle.remove(0))
        };
        if let Some((_, surplus)) = surplus {
            surplus.close();
        }
        sleep(IDLE).await;
        let old: Vec<_> = self
            .idle()
            .extract_if(.., |(since, _)| since.elapsed() >= IDLE)
            .collect();
        for (_, local) in old {
            local.close();
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Instant, Local)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection to the app, whose answer counts also when it takes no more of the request: it may have said why, and left.
struct Socket<S, K> {
    socket: S,
    deaf: bool,
    _kept: K,
}

impl<S: AsyncRead + Unpin, K: Unpin> AsyncRead for Socket<S, K> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin, K: Unpin> AsyncWrite for Socket<S, K> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.deaf {
            match Pin::new(&mut self.socket).poll_write(cx, bytes) {
                // What is read from now on is its last words, or its end.
                Poll::Ready(Err(_)) => self.deaf = true,
                written => return written,
            }
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.socket).poll_flush(cx) {
            Poll::Ready(Err(_)) => {
                self.deaf = true;
                Poll::Ready(Ok(()))
            }
            flushed => flushed,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
