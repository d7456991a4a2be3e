//! One request and its response between the client and one upstream.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use super::farewell::Farewell;
use super::side::Side;
use crate::Connection;
use crate::counters::RawReason;
use crate::http1::{Body, BodyScan, HeadScan, RequestHead, ResponseHead};

/// What must be known of the request in progress.
pub(super) struct Request {
    /// Bytes at the beginning of the client's buffer that belong to this request and are not sent yet.
    cleared: usize,
    body: BodyScan,
    /// All of it is sent or cleared.
    complete: bool,
    /// Some of it was sent, so it cannot go elsewhere.
    sent: bool,
    /// The upstream takes no more of it; the rest is discarded while the response is read.
    refused: bool,
    is_head: bool,
    is_connect: bool,
    persists: bool,
}

impl Request {
    pub(super) fn new(head: &RequestHead<'_>, body: Body) -> Self {
        Self {
            cleared: head.bytes().len(),
            body: BodyScan::new(body),
            complete: body == Body::Length(0),
            sent: false,
            refused: false,
            is_head: head.is_head(),
            is_connect: head.is_connect(),
            persists: head.persists(),
        }
    }
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Both messages are complete, and the connection goes on.
    Complete,
    /// The response is complete and the last one of this connection.
    Last,
    /// The same, because the client was told so by us.
    Left,
    /// Another protocol takes over.
    Switched,
    /// What follows cannot be framed: it stays, both ways, with this upstream.
    Raw(RawReason),
    /// The upstream was gone before anything was sent: the request is whole in the client's buffer.
    NothingSent,
    /// The upstream ended before the response did.
    Broke {
        reset: bool,
    },
    ClientReset,
}

enum Stage {
    Head(HeadScan),
    Body(BodyScan),
    Complete,
    Switched,
}

/// Tells a client that this response is the connection's last (RFC 9112 section 9.6).
const CLOSE: &[u8] = b"Connection: close\r\n";

/// [`CLOSE`], on its way into a response's head.
struct Close {
    /// Bytes that come before.
    before: usize,
    sent: usize,
    /// Bytes of the head in whose place it goes.
    replaces: usize,
}

impl Close {
    /// In place of a line that says the opposite, else as the last field.
    fn of(head: &[u8]) -> Option<Self> {
        let mut before = 0;
        for line in head.split_inclusive(|&byte| byte == b'\n') {
            let replaces = if says_keep_alive(line) { line.len() } else { 0 };
            if replaces > 0 || line == b"\r\n" {
                return Some(Self {
                    before,
                    sent: 0,
                    replaces,
                });
            }
            before += line.len();
        }
        None
    }
}

fn says_keep_alive(line: &[u8]) -> bool {
    let mut parts = line.splitn(2, |&byte| byte == b':');
    let (name, value) = (parts.next(), parts.next());
    name.is_some_and(|name| name.eq_ignore_ascii_case(b"connection"))
        && value.is_some_and(|value| value.trim_ascii().eq_ignore_ascii_case(b"keep-alive"))
}

struct Exchange<'a, 'r, D, U> {
    client: &'a mut Side<D>,
    upstream: &'a mut Side<U>,
    request: &'a mut Request,
    farewell: &'a mut Farewell<'r>,
    stage: Stage,
    /// Bytes at the beginning of the upstream's buffer that belong to the response and are not sent yet.
    cleared: usize,
    close: Option<Close>,
    /// The client is told to go elsewhere.
    leaves: bool,
    /// Some of the response reached the client.
    answered: bool,
    persists: bool,
    /// The upstream broke instead of ending.
    reset: bool,
}

/// Forwards the request and its response, at the same time, each byte as it comes.
pub(super) async fn exchange<D: Connection, U: Connection>(
    client: &mut Side<D>,
    upstream: &mut Side<U>,
    request: &mut Request,
    farewell: &mut Farewell<'_>,
) -> Outcome {
    let persists = request.persists;
    let stage = Stage::Head(HeadScan::default());
    let mut exchange = Exchange {
        client,
        upstream,
        request,
        farewell,
        stage,
        cleared: 0,
        close: None,
        leaves: false,
        answered: false,
        persists,
        reset: false,
    };
    poll_fn(|cx| exchange.poll(cx)).await
}

impl<D: Connection, U: Connection> Exchange<'_, '_, D, U> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let _ = self.farewell.poll(cx);
        let early = self.poll_request(cx).or_else(|| self.poll_response(cx));
        if let Some(outcome) = early {
            return Poll::Ready(outcome);
        }
        match self.stage {
            Stage::Switched => Poll::Ready(Outcome::Switched),
            Stage::Complete if self.cleared == 0 => match self.client.poll_flush(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Err(_)) => Poll::Ready(Outcome::ClientReset),
                Poll::Ready(Ok(())) if !self.persists || self.request.refused => Poll::Ready(Outcome::Last),
                Poll::Ready(Ok(())) if self.request.complete && self.request.cleared == 0 => {
                    Poll::Ready(if self.leaves { Outcome::Left } else { Outcome::Complete })
                }
                Poll::Ready(Ok(())) => Poll::Pending,
            },
            _ => Poll::Pending,
        }
    }

    /// Moves the request as far as it goes now. Also reads ahead, up to one buffer, to notice the client's end.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Option<Outcome> {
        loop {
            let ahead = &self.client.received.bytes()[self.request.cleared..];
            if !self.request.complete && !ahead.is_empty() {
                match self.request.body.scan(ahead) {
                    Ok(scanned) => {
                        self.request.cleared += scanned.taken;
                        self.request.complete = scanned.done;
                    }
                    Err(reason) => return Some(Outcome::Raw(reason)),
                }
            }
            if let Some(outcome) = self.send_request(cx) {
                return Some(outcome);
            }
            if self.request.cleared == 0 {
                // A flush or shutdown that fails shows in the next write or read.
                let _ = self.upstream.poll_flush(cx);
                if self.client.ended && self.client.received.is_empty() {
                    let _ = self.upstream.poll_shutdown(cx);
                }
            }
            if self.client.ended || self.client.received.is_full() {
                return None;
            }
            match self.client.poll_fill(cx) {
                Poll::Pending => return None,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Some(Outcome::ClientReset),
            }
        }
    }

    /// Sends what is cleared of the request.
    fn send_request(&mut self, cx: &mut Context<'_>) -> Option<Outcome> {
        while self.request.cleared > 0 {
            if self.request.refused {
                self.client.received.consume(self.request.cleared);
                self.request.cleared = 0;
                break;
            }
            let cleared = &self.client.received.bytes()[..self.request.cleared];
            match self.upstream.poll_write(cx, cleared) {
                Poll::Pending => break,
                Poll::Ready(Ok(count)) => {
                    self.client.received.consume(count);
                    self.request.cleared -= count;
                    self.request.sent = true;
                }
                Poll::Ready(Err(_)) if !self.request.sent => return Some(Outcome::NothingSent),
                // It may have answered before it stopped reading.
                Poll::Ready(Err(_)) => self.request.refused = true,
            }
        }
        None
    }

    /// Moves the response as far as it goes now.
    fn poll_response(&mut self, cx: &mut Context<'_>) -> Option<Outcome> {
        loop {
            // Head and body go out together: two small writes would wait for each other's acknowledgement.
            loop {
                match self.scan_response() {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(reason) => return Some(Outcome::Raw(reason)),
                }
            }
            while self.cleared > 0 {
                match self.poll_answer(cx) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(())) => self.answered = true,
                    Poll::Ready(Err(_)) => return Some(Outcome::ClientReset),
                }
            }
            if matches!(self.stage, Stage::Complete | Stage::Switched) {
                return None;
            }
            if self.cleared == 0 {
                // A flush that fails shows in the next write or read.
                let _ = self.client.poll_flush(cx);
            }
            if self.upstream.ended {
                if self.cleared > 0 {
                    return None;
                }
                match &self.stage {
                    Stage::Body(body) if body.ends_with_connection() && !self.reset => {
                        self.stage = Stage::Complete;
                        self.persists = false;
                        return None;
                    }
                    _ if !self.request.sent && !self.answered => return Some(Outcome::NothingSent),
                    _ => return Some(Outcome::Broke { reset: self.reset }),
                }
            }
            if self.upstream.received.is_full() {
                return None;
            }
            match self.upstream.poll_fill(cx) {
                Poll::Pending => return None,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => self.reset = true,
            }
        }
    }

    /// Sends of what is cleared of the response.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.close {
            Some(Close {
                before: 0,
                sent,
                replaces,
            }) => {
                *sent += ready!(self.client.poll_write(cx, &CLOSE[*sent..]))?;
                if *sent == CLOSE.len() {
                    self.upstream.received.consume(*replaces);
                    self.cleared -= *replaces;
                    self.close = None;
                }
            }
            close => {
                let most = close.as_ref().map_or(self.cleared, |close| close.before);
                let count = ready!(self.client.poll_write(cx, &self.upstream.received.bytes()[..most]))?;
                self.upstream.received.consume(count);
                self.cleared -= count;
                if let Some(close) = close {
                    close.before -= count;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Clears what can be of the received bytes; whether that was any.
    fn scan_response(&mut self) -> Result<bool, RawReason> {
        let ahead = &self.upstream.received.bytes()[self.cleared..];
        if ahead.is_empty() {
            return Ok(false);
        }
        match &mut self.stage {
            Stage::Complete | Stage::Switched => Ok(false),
            Stage::Body(body) => {
                let scanned = body.scan(ahead)?;
                self.cleared += scanned.taken;
                if scanned.done {
                    self.stage = Stage::Complete;
                }
                Ok(true)
            }
            Stage::Head(scan) => {
                let Some(length) = scan.scan(ahead)? else {
                    // A head that never ends is passed on as far as it came.
                    let cut = if self.upstream.ended { ahead.len() } else { 0 };
                    self.cleared += cut;
                    return Ok(cut > 0);
                };
                let head = ResponseHead::parse(&ahead[..length])?;
                let close = self.farewell.is_said().then(|| Close::of(&ahead[..length])).flatten();
                let place = self.cleared;
                self.cleared += length;
                self.stage = if head.switches(self.request.is_connect) {
                    Stage::Switched
                } else if head.is_interim() {
                    Stage::Head(HeadScan::default())
                } else {
                    self.persists &= head.persists;
                    if let Some(mut close) = close.filter(|_| self.persists) {
                        close.before += place;
                        self.close = Some(close);
                        self.leaves = true;
                    }
                    match head.body(self.request.is_head) {
                        Body::Length(0) => Stage::Complete,
                        body => Stage::Body(BodyScan::new(body)),
                    }
                };
                Ok(true)
            }
        }
    }
}
