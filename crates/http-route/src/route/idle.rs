//! Between requests: waits for the next head, or for what comes instead.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::task::Poll;

use tokio::time::{Instant, timeout_at};

use super::farewell::Farewell;
use super::pool::{Pool, Stirred};
use super::side::Side;
use crate::counters::{End, RawReason};
use crate::detect::{Detected, detect};
use crate::http1::HeadScan;
use crate::{Connection, Options, Upstream, Upstreams};

/// What comes next on a client connection.
pub(super) enum Next {
    /// A head of this many bytes, at the beginning of the client's buffer.
    Head(usize),
    /// Something that goes to the real app unparsed.
    Raw(RawReason),
    End(End),
}

/// What is remembered of a client between requests.
pub(super) struct Waiting {
    /// Its first bytes looked like HTTP/1.
    detected: bool,
    /// When its silence began to count, until the real app was connected for it.
    silent_since: Option<Instant>,
}

/// What ended a wait.
enum Event {
    Client,
    ClientReset,
    Upstream(Stirred),
    /// The client is to leave.
    Farewell,
}

impl Waiting {
    pub(super) fn new() -> Self {
        Self {
            detected: false,
            silent_since: Some(Instant::now()),
        }
    }

    pub(super) async fn next<D: Connection, U: Upstreams>(
        &mut self,
        client: &mut Side<D>,
        pool: &mut Pool<'_, U>,
        farewell: &mut Farewell<'_>,
        options: &Options,
    ) -> Next {
        let begun = Instant::now();
        let mut scan = HeadScan::default();
        let mut head_since = None;
        loop {
            if let Some(next) = self.judge(client.received.bytes(), &mut scan) {
                self.silent_since = None;
                return next;
            }
            let unfinished = client
                .received
                .bytes()
                .iter()
                .any(|byte| !matches!(byte, b'\r' | b'\n'));
            if client.ended {
                return if unfinished {
                    Next::Raw(RawReason::CutHead)
                } else {
                    Next::End(End::ClientClosed)
                };
            }
            let deadline = if client.received.is_empty() {
                match self.silent_since {
                    Some(since) => Some(since + options.first_bytes),
                    None => pool.is_empty().then(|| Instant::now() + options.orphan),
                }
            } else {
                self.silent_since = None;
                Some(*head_since.get_or_insert_with(Instant::now) + options.head)
            };
            // Only who has spoken HTTP knows what it means.
            let leave = farewell.is_said() && self.detected && client.received.is_empty();
            let leave = leave.then(|| begun + options.leave);
            let deadline = deadline.into_iter().chain(leave).min();
            match wait(client, pool, farewell, deadline).await {
                Some(Event::Client | Event::Farewell) => {}
                Some(Event::ClientReset) => return Next::End(End::ClientReset),
                Some(Event::Upstream(Stirred::RealSpoke)) => {
                    return Next::Raw(if self.detected {
                        RawReason::Unsolicited
                    } else {
                        RawReason::ServerFirst
                    });
                }
                Some(Event::Upstream(Stirred::AllEnded)) => {}
                // The request that is on its way opens a new connection.
                Some(Event::Upstream(Stirred::RealEnded { .. })) if unfinished => {}
                Some(Event::Upstream(Stirred::RealEnded { reset })) => {
                    if reset {
                        client.io.reset();
                    }
                    return Next::End(End::UpstreamClosed { reset });
                }
                None if leave.is_some() && leave == deadline => return Next::End(End::Left),
                None if !client.received.is_empty() => return Next::Raw(RawReason::SlowHead),
                None if self.silent_since.take().is_some() => match pool.opener().open(Upstream::Real).await {
                    Ok(side) => pool.keep(Upstream::Real, side),
                    Err(error) => return Next::End(unreachable(client, error.kind())),
                },
                None => return Next::End(End::Orphaned),
            }
        }
    }

    /// What can be said about the bytes held so far.
    fn judge(&mut self, bytes: &[u8], scan: &mut HeadScan) -> Option<Next> {
        if !self.detected {
            match detect(bytes) {
                Detected::NeedMore => return None,
                Detected::Http1 => self.detected = true,
                Detected::Tls => return Some(Next::Raw(RawReason::Tls)),
                Detected::Http2 => return Some(Next::Raw(RawReason::Http2)),
                Detected::Other => return Some(Next::Raw(RawReason::NotHttp)),
            }
        }
        match scan.scan(bytes) {
            Ok(None) => None,
            Ok(Some(length)) => Some(Next::Head(length)),
            Err(reason) => Some(Next::Raw(reason)),
        }
    }
}

/// A client whose real app cannot be reached is reset.
pub(super) fn unreachable<D: Connection>(client: &mut Side<D>, kind: ErrorKind) -> End {
    client.io.reset();
    End::RealUnreachable(kind)
}

/// Until the client or an idle upstream does something, or `None` at the deadline.
async fn wait<D: Connection, U: Upstreams>(
    client: &mut Side<D>,
    pool: &mut Pool<'_, U>,
    farewell: &mut Farewell<'_>,
    deadline: Option<Instant>,
) -> Option<Event> {
    let event = poll_fn(|cx| {
        if let Poll::Ready(filled) = client.poll_fill(cx) {
            return Poll::Ready(if filled.is_ok() {
                Event::Client
            } else {
                Event::ClientReset
            });
        }
        if !farewell.is_said() && farewell.poll(cx).is_ready() {
            return Poll::Ready(Event::Farewell);
        }
        pool.poll_stirred(cx).map(Event::Upstream)
    });
    match deadline {
        Some(deadline) => timeout_at(deadline, event).await.ok(),
        None => Some(event.await),
    }
}
