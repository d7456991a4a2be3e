//! Stdout, which may be slow: a thread writes, and whoever has something to print waits for it. What comes meanwhile waits
//! in the link, and what the link cannot hold the agent leaves out and says so.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

use crate::error::{CliError, Kind};
use crate::ls::written;
use crate::sys::{duplicate, spawn_without_signals};

/// Texts that wait for the thread.
const WAITING: usize = 64;
/// How long the end waits for a slow reader.
const LAST_WORDS: Duration = Duration::from_millis(500);

pub(super) struct Printer {
    lines: Lines,
    ended: oneshot::Receiver<io::Result<()>>,
    /// Tells when its other end is closed; not of a file.
    stdout: Option<AsyncFd<OwnedFd>>,
}

/// Prints whole texts, one after the other.
#[derive(Clone)]
pub(super) struct Lines(mpsc::Sender<String>);

impl Lines {
    /// # Errors
    /// When nobody reads any more.
    pub(super) async fn print(&self, text: String) -> Result<(), mpsc::error::SendError<String>> {
        match text.is_empty() {
            true => Ok(()),
            false => self.0.send(text).await,
        }
    }
}

impl Printer {
    pub(super) fn start() -> Result<Self, CliError> {
        let machine = |error: io::Error| CliError::new(Kind::Machine, &error);
        let (lines, mut texts) = mpsc::channel::<String>(WAITING);
        let (said, ended) = oneshot::channel();
        spawn_without_signals("stdout", move || {
            let mut out = io::stdout().lock();
            let mut write = || -> io::Result<()> {
                while let Some(text) = texts.blocking_recv() {
                    out.write_all(text.as_bytes())?;
                    out.flush()?;
                }
                Ok(())
            };
            drop(said.send(write()));
        })
        .map_err(machine)?;
        Ok(Self {
            lines: Lines(lines),
            ended,
            stdout: duplicate(1).ok().and_then(watched),
        })
    }

    pub(super) fn lines(&self) -> Lines {
        self.lines.clone()
    }

    /// Returns when nobody reads stdout any more, which is no failure.
    ///
    /// # Errors
    /// When it cannot be written for another reason.
    pub(super) async fn unread(&mut self) -> Result<(), CliError> {
        let closed = async {
            match &self.stdout {
                Some(stdout) => drop(stdout.ready(Interest::ERROR).await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = &mut self.ended => written(ended.unwrap_or(Ok(()))),
            () = closed => Ok(()),
        }
    }

    /// Sees to it that all is out, if somebody reads.
    pub(super) async fn finish(self) {
        drop(self.lines);
        if !self.ended.is_terminated() {
            let _ = tokio::time::timeout(LAST_WORDS, self.ended).await;
        }
    }
}

#[expect(deprecated, reason = "the other constructor is unsafe")]
fn watched(stdout: OwnedFd) -> Option<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(stdout, Interest::ERROR).ok()
}
