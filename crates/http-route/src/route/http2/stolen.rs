//! Streams that are lifted out of the client's connection, and their answers put into it: those that sessions have, and
//! those of the real app that came too late for the client's own connection to it.

use std::task::{Context, Poll};

use super::super::side::Side;
use super::peer::{Doubt, Headers, Peer, Received};
use super::session::{Down, NOBODY, RECEIVE, Session, State, Stream, Up};
use super::{Multiplex, signed, write_settings};
use crate::http2::frame::{self, PREFACE, code, flag, kind};
use crate::{Connection, Router, Upstream, Upstreams};

impl<'a, D: Connection, U: Upstreams, R: Router + ?Sized> Multiplex<'a, D, U, R> {
    /// The client is told to send it again, on another connection or stream.
    pub(super) fn refuse(&mut self, number: u32) {
        self.client.reset(number, code::REFUSED_STREAM);
        self.ended.add(number, false);
    }

    /// Takes a request out of the client's connection; it waits for [`Self::assign`].
    pub(super) fn lift(&mut self, headers: Headers) {
        let number = headers.stream;
        self.newest_lifted = self.newest_lifted.max(number);
        self.streams.insert(number, Stream::new(headers));
    }

    /// A lifted stream goes there.
    pub(super) fn assign(&mut self, number: u32, to: Upstream) {
        let open = self
            .sessions
            .iter()
            .find(|(_, session)| session.to == to && !session.retired);
        let at = match open {
            Some((at, _)) => *at,
            None => {
                let opener = self.opener;
                let opening = Box::pin(async move { opener.open(to).await.map(|side| side.io) });
                self.next_session += 1;
                self.sessions.insert(self.next_session, Session::new(to, opening));
                self.next_session
            }
        };
        if let (Some(session), Some(stream)) = (self.sessions.get_mut(&at), self.streams.get_mut(&number)) {
            stream.at = at;
            stream.window = session.initial;
            session.waiting.insert(number);
            session.pump(number, stream, &mut self.client);
        }
        self.close_if_ended(number);
    }

    /// Something for a lifted stream.
    pub(super) fn up(&mut self, number: u32, up: Up) {
        let Some(stream) = self.streams.get_mut(&number) else {
            return;
        };
        stream.waiting.push_back(up);
        if stream.at == NOBODY {
            return self.more_of_body(number);
        }
        if let Some(session) = self.sessions.get_mut(&stream.at) {
            session.waiting.insert(number);
            session.pump(number, stream, &mut self.client);
        }
        self.close_if_ended(number);
    }

    pub(super) fn close_if_ended(&mut self, number: u32) {
        let over = |stream: &Stream| stream.client_ended && stream.session_ended;
        if self.streams.get(&number).is_some_and(over) {
            self.close(number);
        }
    }

    /// Forgets a session's stream, whatever of it is left.
    pub(super) fn close(&mut self, number: u32) {
        let Some(stream) = self.streams.remove(&number) else {
            return;
        };
        self.client.grant(0, stream.unsent() - stream.prepaid);
        if let Some(session) = self.sessions.get_mut(&stream.at) {
            session.waiting.remove(&number);
            if let Some(theirs) = stream.number {
                session.numbers.remove(&theirs);
            }
        }
        self.ended.add(number, stream.client_done);
    }

    pub(super) fn poll_sessions(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        for at in self.sessions.keys().copied().collect::<Vec<_>>() {
            moved |= self.poll_session(at, cx);
        }
        moved
    }

    pub(super) fn poll_session(&mut self, at: usize, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        let Some(session) = self.sessions.get_mut(&at) else {
            return false;
        };
        if let State::Opening(opening) = &mut session.state {
            match opening.as_mut().poll(cx) {
                Poll::Pending => return false,
                Poll::Ready(Ok(io)) => {
                    let mut peer = Peer::new(Side::new(io));
                    peer.allow(&self.settings);
                    peer.out.extend_from_slice(PREFACE);
                    write_settings(&self.settings, &mut peer.out);
                    peer.grant(0, RECEIVE);
                    session.state = State::Open(Box::new(peer));
                }
                Poll::Ready(Err(_)) => {
                    self.fall_back(at);
                    return true;
                }
            }
        }
        if session.retired && session.held.is_empty() && self.streams_of(at).is_empty() {
            self.sessions.remove(&at);
            return false;
        }
        self.pump(at);
        let mut frame = std::mem::take(&mut self.frame);
        loop {
            if self.client.is_busy() {
                break;
            }
            let Some(peer) = self.sessions.get_mut(&at).and_then(Session::peer) else {
                break;
            };
            match peer.next(&mut frame) {
                Ok(None) => {}
                Ok(Some(received)) => {
                    moved = true;
                    if self.take_from_session(at, received, &frame) {
                        continue;
                    }
                    self.lost(at);
                    break;
                }
                Err(Doubt) => {
                    self.lost(at);
                    break;
                }
            }
            if peer.side.ended || peer.side.received.is_full() {
                self.lost(at);
                moved = true;
                break;
            }
            match peer.side.poll_fill(cx) {
                Poll::Pending => break,
                Poll::Ready(_) => moved = true,
            }
        }
        self.frame = frame;
        moved
    }

    /// Sends what waits for this session.
    pub(super) fn pump(&mut self, at: usize) {
        let Some(session) = self.sessions.get_mut(&at) else {
            return;
        };
        for number in session.waiting.iter().copied().collect::<Vec<_>>() {
            if let (Some(session), Some(stream)) = (self.sessions.get_mut(&at), self.streams.get_mut(&number)) {
                session.pump(number, stream, &mut self.client);
            }
            self.close_if_ended(number);
        }
    }

    /// Takes one frame of a session; `false` when the session cannot go on.
    pub(super) fn take_from_session(&mut self, at: usize, received: Received, frame: &[u8]) -> bool {
        let Some(session) = self.sessions.get_mut(&at) else {
            return false;
        };
        let head = match received {
            Received::Headers(mut headers) => {
                if let Some(&number) = session.numbers.get(&headers.stream) {
                    headers.stream = number;
                    let end = headers.end;
                    self.down(Some(at), Down::Headers(headers));
                    self.session_ended(number, end);
                }
                return true;
            }
            Received::Frame(head) => head,
        };
        let known = session.numbers.get(&head.stream).copied();
        let payload = &frame[frame::HEAD..];
        if !session.greeted && (head.kind != kind::SETTINGS || head.has(flag::ACK)) {
            return false;
        }
        match (head.kind, head.stream) {
            (kind::SETTINGS, 0) if !head.has(flag::ACK) => {
                session.greeted = true;
                let more = session.configure(payload);
                for stream in self.streams.values_mut().filter(|stream| stream.at == at) {
                    stream.window += more;
                }
                if let Some(peer) = session.peer() {
                    peer.frame(kind::SETTINGS, flag::ACK, 0, &[]);
                }
                self.pump(at);
            }
            (kind::PING, 0) if !head.has(flag::ACK) => {
                if let Some(peer) = session.peer() {
                    peer.frame(kind::PING, flag::ACK, 0, payload);
                }
            }
            (kind::WINDOW_UPDATE, 0) => {
                session.window += i64::from(frame::number(payload));
                self.pump(at);
            }
            (kind::GOAWAY, 0) => {
                session.retired = true;
                let last = frame::number(payload);
                let said = payload.get(4..).map_or(0, frame::code_in);
                if said != 0 {
                    session.error = said;
                }
                let mine = self.streams_of(at);
                for number in mine {
                    let theirs = self.streams.get(&number).and_then(|stream| stream.number);
                    if theirs.is_none_or(|theirs| theirs > last) {
                        self.close(number);
                        if said == 0 {
                            self.refuse(number);
                        } else {
                            self.client.reset(number, said);
                        }
                    }
                }
            }
            (kind::DATA, 1..) => {
                session.room -= signed(head.length);
                if session.room < 0 {
                    return false;
                }
                let Some(number) = known else {
                    session.owes(head.length);
                    return true;
                };
                self.down(Some(at), Down::Frame(frame::renumbered(frame, number)));
                self.session_ended(number, head.has(flag::END_STREAM));
            }
            (kind::WINDOW_UPDATE, _) => {
                if let Some(stream) = known.and_then(|number| self.streams.get_mut(&number)) {
                    stream.window += i64::from(frame::number(payload));
                }
                self.pump(at);
            }
            (kind::RST_STREAM, _) => {
                if let Some(number) = known {
                    self.down(Some(at), Down::Frame(frame::renumbered(frame, number)));
                    self.close(number);
                }
            }
            _ => {}
        }
        true
    }

    pub(super) fn session_ended(&mut self, number: u32, end: bool) {
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.session_ended |= end;
        }
        self.close_if_ended(number);
    }

    /// The streams of a session that cannot be opened are the real app's: on the client's connection to it, where it has not
    /// had later ones yet.
    pub(super) fn fall_back(&mut self, at: usize) {
        let Some(session) = self.sessions.remove(&at) else {
            return;
        };
        for number in session.waiting {
            let Upstream::Session(id) = session.to else {
                self.close(number);
                self.refuse(number);
                continue;
            };
            self.summary.matched -= 1;
            self.summary.passed += 1;
            self.summary.fallbacks += 1;
            self.router.fallback(id);
            let in_turn = number > self.newest_real && !self.real.side.ended;
            match self.streams.get(&number) {
                Some(stream) if in_turn && stream.prepaid == 0 => self.put_back(number),
                _ => self.assign(number, Upstream::Real),
            }
        }
    }

    /// A lifted stream of which nothing was sent is the real app's.
    fn put_back(&mut self, number: u32) {
        let Some(stream) = self.streams.remove(&number) else {
            return;
        };
        self.newest_real = number;
        for up in stream.waiting {
            match up {
                Up::Headers(headers) => self.real.headers(number, &headers),
                Up::Data { bytes, end, .. } => {
                    let flags = if end { flag::END_STREAM } else { 0 };
                    self.real.frame(kind::DATA, flags, number, &bytes);
                }
            }
        }
        self.real.grant(number, stream.granted);
    }

    /// A session's connection is over: what it had not finished fails.
    pub(super) fn lost(&mut self, at: usize) {
        let error = self
            .sessions
            .get(&at)
            .map_or(code::INTERNAL_ERROR, |session| session.error);
        for number in self.streams_of(at) {
            let mut reset = Vec::with_capacity(frame::HEAD + 4);
            frame::write(kind::RST_STREAM, 0, number, &error.to_be_bytes(), &mut reset);
            self.down(Some(at), Down::Frame(reset));
            self.close(number);
        }
        if let Some(session) = self.sessions.get_mut(&at) {
            session.retired = true;
            session.state = State::Over;
        }
    }

    pub(super) fn streams_of(&self, at: usize) -> Vec<u32> {
        let mine = self.streams.iter().filter(|(_, stream)| stream.at == at);
        mine.map(|(number, _)| *number).collect()
    }
}
