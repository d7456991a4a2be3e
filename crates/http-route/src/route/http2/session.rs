//! The connection that lifted streams of one client have to their upstream, and the streams.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::pin::Pin;

use super::peer::{Headers, Peer};
use super::signed;
use crate::http2::frame::{self, code, flag, kind};
use crate::{Connection, Upstream};

/// What a session may send on all of its streams before some of it has reached the client, in bytes.
pub(super) const RECEIVE: usize = 1 << 20;

/// Has the streams whose bodies must be seen before it is known where they go.
pub(super) const NOBODY: usize = 0;

pub(super) type Opening<'a, S> = Pin<Box<dyn Future<Output = io::Result<S>> + Send + 'a>>;

pub(super) enum State<'a, S> {
    Opening(Opening<'a, S>),
    Open(Box<Peer<S>>),
    /// What waits for the client's window is all that is left of it.
    Over,
}

pub(super) struct Session<'a, S> {
    pub to: Upstream,
    pub state: State<'a, S>,
    /// What it lets be sent: on all streams, and on each new one.
    pub window: i64,
    pub initial: i64,
    max_frame: usize,
    /// Its settings were seen, so that it does speak HTTP/2.
    pub greeted: bool,
    /// It takes no new streams.
    pub retired: bool,
    /// What its streams end with when it is lost: what it said itself, or that it is.
    pub error: u32,
    /// Streams with something waiting to be sent, by the client's numbers of them.
    pub waiting: BTreeSet<u32>,
    /// The client's numbers of its streams by its own: they are opened here in another order than there.
    pub numbers: HashMap<u32, u32>,
    next_number: u32,
    /// What waits for the client's window, in order.
    pub held: VecDeque<Down>,
    /// What it may send now, in bytes.
    pub room: i64,
    /// What has reached the client and is not granted again, in bytes.
    owed: usize,
}

/// A stream that is lifted out of the client's connection.
pub(super) struct Stream {
    /// Whose, as the connection's number of it, or [`NOBODY`].
    pub at: usize,
    pub waiting: VecDeque<Up>,
    /// What the client may send again already of what waits, in bytes.
    pub prepaid: usize,
    /// What its session lets be sent, once the request's head is.
    pub window: i64,
    /// Its number there, once the request's head was sent.
    pub number: Option<u32>,
    /// What the client has granted before, in bytes.
    pub granted: usize,
    /// All that the client says of it has come.
    pub client_done: bool,
    /// And was sent.
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
    pub(super) fn new(headers: Headers) -> Self {
        Self {
            client_done: headers.end,
            at: NOBODY,
            waiting: VecDeque::from([Up::Headers(headers)]),
            prepaid: 0,
            window: 0,
            number: None,
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
    pub(super) fn new(to: Upstream, opening: Opening<'a, S>) -> Self {
        Self {
            to,
            state: State::Opening(opening),
            window: frame::WINDOW,
            initial: frame::WINDOW,
            max_frame: frame::SAFE_PAYLOAD,
            greeted: false,
            retired: false,
            error: code::INTERNAL_ERROR,
            waiting: BTreeSet::new(),
            numbers: HashMap::new(),
            next_number: 1,
            held: VecDeque::new(),
            room: frame::WINDOW + signed(RECEIVE),
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
            self.room += signed(owed);
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
                    let theirs = *stream.number.get_or_insert_with(|| {
                        let next = self.next_number;
                        self.next_number += 2;
                        self.numbers.insert(next, number);
                        next
                    });
                    peer.headers(theirs, headers);
                    peer.grant(theirs, std::mem::take(&mut stream.granted));
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
                    let theirs = stream.number.unwrap_or_default();
                    peer.frame(kind::DATA, flags, theirs, &bytes[*sent..*sent + now]);
                    *sent += now;
                    self.window -= signed(now);
                    stream.window -= signed(now);
                    let prepaid = now.min(stream.prepaid);
                    stream.prepaid -= prepaid;
                    client.grant(0, now - prepaid);
                    if *end {
                        stream.client_ended |= last;
                    } else {
                        client.grant(number, now - prepaid);
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
