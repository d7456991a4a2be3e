//! Drives one downstream connection: head by head, exchange by exchange, until it ends or turns raw.
//!
//! Requests are answered one after the other, so pipelined responses keep their order without being stored; a pipelining
//! client's later requests wait in one buffer and then in its own kernel.

mod buffer;
mod content;
mod exchange;
mod farewell;
mod http2;
mod idle;
mod pool;
mod relay;
mod side;

use crate::counters::{End, RawReason, Summary};
use crate::http1::{Body, FieldStorage};
use crate::{Connection, Content, Options, RequestHead, Router, Upstream, Upstreams};
use exchange::{Outcome, Request, exchange};
use farewell::Farewell;
use http2::multiplex;
use idle::{Next, Waiting, unreachable};
use pool::{Pool, UpstreamSide};
use relay::{Relayed, finish, relay};
use side::Side;

/// Serves `downstream` until it is over. Dropping the future drops all of its connections.
///
/// Each request goes where `router` says at that time, if need be by its body, as long as head and body fit into the receive
/// buffer; one that a session cannot take goes to the real app, as long as
/// none of its bytes was sent. HTTP/2 with prior knowledge is routed by stream. What is not HTTP, and a request that cannot
/// be framed without doubt, goes to the real app with everything behind it; doubt in the middle of a message leaves the rest
/// with that message's upstream.
pub async fn route<D, U, R>(downstream: D, upstreams: &U, router: &R, options: &Options) -> Summary
where
    D: Connection,
    U: Upstreams,
    R: Router + ?Sized,
{
    let summary = Summary {
        requests: 0,
        matched: 0,
        passed: 0,
        fallbacks: 0,
        upgraded: false,
        raw: None,
        end: End::ClientClosed,
    };
    let pool = Pool::new(upstreams, options);
    let mut driver = Driver {
        client: Side::new(downstream),
        pool,
        router,
        farewell: Farewell::new(router.leaves()),
        options,
        summary,
    };
    let (client, summary) = match driver.run().await {
        Some(end) => {
            driver.summary.end = end;
            (driver.client, driver.summary)
        }
        // Room that HTTP/1 connections need not have.
        None => Box::pin(driver.multiplex()).await,
    };
    match summary.end {
        // These are reset, or broken anyway: nothing that is said now would arrive.
        End::ClientReset
        | End::RealUnreachable(_)
        | End::UpstreamClosed { reset: true }
        | End::UpstreamBroke { reset: true } => {}
        _ => client.end(options.drain).await,
    }
    summary
}

struct Driver<'a, D, U: Upstreams, R: ?Sized> {
    client: Side<D>,
    pool: Pool<'a, U>,
    router: &'a R,
    farewell: Farewell<'a>,
    options: &'a Options,
    summary: Summary,
}

impl<D: Connection, U: Upstreams, R: Router + ?Sized> Driver<'_, D, U, R> {
    /// Returns how the connection ended, or `None` when it is HTTP/2.
    async fn run(&mut self) -> Option<End> {
        let mut waiting = Waiting::new();
        loop {
            let next = waiting.next(&mut self.client, &mut self.pool, &mut self.farewell, self.options);
            let judged = match next.await {
                Next::End(end) => {
                    if end == End::ClientReset {
                        self.pool.reset();
                    }
                    return Some(end);
                }
                Next::Raw(RawReason::Http2) => return None,
                Next::Raw(reason) => Err(reason),
                Next::Head(length) => self.judge(length).await,
            };
            match judged {
                Ok((which, request)) => {
                    let end = self.serve(which, request).await;
                    if end.is_some() {
                        return end;
                    }
                }
                Err(reason) => return Some(self.raw_to_real(reason).await),
            }
        }
    }

    /// Asks where the request at the beginning of the client's buffer goes.
    async fn judge(&mut self, length: usize) -> Result<(Upstream, Request), RawReason> {
        let (mut which, mut request, body) = self.look(length, None)?;
        if which.is_none() {
            let content = content::read(&mut self.client, length, body, self.options).await;
            let known = content.as_deref().map_or(Content::Unseen, Content::Whole);
            (which, request, _) = self.look(length, Some(known))?;
        }
        let which = which.unwrap_or(Upstream::Real);
        self.summary.requests += 1;
        match which {
            Upstream::Real => self.summary.passed += 1,
            Upstream::Session(_) => self.summary.matched += 1,
        }
        Ok((which, request))
    }

    /// Parses the head and asks once, with what is `known` of the body; says nothing where that must be read first.
    ///
    /// Apart from what waits: the fields of a head take 8 KiB, which each connection would hold.
    fn look(&self, length: usize, known: Option<Content<'_>>) -> Result<(Option<Upstream>, Request, Body), RawReason> {
        let mut storage = FieldStorage::default();
        let head = RequestHead::parse(&self.client.received.bytes()[..length], &mut storage)?;
        let body = head.body()?;
        let known = known.unwrap_or(match body {
            Body::Length(0) => Content::Whole(&[]),
            _ if head.expects_continue() => Content::Unseen,
            _ => Content::Coming,
        });
        let which = match self.router.decide(&head, known) {
            None if known != Content::Coming => Some(Upstream::Real),
            decided => decided,
        };
        Ok((which, Request::new(&head, body), body))
    }

    /// One exchange, wherever it finally goes. Returns how the connection ended, if it did.
    async fn serve(&mut self, which: Upstream, mut request: Request) -> Option<End> {
        let mut which = which;
        let mut reused = self.pool.reuse(which).await;
        loop {
            let fresh = reused.is_none();
            let opened = match reused.take() {
                Some(side) => Ok(side),
                None => self.pool.opener().open(which).await,
            };
            let mut side = match (opened, which) {
                (Ok(side), _) => side,
                (Err(_), Upstream::Session(_)) => {
                    which = self.fall_back(which);
                    reused = self.pool.reuse(which).await;
                    continue;
                }
                (Err(error), Upstream::Real) => return Some(unreachable(&mut self.client, error.kind())),
            };
            let outcome = exchange(&mut self.client, &mut side, &mut request, &mut self.farewell).await;
            if outcome != Outcome::NothingSent {
                return self.settle(outcome, which, side).await;
            }
            match which {
                // An idle connection that was closed just now: try a new one.
                _ if !fresh => {}
                Upstream::Session(_) => {
                    which = self.fall_back(which);
                    reused = self.pool.reuse(which).await;
                }
                Upstream::Real => return self.settle(Outcome::Broke { reset: true }, which, side).await,
            }
        }
    }

    /// Counts a request that its session cannot take.
    fn fall_back(&mut self, which: Upstream) -> Upstream {
        if let Upstream::Session(id) = which {
            self.summary.matched -= 1;
            self.summary.passed += 1;
            self.summary.fallbacks += 1;
            self.router.fallback(id);
        }
        Upstream::Real
    }

    /// Goes on, or ends, as an exchange's outcome demands.
    async fn settle(&mut self, outcome: Outcome, which: Upstream, mut side: UpstreamSide<U>) -> Option<End> {
        match outcome {
            Outcome::Complete if side.received.is_empty() => {
                self.pool.keep(which, side);
                None
            }
            // What the app sent behind its response reaches the client as it would directly.
            Outcome::Complete => Some(self.raw(RawReason::Unsolicited, which, side).await),
            Outcome::Last => {
                self.pool.clear();
                finish(&mut self.client, &mut side).await;
                Some(End::Closed)
            }
            Outcome::Left => Some(End::Left),
            Outcome::Switched => {
                self.summary.upgraded = true;
                Some(self.relay(side).await)
            }
            Outcome::Raw(reason) => Some(self.raw(reason, which, side).await),
            Outcome::Broke { reset } => {
                if reset {
                    self.client.io.reset();
                }
                Some(End::UpstreamBroke { reset })
            }
            Outcome::ClientReset => {
                side.io.reset();
                Some(End::ClientReset)
            }
            // Handled where the request can still go elsewhere.
            Outcome::NothingSent => Some(End::UpstreamBroke { reset: false }),
        }
    }

    /// Everything from here on goes to the real app.
    async fn raw_to_real(&mut self, reason: RawReason) -> End {
        match self.real().await {
            Ok(side) => self.raw(reason, Upstream::Real, side).await,
            Err(end) => end,
        }
    }

    /// A connection to the real app: the open one, where it has one.
    async fn real(&mut self) -> Result<UpstreamSide<U>, End> {
        match self.pool.take_real().await {
            Some(side) => Ok(side),
            None => match self.pool.opener().open(Upstream::Real).await {
                Ok(side) => Ok(side),
                Err(error) => Err(unreachable(&mut self.client, error.kind())),
            },
        }
    }

    async fn multiplex(mut self) -> (Side<D>, Summary) {
        let real = match self.real().await {
            Ok(real) => real,
            Err(end) => {
                self.summary.end = end;
                return (self.client, self.summary);
            }
        };
        let (client, end) = multiplex(
            self.client,
            real,
            self.pool.opener(),
            self.router,
            self.farewell,
            &mut self.summary,
        )
        .await;
        self.summary.end = end;
        (client, self.summary)
    }

    async fn raw(&mut self, reason: RawReason, which: Upstream, side: UpstreamSide<U>) -> End {
        self.summary.raw = Some((reason, which));
        self.router.raw(reason, which);
        self.relay(side).await
    }

    async fn relay(&mut self, mut side: UpstreamSide<U>) -> End {
        // Other upstreams get nothing more from this client.
        self.pool.clear();
        match relay(&mut self.client, &mut side).await {
            Relayed::Ended => End::RawEnded,
            Relayed::ClientReset => End::ClientReset,
            Relayed::UpstreamReset => End::UpstreamBroke { reset: true },
        }
    }
}
