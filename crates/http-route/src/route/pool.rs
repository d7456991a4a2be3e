//! The upstreams that are open for one client connection.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use super::side::{Link, Side};
use crate::{Connection, Options, Upstream, Upstreams};

/// Idle connections to more upstreams than this are not kept.
const MAX_IDLE: usize = 8;

pub(super) type UpstreamSide<U> = Side<Link<<U as Upstreams>::Real, <U as Upstreams>::Session>>;

pub(super) struct Pool<'a, U: Upstreams> {
    opener: Opener<'a, U>,
    /// The one used last is at the end.
    idle: Vec<(Upstream, UpstreamSide<U>)>,
}

/// Opens connections for one client.
pub(super) struct Opener<'a, U> {
    upstreams: &'a U,
    options: &'a Options,
}

impl<U> Clone for Opener<'_, U> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<U> Copy for Opener<'_, U> {}

impl<U: Upstreams> Opener<'_, U> {
    pub(super) async fn open(self, which: Upstream) -> io::Result<UpstreamSide<U>> {
        let link = match which {
            Upstream::Real => Link::Real(self.upstreams.real().await?),
            Upstream::Session(id) => {
                let opened = tokio::time::timeout(self.options.session_open, self.upstreams.session(id)).await;
                Link::Session(opened.map_err(|_| io::ErrorKind::TimedOut)??)
            }
        };
        Ok(Side::new(link))
    }
}

impl<U> Opener<'_, U> {
    /// How long the decision about a request may wait for its body.
    pub(super) fn patience(self) -> Duration {
        self.options.head
    }
}

/// What an idle upstream did.
pub(super) enum Stirred {
    /// The real app, used last, ended the connection.
    RealEnded { reset: bool },
    /// The real app, used last, sent something.
    RealSpoke,
    /// None is left.
    AllEnded,
}

impl<'a, U: Upstreams> Pool<'a, U> {
    pub(super) fn new(upstreams: &'a U, options: &'a Options) -> Self {
        Self {
            opener: Opener { upstreams, options },
            idle: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.idle.is_empty()
    }

    /// An idle connection to `which` that has not been closed, as far as can be known.
    pub(super) async fn reuse(&mut self, which: Upstream) -> Option<UpstreamSide<U>> {
        let at = self.idle.iter().position(|(upstream, _)| *upstream == which)?;
        let (_, mut side) = self.idle.remove(at);
        side.is_quiet().await.then_some(side)
    }

    /// How new connections come.
    pub(super) fn opener(&self) -> Opener<'a, U> {
        self.opener
    }

    /// Keeps a connection for later requests, as the one used last.
    pub(super) fn keep(&mut self, which: Upstream, side: UpstreamSide<U>) {
        if self.idle.len() == MAX_IDLE {
            self.idle.remove(0);
        }
        self.idle.push((which, side));
    }

    /// Watches the idle connections. Those that end or speak are let go, unless it is the real
    /// app's and used last.
    pub(super) fn poll_stirred(&mut self, cx: &mut Context<'_>) -> Poll<Stirred> {
        let mut at = 0;
        while at < self.idle.len() {
            let last = at + 1 == self.idle.len();
            let (which, side) = &mut self.idle[at];
            let Poll::Ready(filled) = side.poll_fill(cx) else {
                at += 1;
                continue;
            };
            let real = *which == Upstream::Real && last;
            if real && !side.received.is_empty() {
                return Poll::Ready(Stirred::RealSpoke);
            }
            self.idle.remove(at);
            if real {
                return Poll::Ready(Stirred::RealEnded { reset: filled.is_err() });
            }
            if self.idle.is_empty() {
                return Poll::Ready(Stirred::AllEnded);
            }
        }
        Poll::Pending
    }

    /// Closes all idle connections.
    pub(super) fn clear(&mut self) {
        self.idle.clear();
    }

    /// Resets all idle connections.
    pub(super) fn reset(&mut self) {
        for (_, mut side) in self.idle.drain(..) {
            side.io.reset();
        }
    }

    /// The connection to the real app, if it has not ended; with what was received on it unasked.
    pub(super) async fn take_real(&mut self) -> Option<UpstreamSide<U>> {
        let at = self.idle.iter().position(|(upstream, _)| *upstream == Upstream::Real)?;
        let (_, mut side) = self.idle.remove(at);
        let quiet = side.received.is_empty() && side.is_quiet().await;
        (quiet || !side.received.is_empty()).then_some(side)
    }
}
