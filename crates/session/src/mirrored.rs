//! A copy of what a client sends, handed to the local app request by request.
//!
//! How long the client's connection lasts is between it and the real app. The local app may close its own behind an answer, or
//! because it was idle, or may have been started again: the next request gets a new one then. So that none is sent to an app
//! that is about to close, each waits for the answer to the one before.

mod answers;

use std::cell::Cell;
use std::io;
use std::ops::Range;
use std::time::Duration;

use http_route::{Piece, RequestSplitter};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep, timeout};

use crate::app::{App, Lost};
use answers::{Answers, Asked};

/// How long a request waits for the answer to the one before, at most: an app may be stopped at a breakpoint. It then goes over
/// the same connection.
const ANSWER: Duration = Duration::from_secs(10);
/// How long an app may take to listen, when it is started again; and how often that is looked at.
const LISTENS: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(20);

/// How long the app of a mirrored connection may go on answering, into the void, when the client is done.
pub(crate) const LAST_ANSWERS: Duration = Duration::from_secs(30);

/// Hands over the copy, whose `first` bytes were read already, until it ends or the app has closed what cannot be begun
/// anew. Bytes stay as they are.
///
/// # Errors
/// When the copy breaks.
pub(crate) async fn hand_over<A: App>(
    first: &[u8],
    mut copy: impl AsyncRead + Unpin,
    app: &A,
    lost: Lost<'_>,
) -> io::Result<()> {
    let mut splitter = RequestSplitter::new();
    let mut local = Local::new(app, lost);
    let mut parts = Parts::default();
    let mut buffer = vec![0; wire::BULK];
    let mut bytes = first;
    loop {
        let asked = Cell::default();
        splitter.feed(
            bytes,
            &mut |head, _| {
                asked.set(Asked {
                    head: head.is_head(),
                    connect: head.is_connect(),
                });
                Some(true)
            },
            &mut |piece| parts.add(piece, asked.get()),
        );
        local.take(&mut parts).await;
        let requests = splitter.splits();
        if !requests && local.has_lost_it() {
            return Ok(());
        }
        let length = loop {
            tokio::select! {
                () = local.closed() => if !requests { return Ok(()) },
                read = copy.read(&mut buffer) => break read?,
            }
        };
        if length == 0 {
            break;
        }
        bytes = &buffer[..length];
    }
    splitter.finish(&mut |piece| parts.add(piece, Asked::default()));
    local.take(&mut parts).await;
    // A client that said nothing was there all the same.
    if !local.begun {
        local.begin().await;
    }
    local.finish().await;
    Ok(())
}

/// Bytes in the client's order, and where requests begin in them.
#[derive(Default)]
struct Parts {
    bytes: Vec<u8>,
    heads: Vec<(usize, Asked)>,
}

impl Parts {
    fn add(&mut self, piece: Piece<'_>, asked: Asked) {
        if piece.head {
            self.heads.push((self.bytes.len(), asked));
        }
        self.bytes.extend_from_slice(piece.bytes);
    }

    /// What belongs to one request each; the first range may go on with an earlier one.
    fn ranges(&self) -> impl Iterator<Item = (Option<Asked>, Range<usize>)> {
        let begins = self.heads.iter().map(|(begin, _)| *begin);
        let mut ends = begins.chain([self.bytes.len()]);
        let before = ends.next().unwrap_or_default();
        let requests = self.heads.iter().zip(ends);
        let requests = requests.map(|((begin, asked), end)| (Some(*asked), *begin..end));
        [(None, 0..before)].into_iter().chain(requests)
    }
}

/// The app, and a connection to it while there is one.
struct Local<'a, A: App> {
    app: &'a A,
    open: Option<Connection<A>>,
    begun: bool,
    /// It was waited for, and has not listened.
    away: bool,
    lost: Lost<'a>,
}

struct Connection<A: App> {
    to_app: WriteHalf<A::Connection>,
    /// They are thrown away: the client has the real app's.
    answers: Answers<ReadHalf<A::Connection>>,
    _kept: A::Kept,
}

impl<'a, A: App> Local<'a, A> {
    fn new(app: &'a A, lost: Lost<'a>) -> Self {
        Self {
            app,
            open: None,
            begun: false,
            away: false,
            lost,
        }
    }

    async fn take(&mut self, parts: &mut Parts) {
        for (head, range) in parts.ranges() {
            let bytes = &parts.bytes[range];
            if bytes.is_empty() {
                continue;
            }
            if head.is_some() || !self.begun {
                self.begin().await;
            }
            let Some(open) = &mut self.open else { continue };
            if let Some(asked) = head {
                open.answers.expect(asked);
            }
            if let Err(error) = open.send(bytes).await {
                self.open = None;
                (self.lost)(&format!("it closed its connection in the middle of it: {error}"));
            }
        }
        parts.bytes.clear();
        parts.heads.clear();
    }

    /// Opens a connection where there is none that the app still has.
    async fn begin(&mut self) {
        self.begun = true;
        if let Some(open) = &mut self.open {
            let _ = timeout(ANSWER, open.answers.read_all()).await;
            if !open.answers.has_ended() {
                return;
            }
            self.open = None;
        }
        match self.connect().await {
            Ok((connection, kept)) => {
                let (from_app, to_app) = tokio::io::split(connection);
                self.open = Some(Connection {
                    to_app,
                    answers: Answers::new(from_app),
                    _kept: kept,
                });
            }
            Err(error) => {
                (self.lost)(&format!("it takes no connection: {error}"));
            }
        }
    }

    /// Waits for an app that is being started again, but not for each request anew.
    async fn connect(&mut self) -> io::Result<(A::Connection, A::Kept)> {
        let begun = Instant::now();
        let connected = loop {
            match self.app.connect().await {
                Err(_) if !self.away && begun.elapsed() < LISTENS => sleep(AGAIN).await,
                connected => break connected,
            }
        };
        self.away = connected.is_err();
        connected
    }

    /// There was something to hand over, and nobody is left to take more of it.
    fn has_lost_it(&self) -> bool {
        self.begun && self.open.as_ref().is_none_or(|open| open.answers.has_ended())
    }

    /// Reads answers, until the app has closed a connection that it had not closed before.
    async fn closed(&mut self) {
        match &mut self.open {
            Some(open) if !open.answers.has_ended() => open.answers.read_to_end().await,
            _ => std::future::pending().await,
        }
    }

    /// The client has said everything; the app may go on answering for a while.
    async fn finish(&mut self) {
        if let Some(open) = &mut self.open {
            let _ = open.to_app.shutdown().await;
            let _ = timeout(LAST_ANSWERS, open.answers.read_to_end()).await;
        }
    }
}

impl<A: App> Connection<A> {
    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (to_app, answers) = (&mut self.to_app, &mut self.answers);
        let written = async {
            to_app.write_all(bytes).await?;
            to_app.flush().await
        };
        // An app that answers before it has taken everything may wait until that is read.
        let read = async {
            answers.read_to_end().await;
            std::future::pending().await
        };
        tokio::select! {
            biased;
            result = written => result,
            never = read => never,
        }
    }
}

#[cfg(test)]
mod tests;
