//! Streams that sessions have: lifted out of the client's connection, and their answers put into it.

use std::task::{Context, Poll};

use super::super::side::Side;
use super::peer::{Doubt, Headers, Peer, Received};
use super::session::{Down, PREFACE, RECEIVE, Session, State, Stream, Up};
use super::{Multiplex, signed, write_settings};
use crate::http2::frame::{self, code, flag, kind};
use crate::{Connection, Router, SessionId, Upstream, Upstreams};

impl<'a, D: Connection, U: Upstreams, R: Router + ?Sized> Multiplex<'a, D, U, R> {
    /// The client is told to send it again, on another connection or stream.
    pub(super) fn refuse(&mut self, number: u32) {
        self.client.reset(number, code::REFUSED_STREAM);
        self.ended.add(number);
    }

    pub(super) fn steal(&mut self, id: SessionId, headers: Headers) {
        let number = headers.stream;
        let open = self
            .sessions
            .iter()
            .find(|(_, session)| session.id == id && !session.retired);
        let at = match open {
            Some((at, _)) => *at,
            None => {
                let opener = self.opener;
                let opening = Box::pin(async move { opener.open(Upstream::Session(id)).await.map(|side| side.io) });
                self.next_session += 1;
                self.sessions.insert(self.next_session, Session::new(id, opening));
                self.next_session
            }
        };
        let mut stream = Stream::new(at);
        stream.window = self.sessions.get(&at).map_or(frame::WINDOW, |session| session.initial);
        self.streams.insert(number, stream);
        self.newest_stolen = self.newest_stolen.max(number);
        self.up(number, Up::Headers(headers));
    }

    /// Something for a session's stream.
    pub(super) fn up(&mut self, number: u32, up: Up) {
        let Some(stream) = self.streams.get_mut(&number) else {
            return;
        };
        stream.waiting.push_back(up);
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
        self.client.grant(0, stream.unsent());
        if let Some(session) = self.sessions.get_mut(&stream.at) {
            session.waiting.remove(&number);
        }
        self.ended.add(number);
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
                    peer.out.extend_from_slice(PREFACE);
                    write_settings(&self.settings, &mut peer.out);
                    peer.grant(0, RECEIVE);
                    session.state = State::Open(peer);
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
            Received::Headers(headers) => {
                let (number, end) = (headers.stream, headers.end);
                if self.streams.get(&number).is_some_and(|stream| stream.at == at) {
                    self.down(Some(at), Down::Headers(headers));
                    self.session_ended(number, end);
                }
                return true;
            }
            Received::Frame(head) => head,
        };
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
                let mine = self.streams_of(at);
                for number in mine.into_iter().filter(|number| *number > last) {
                    self.client.reset(number, code::REFUSED_STREAM);
                    self.close(number);
                }
            }
            (kind::DATA, number) if number > 0 => {
                session.room -= signed(head.length);
                if session.room < 0 {
                    return false;
                }
                if self.streams.get(&number).is_some_and(|stream| stream.at == at) {
                    self.down(Some(at), Down::Frame(frame.to_vec()));
                    self.session_ended(number, head.has(flag::END_STREAM));
                } else {
                    session.owes(head.length);
                }
            }
            (kind::WINDOW_UPDATE, number) => {
                if let Some(stream) = self.streams.get_mut(&number) {
                    stream.window += i64::from(frame::number(payload));
                }
                self.pump(at);
            }
            (kind::RST_STREAM, number) if self.streams.get(&number).is_some_and(|stream| stream.at == at) => {
                self.down(Some(at), Down::Frame(frame.to_vec()));
                self.close(number);
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

    /// The streams of a session that cannot be opened are the real app's, where it has not had later ones yet.
    pub(super) fn fall_back(&mut self, at: usize) {
        let Some(session) = self.sessions.remove(&at) else {
            return;
        };
        for number in session.waiting {
            let Some(mut stream) = self.streams.remove(&number) else {
                continue;
            };
            self.summary.matched -= 1;
            self.summary.passed += 1;
            self.summary.fallbacks += 1;
            self.router.fallback(session.id);
            if number < self.newest_real || self.real.side.ended {
                self.client.grant(0, stream.unsent());
                self.refuse(number);
                continue;
            }
            self.newest_real = number;
            for up in stream.waiting {
                match up {
                    Up::Headers(headers) => {
                        self.real.headers(&headers);
                        self.real.grant(number, std::mem::take(&mut stream.granted));
                    }
                    Up::Data { bytes, end, .. } => {
                        let flags = if end { flag::END_STREAM } else { 0 };
                        self.real.frame(kind::DATA, flags, number, &bytes);
                    }
                }
            }
        }
    }

    /// A session's connection is over: what it had not finished fails.
    pub(super) fn lost(&mut self, at: usize) {
        for number in self.streams_of(at) {
            let mut reset = Vec::with_capacity(frame::HEAD + 4);
            frame::write(
                kind::RST_STREAM,
                0,
                number,
                &code::INTERNAL_ERROR.to_be_bytes(),
                &mut reset,
            );
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
