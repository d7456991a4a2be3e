//! A copy of what a client sends, handed to the local app request by request.
//!
//! How long the client's connection lasts is between it and the real app. The local app may close its own behind an answer, or
//! because it was idle, or may have been started again: the next request gets a new one then.

use std::io;
use std::ops::Range;
use std::time::Duration;

use http_route::{Piece, RequestSplitter};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, WriteHalf};
use tokio::task::JoinSet;

use crate::app::App;

/// How long the app of a mirrored connection may go on answering, into the void, when the client is done.
pub(crate) const LAST_ANSWERS: Duration = Duration::from_secs(30);

/// Hands over the copy, whose `first` bytes were read already, until it ends or the app has closed what cannot be begun
/// anew. Bytes stay as they are. Returns how many requests did not reach the app whole.
///
/// # Errors
/// When the copy breaks.
pub(crate) async fn hand_over<A: App>(first: &[u8], mut copy: impl AsyncRead + Unpin, app: &A) -> io::Result<u64> {
    let mut splitter = RequestSplitter::new();
    let mut local = Local::new(app);
    let mut parts = Parts::default();
    let mut buffer = vec![0; wire::BULK];
    let mut bytes = first;
    loop {
        splitter.feed(bytes, &mut |_, _| Some(true), &mut |piece| parts.add(piece));
        local.take(&mut parts).await;
        let requests = splitter.splits();
        if !requests && local.has_lost_it() {
            return Ok(local.lost);
        }
        let length = tokio::select! {
            read = copy.read(&mut buffer) => read?,
            () = local.closed(), if !requests => return Ok(local.lost),
        };
        if length == 0 {
            break;
        }
        bytes = &buffer[..length];
    }
    splitter.finish(&mut |piece| parts.add(piece));
    local.take(&mut parts).await;
    // A client that said nothing was there all the same.
    if !local.begun {
        local.begin().await;
    }
    local.finish().await;
    Ok(local.lost)
}

/// Bytes in the client's order, and where requests begin in them.
#[derive(Default)]
struct Parts {
    bytes: Vec<u8>,
    heads: Vec<usize>,
}

impl Parts {
    fn add(&mut self, piece: Piece<'_>) {
        if piece.head {
            self.heads.push(self.bytes.len());
        }
        self.bytes.extend_from_slice(piece.bytes);
    }

    /// What belongs to one request each; the first range may go on with an earlier one.
    fn ranges(&self) -> impl Iterator<Item = (bool, Range<usize>)> {
        let before = self.heads.first().map_or(self.bytes.len(), |head| *head);
        let ends = self.heads.iter().skip(1).copied().chain([self.bytes.len()]);
        let requests = self.heads.iter().copied().zip(ends);
        let requests = requests.map(|(begin, end)| (true, begin..end));
        [(false, 0..before)].into_iter().chain(requests)
    }
}

/// The app, and a connection to it while there is one.
struct Local<'a, A: App> {
    app: &'a A,
    open: Option<Connection<A>>,
    begun: bool,
    lost: u64,
}

struct Connection<A: App> {
    to_app: WriteHalf<A::Connection>,
    /// Takes the app's answers, and throws them away: the client has the real app's.
    answers: JoinSet<()>,
    _kept: A::Kept,
}

impl<'a, A: App> Local<'a, A> {
    fn new(app: &'a A) -> Self {
        Self {
            app,
            open: None,
            begun: false,
            lost: 0,
        }
    }

    async fn take(&mut self, parts: &mut Parts) {
        for (head, range) in parts.ranges() {
            let bytes = &parts.bytes[range];
            if bytes.is_empty() {
                continue;
            }
            if head || !self.begun {
                self.begin().await;
            }
            let Some(open) = &mut self.open else { continue };
            let written = async {
                open.to_app.write_all(bytes).await?;
                open.to_app.flush().await
            };
            if let Err(error) = written.await {
                tracing::debug!(%error, "the app has closed a mirrored connection in the middle of a request");
                self.open = None;
                self.lost += 1;
            }
        }
        parts.bytes.clear();
        parts.heads.clear();
    }

    /// Opens a connection where there is none that the app still has.
    async fn begin(&mut self) {
        self.begun = true;
        // The app's end may have come already, and not been looked at.
        tokio::task::yield_now().await;
        self.open.take_if(|open| open.answers.try_join_next().is_some());
        if self.open.is_some() {
            return;
        }
        match self.app.connect().await {
            Ok((connection, kept)) => {
                let (mut from_app, to_app) = tokio::io::split(connection);
                let mut answers = JoinSet::new();
                answers.spawn(async move {
                    let _ = tokio::io::copy(&mut from_app, &mut tokio::io::sink()).await;
                });
                self.open = Some(Connection {
                    to_app,
                    answers,
                    _kept: kept,
                });
            }
            Err(error) => {
                tracing::debug!(%error, "the app does not take a mirrored request");
                self.lost += 1;
            }
        }
    }

    /// There was something to hand over, and nobody is left to take more of it.
    fn has_lost_it(&self) -> bool {
        self.begun && self.open.is_none()
    }

    /// Waits until the app has closed its connection.
    async fn closed(&mut self) {
        match &mut self.open {
            Some(open) => drop(open.answers.join_next().await),
            None => std::future::pending().await,
        }
    }

    /// The client has said everything; the app may go on answering for a while.
    async fn finish(&mut self) {
        if let Some(open) = &mut self.open {
            let _ = open.to_app.shutdown().await;
            let _ = tokio::time::timeout(LAST_ANSWERS, open.answers.join_next()).await;
        }
    }
}

#[cfg(test)]
#[path = "mirrored_tests.rs"]
mod tests;
