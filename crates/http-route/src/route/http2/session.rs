//! A session's connection for one client, and the client's streams that it has.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::pin::Pin;

use super::peer::{Headers, Peer};
use crate::http2::frame::{self, flag, kind};
use crate::{Connection, SessionId};

/// What a session may send on all of its streams before some of it has reached the client, in bytes.
pub(super) const RECEIVE: usize = 1 << 20;
/// The beginning of every connection (RFC 9113 section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) type Opening<'a, S> = Pin<Box<dyn Future<Output = io::Result<S>> + Send + 'a>>;

pub(super) enum State<'a, S> {
    Opening(Opening<'a, S>),
    Open(Peer<S>),
    /// What waits for the client's window is all that is left of it.
    Over,
}

pub(super) struct Session<'a, S> {
    pub id: SessionId,
    pub state: State<'a, S>,
    /// What it lets be sent: on all streams, and on each new one.
    pub window: i64,
    pub initial: i64,
    max_frame: usize,
    /// Its settings were seen, so that it does speak HTTP/2.
    pub greeted: bool,
    /// It takes no new streams.
    pub retired: bool,
    /// Streams with something waiting to be sent.
    pub waiting: BTreeSet<u32>,
    /// What waits for the client's window, in order.
    pub held: VecDeque<Down>,
    /// What it may send now, in bytes.
    pub room: i64,
    /// What has reached the client and is not granted again, in bytes.
    owed: usize,
}

/// A stream that a session has.
pub(super) struct Stream {
    /// Whose, as the connection's number of it.
    pub at: usize,
    pub waiting: VecDeque<Up>,
    /// What its session lets be sent, once the request's head is.
    pub window: i64,
    /// The request's head was sent.
    pub begun: bool,
    /// What the client has granted before, in bytes.
    pub granted: usize,
    pub client_ended: bool,
    pub session_ended: bool,
}

/// From the client to a session.
pub(super) enum Up {
    Headers(Headers),
    Data { bytes: Vec<u8>, sent: usize, end: bool },
}

/// From an upstream to the client.
pub(super) enum Down {
    Headers(Headers),
    /// A whole frame.
    Frame(Vec<u8>),
}

impl Stream {
    pub(super) fn new(at: usize) -> Self {
        Self {
            at,
            waiting: VecDeque::new(),
            window: 0,
            begun: false,
            granted: 0,
            client_ended: false,
            session_ended: false,
        }
    }

    /// What has come of the client's data and was not passed on, in bytes.
    pub(super) fn unsent(&self) -> usize {
        let unsent = self.waiting.iter().map(|up| match up {
            Up::Headers(_) => 0,
            Up::Data { bytes, sent, .. } => bytes.len() - sent,
        });
        unsent.sum()
    }
}

impl<'a, S: Connection> Session<'a, S> {
    pub(super) fn new(id: SessionId, opening: Opening<'a, S>) -> Self {
        Self {
            id,
            state: State::Opening(opening),
            window: frame::WINDOW,
            initial: frame::WINDOW,
            max_frame: frame::SAFE_PAYLOAD,
            greeted: false,
            retired: false,
            waiting: BTreeSet::new(),
            held: VecDeque::new(),
            room: frame::WINDOW + i64::try_from(RECEIVE).unwrap_or(0),
            owed: 0,
        }
    }

    pub(super) fn peer(&mut self) -> Option<&mut Peer<S>> {
        match &mut self.state {
            State::Open(peer) => Some(peer),
            State::Opening(_) | State::Over => None,
        }
    }

    /// So much of what it sent waits no more.
    pub(super) fn owes(&mut self, bytes: usize) {
        self.owed += bytes;
        if self.owed > RECEIVE / 4 {
            let owed = std::mem::take(&mut self.owed);
            self.room += i64::try_from(owed).unwrap_or(0);
            if let Some(peer) = self.peer() {
                peer.grant(0, owed);
            }
        }
    }

    /// Returns the difference to what new streams could send before.
    pub(super) fn configure(&mut self, payload: &[u8]) -> i64 {
        let before = self.initial;
        for (identifier, value) in frame::settings(payload) {
            match identifier {
                frame::setting::INITIAL_WINDOW_SIZE => self.initial = i64::from(value),
                frame::setting::MAX_FRAME_SIZE => {
                    self.max_frame = (value as usize).clamp(frame::SAFE_PAYLOAD, frame::MAX_PAYLOAD);
                }
                _ => {}
            }
        }
        self.initial - before
    }

    /// Sends what it can of a stream; the client may send as much again.
    pub(super) fn pump<D: Connection>(&mut self, number: u32, stream: &mut Stream, client: &mut Peer<D>) {
        let State::Open(peer) = &mut self.state else { return };
        while let Some(up) = stream.waiting.front_mut() {
            if peer.is_busy() {
                return;
            }
            match up {
                Up::Headers(headers) => {
                    peer.headers(headers);
                    stream.begun = true;
                    peer.grant(number, std::mem::take(&mut stream.granted));
                    stream.client_ended |= headers.end;
                }
                Up::Data { bytes, sent, end } => {
                    let left = bytes.len() - *sent;
                    let allowed = usize::try_from(self.window.min(stream.window)).unwrap_or(0);
                    let now = left.min(allowed).min(self.max_frame);
                    if now == 0 && left > 0 {
                        return;
                    }
                    let last = *end && now == left;
                    let flags = if last { flag::END_STREAM } else { 0 };
                    peer.frame(kind::DATA, flags, number, &bytes[*sent..*sent + now]);
                    *sent += now;
                    let size = i64::try_from(now).unwrap_or(i64::MAX);
                    self.window -= size;
                    stream.window -= size;
                    client.grant(0, now);
                    if *end {
                        stream.client_ended |= last;
                    } else {
                        client.grant(number, now);
                    }
                    if now < left {
                        continue;
                    }
                }
            }
            stream.waiting.pop_front();
        }
        self.waiting.remove(&number);
    }
}
