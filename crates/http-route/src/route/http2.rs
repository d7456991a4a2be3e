//! HTTP/2 with prior knowledge: the client's connection is the real app's, frame by frame, and streams that sessions want
//! are lifted out of it.
//!
//! What a stream to the real app says passes as it came, settings, pings, windows and errors included; only header blocks
//! are written anew, since their compression depends on what was sent before, and some of that went elsewhere. A session
//! gets a connection of its own for each client. Frames that cannot be read without doubt go on to the real app, which
//! judges them, with everything behind them.
//!
//! Invariant: the client may never send more than the real app could take now, and the real app is never granted more
//! than the client has granted: what sessions use of the one connection window is granted by us, or withheld.

mod app;
mod client;
mod peer;
mod session;
mod stolen;
mod undecided;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::poll_fn;
use std::task::{Context, Poll};

use super::farewell::Farewell;
use super::pool::{Opener, UpstreamSide};
use super::side::{Link, Side};
use crate::counters::{End, RawReason, Summary};
use crate::http2::frame::{self, PREFACE, kind, setting};
use crate::http2::hpack::MAX_TABLE;
use crate::{Connection, Router, Upstream, Upstreams};
use peer::Peer;
use session::{Down, NOBODY, Session, Stream};
use undecided::Undecided;

/// Streams that have ended and whose last frames may still come.
const REMEMBERED: usize = 4096;

/// A GOAWAY's payload: no stream is refused (2^31 - 1 is the last), and nothing is wrong (RFC 9113 section 6.8).
const GO_ELSEWHERE: [u8; 8] = [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0];

type UpstreamLink<U> = Link<<U as Upstreams>::Real, <U as Upstreams>::Session>;

struct Multiplex<'a, D, U: Upstreams, R: ?Sized> {
    client: Peer<D>,
    real: Peer<UpstreamLink<U>>,
    opener: Opener<'a, U>,
    router: &'a R,
    farewell: Farewell<'a>,
    summary: &'a mut Summary,
    /// By a number of this connection's own.
    sessions: BTreeMap<usize, Session<'a, UpstreamLink<U>>>,
    next_session: usize,
    streams: HashMap<u32, Stream>,
    undecided: Undecided,
    ended: Ended,
    /// The newest streams: of the client, and of those the ones on its connection to the real app, and the lifted.
    newest: u32,
    newest_real: u32,
    newest_lifted: u32,
    /// The client's settings as sessions are to know them.
    settings: Vec<(u16, u32)>,
    configured: bool,
    /// The client's connection window, in bytes.
    window: i64,
    /// What sessions have used of it and the real app does not know.
    debt: u32,
    held: VecDeque<Down>,
    /// The real app has said that it is HTTP/2.
    greeted: bool,
    /// It takes no new streams.
    leaving: bool,
    /// The client was told that it has broken the rules, and why: nothing follows.
    failed: bool,
    /// Nothing is read any more of what is passed on.
    client_raw: bool,
    real_raw: bool,
    frame: Vec<u8>,
}

/// The sessions' streams that have ended: the real app has never heard of them.
#[derive(Default)]
struct Ended {
    /// Whether the client has ended it: more of it is an error then, otherwise it was on its way.
    known: HashMap<u32, bool>,
    order: VecDeque<u32>,
}

impl Ended {
    fn add(&mut self, stream: u32, client_done: bool) {
        if self.known.insert(stream, client_done).is_none() {
            self.order.push_back(stream);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

/// Serves a client whose preface is at the beginning of its buffer, until one side ends the connection.
pub(super) async fn multiplex<'a, D, U, R>(
    client: Side<D>,
    real: UpstreamSide<U>,
    opener: Opener<'a, U>,
    router: &'a R,
    farewell: Farewell<'a>,
    summary: &'a mut Summary,
) -> (Side<D>, End)
where
    D: Connection,
    U: Upstreams,
    R: Router + ?Sized,
{
    let mut multiplex = Multiplex {
        client: Peer::new(client),
        real: Peer::new(real),
        opener,
        router,
        farewell,
        summary,
        sessions: BTreeMap::new(),
        next_session: NOBODY,
        streams: HashMap::new(),
        undecided: Undecided::default(),
        ended: Ended::default(),
        newest: 0,
        newest_real: 0,
        newest_lifted: 0,
        settings: Vec::new(),
        configured: false,
        window: frame::WINDOW,
        debt: 0,
        held: VecDeque::new(),
        greeted: false,
        leaving: false,
        failed: false,
        client_raw: false,
        real_raw: false,
        frame: Vec::new(),
    };
    multiplex.client.side.received.consume(PREFACE.len());
    multiplex.real.out.extend_from_slice(PREFACE);
    let end = poll_fn(|cx| multiplex.poll(cx)).await;
    (multiplex.client.side, end)
}

impl<'a, D: Connection, U: Upstreams, R: Router + ?Sized> Multiplex<'a, D, U, R> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let mut moved = match self.poll_client(cx) {
                Ok(moved) => moved,
                Err(end) => {
                    self.real.side.io.reset();
                    return Poll::Ready(end);
                }
            };
            match self.poll_real(cx) {
                Ok(real) => moved |= real,
                Err(end) => return Poll::Ready(end),
            }
            moved |= self.poll_undecided(cx);
            moved |= self.poll_sessions(cx);
            self.release();
            self.say_farewell(cx);
            let client_sent = self.client.poll_send(cx);
            if let Poll::Ready(Err(_)) = client_sent {
                self.real.side.io.reset();
                return Poll::Ready(End::ClientReset);
            }
            if self.failed {
                self.real.side.io.reset();
                return client_sent.map(|_| End::Closed);
            }
            moved |= self.client.has_sent() | self.real.pass_on(cx);
            for session in self.sessions.values_mut() {
                moved |= session.peer().is_some_and(|peer| peer.pass_on(cx));
            }
            if self.client.side.ended && self.client.side.received.is_empty() && self.real.is_idle() {
                let _ = self.real.side.poll_shutdown(cx);
            }
            if self.is_over() {
                return client_sent.map(|_| self.end());
            }
            if !moved {
                return Poll::Pending;
            }
        }
    }

    /// The real app has ended the connection, and nobody else is left on it.
    fn is_over(&self) -> bool {
        let held = self.sessions.values().any(|session| !session.held.is_empty());
        let waits = self.leaving && (held || !self.streams.is_empty()) || !self.held.is_empty();
        self.real.side.ended && self.real.side.received.is_empty() && (self.client.side.ended || !waits)
    }

    /// The client takes its next requests to another connection; streams that are open go on here, and so does one that is on
    /// its way.
    fn say_farewell(&mut self, cx: &mut Context<'_>) {
        let known = self.farewell.is_said() || !self.greeted || self.leaving || self.failed || self.real_raw;
        if !known && self.farewell.poll(cx).is_ready() {
            frame::write(kind::GOAWAY, 0, 0, &GO_ELSEWHERE, &mut self.client.out);
        }
    }

    fn end(&self) -> End {
        if self.client.side.ended || self.client_raw || self.real_raw {
            End::RawEnded
        } else {
            End::UpstreamClosed { reset: false }
        }
    }

    fn is_raw(&mut self, reason: RawReason) {
        if self.summary.raw.is_none() {
            self.summary.raw = Some((reason, Upstream::Real));
            self.router.raw(reason, Upstream::Real);
        }
    }

    /// Something for the client, in its turn and within its window; from the real app, or from this session.
    fn down(&mut self, from: Option<usize>, down: Down) {
        if let Some(held) = self.held(from) {
            held.push_back(down);
            self.release_from(from);
        }
    }

    /// What waits for the client's window.
    fn held(&mut self, from: Option<usize>) -> Option<&mut VecDeque<Down>> {
        match from {
            None => Some(&mut self.held),
            Some(at) => self.sessions.get_mut(&at).map(|session| &mut session.held),
        }
    }

    /// Sends what waited for the client's window.
    fn release(&mut self) {
        let mut from = 0;
        while let Some((&at, _)) = self
            .sessions
            .range(from..)
            .find(|(_, session)| !session.held.is_empty())
        {
            self.release_from(Some(at));
            from = at + 1;
        }
        self.release_from(None);
    }

    fn release_from(&mut self, from: Option<usize>) {
        loop {
            let size = match self.held(from).and_then(|held| held.front()) {
                None => return,
                Some(Down::Frame(frame)) if frame[3] == kind::DATA => frame.len() - frame::HEAD,
                Some(_) => 0,
            };
            if !self.fits(size) {
                return;
            }
            self.window -= signed(size);
            match self.held(from).and_then(VecDeque::pop_front) {
                Some(Down::Headers(headers)) => self.client.headers(headers.stream, &headers),
                Some(Down::Frame(frame)) => self.client.out.extend_from_slice(&frame),
                None => return,
            }
            if let Some(at) = from {
                self.debt += u32::try_from(size).unwrap_or(0);
                if let Some(session) = self.sessions.get_mut(&at) {
                    session.owes(size);
                }
            }
        }
    }

    /// The client's window lets so many bytes through.
    fn fits(&self, size: usize) -> bool {
        size == 0 || signed(size) <= self.window
    }
}

/// A frame's size, to be counted with.
fn signed(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// A setting as it can be passed on: nothing is allowed that cannot be let through.
fn lowered((identifier, value): (u16, u32)) -> (u16, u32) {
    let most = match identifier {
        setting::HEADER_TABLE_SIZE => MAX_TABLE,
        // What is no legal size is for its receiver to refuse.
        setting::MAX_FRAME_SIZE if value < 1 << 24 => frame::MAX_PAYLOAD,
        _ => return (identifier, value),
    };
    (identifier, value.min(u32::try_from(most).unwrap_or(u32::MAX)))
}

fn write_settings(settings: &[(u16, u32)], out: &mut Vec<u8>) {
    let mut payload = Vec::with_capacity(settings.len() * 6);
    for (identifier, value) in settings {
        payload.extend_from_slice(&identifier.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    frame::write(kind::SETTINGS, 0, 0, &payload, out);
}
