//! What one client sends, taken apart: HTTP into requests, all else as it comes. Pure: bytes in, parts out.

use http_route::http1::{Body, BodyScan, FieldStorage, HeadScan, MAX_HEAD};
use http_route::{Detected, RawReason, RequestHead, detect_line};

use super::streams::Streams;

/// A part of what a client sends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Request(Request),
    /// From here on it is not taken apart, and why.
    Raw(RawReason),
    Bytes(Vec<u8>),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) version: &'static str,
    pub(super) fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// The beginning of its body, without what delimits it.
    pub(super) body: Vec<u8>,
    /// How long the body is; `None` while that is not known.
    pub(super) length: Option<u64>,
}

/// One client's bytes, from the connection's first on.
pub(super) struct Client {
    /// Most bytes of a body that are kept.
    limit: usize,
    state: State,
    /// The beginning of a head; holds less than [`MAX_HEAD`] bytes.
    partial: Vec<u8>,
}

enum State {
    Head(HeadScan),
    Body {
        scan: BodyScan,
        /// Until it is told.
        request: Option<Request>,
        /// Of its content so far.
        come: u64,
    },
    Http2(Box<Streams>),
    Raw,
}

impl Client {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            state: State::Head(HeadScan::default()),
            partial: Vec::new(),
        }
    }

    /// A request is held back for its body.
    pub(super) fn waits(&self) -> bool {
        match &self.state {
            State::Body { request, .. } => request.is_some(),
            State::Http2(streams) => streams.waits(),
            State::Head(_) | State::Raw => false,
        }
    }

    /// The requests that wait, with what has come of them.
    pub(super) fn hurry(&mut self, each: &mut dyn FnMut(Sent)) {
        match &mut self.state {
            State::Body { request, .. } => request.take().map(Sent::Request).into_iter().for_each(each),
            State::Http2(streams) => streams.hurry().for_each(each),
            State::Head(_) | State::Raw => {}
        }
    }

    /// The connection has ended.
    pub(super) fn finish(&mut self, each: &mut dyn FnMut(Sent)) {
        self.hurry(each);
        if !self.partial.is_empty() {
            each(Sent::Raw(RawReason::CutHead));
            each(Sent::Bytes(std::mem::take(&mut self.partial)));
        }
    }

    pub(super) fn feed(&mut self, bytes: &[u8], each: &mut dyn FnMut(Sent)) {
        let mut held = std::mem::take(&mut self.partial);
        held.extend_from_slice(bytes);
        let mut bytes = held.as_slice();
        while !bytes.is_empty() {
            let taken = match &mut self.state {
                State::Head(scan) => match head(scan, bytes) {
                    Ok(None) => {
                        self.partial = bytes.to_vec();
                        return;
                    }
                    Ok(Some((length, request, body))) => {
                        self.state = State::Body {
                            scan: BodyScan::new(body),
                            request: Some(request),
                            come: 0,
                        };
                        // A request without a body ends with its head.
                        length + self.body(&bytes[length..], each)
                    }
                    Err(RawReason::Http2) => {
                        self.state = State::Http2(Box::default());
                        0
                    }
                    Err(reason) => self.give_up(reason, each),
                },
                State::Body { .. } => self.body(bytes, each),
                State::Http2(streams) => match streams.feed(bytes, self.limit, each) {
                    Ok(()) => bytes.len(),
                    Err(reason) => self.give_up(reason, each),
                },
                State::Raw => {
                    each(Sent::Bytes(bytes.to_vec()));
                    return;
                }
            };
            bytes = &bytes[taken..];
        }
    }

    fn body(&mut self, bytes: &[u8], each: &mut dyn FnMut(Sent)) -> usize {
        let State::Body { scan, request, come } = &mut self.state else {
            return 0;
        };
        let limit = self.limit;
        let scanned = scan.scan_content(bytes, |content| {
            *come += content.len() as u64;
            if let Some(request) = request {
                let room = limit - request.body.len();
                request.body.extend_from_slice(&content[..content.len().min(room)]);
            }
        });
        let (come, scanned) = (
            *come,
            match scanned {
                Ok(scanned) => scanned,
                Err(reason) => return self.give_up(reason, each),
            },
        );
        let over = come > limit as u64;
        if (scanned.done || over)
            && let Some(mut request) = request.take()
        {
            request.length = request.length.or(scanned.done.then_some(come));
            each(Sent::Request(request));
        }
        if scanned.done {
            self.state = State::Head(HeadScan::default());
        }
        scanned.taken
    }

    /// Takes none of the bytes.
    fn give_up(&mut self, reason: RawReason, each: &mut dyn FnMut(Sent)) -> usize {
        self.hurry(each);
        each(Sent::Raw(reason));
        self.state = State::Raw;
        0
    }
}

/// Length and content of a whole head.
fn head(scan: &mut HeadScan, bytes: &[u8]) -> Result<Option<(usize, Request, Body)>, RawReason> {
    match detect_line(bytes) {
        Detected::Http1 => {}
        Detected::NeedMore if bytes.len() < MAX_HEAD => return Ok(None),
        Detected::NeedMore => return Err(RawReason::HeadTooLong),
        Detected::Tls => return Err(RawReason::Tls),
        Detected::Http2 => return Err(RawReason::Http2),
        Detected::Other => return Err(RawReason::NotHttp),
    }
    let Some(length) = scan.scan(bytes)? else {
        return Ok(None);
    };
    let mut storage = FieldStorage::default();
    let head = RequestHead::parse(&bytes[..length], &mut storage)?;
    let body = head.body()?;
    let request = Request {
        method: head.method().to_owned(),
        target: head.target().to_owned(),
        version: if head.minor_version() == 0 {
            "HTTP/1.0"
        } else {
            "HTTP/1.1"
        },
        fields: head
            .fields()
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect(),
        body: Vec::new(),
        length: match body {
            Body::Length(length) => Some(length),
            Body::Chunked | Body::UntilClose => None,
        },
    };
    Ok(Some((length, request, body)))
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
