//! What the client says: requests, each for the one it belongs to, and what concerns its connection.

use std::task::{Context, Poll};

use super::peer::{Doubt, Headers, Received};
use super::session::{Session, Up};
use super::{Multiplex, lowered, signed, write_settings};
use crate::counters::{End, RawReason};
use crate::http2::frame::{self, Head, code, flag, kind, setting};
use crate::http2::{Judged, judge};
use crate::{Connection, Content, RequestHead, Router, Upstream, Upstreams};

impl<D: Connection, U: Upstreams, R: Router + ?Sized> Multiplex<'_, D, U, R> {
    /// Takes what the client says, as long as there is room for it.
    pub(super) fn poll_client(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut moved = false;
        loop {
            if self.real.is_busy() || self.client.is_flooded() || self.failed {
                return Ok(moved);
            }
            if self.client_raw {
                self.client.rest(&mut self.real.out);
            } else if self.frame_of_client() {
                moved = true;
                continue;
            }
            if self.client.side.ended {
                // The beginning of a frame that never came.
                self.client.rest(&mut self.real.out);
                return Ok(moved);
            }
            if self.client.side.received.is_full() {
                return Ok(moved);
            }
            match self.client.side.poll_fill(cx) {
                Poll::Pending => return Ok(moved),
                Poll::Ready(Ok(())) => moved = true,
                Poll::Ready(Err(_)) => return Err(End::ClientReset),
            }
        }
    }

    /// Takes one frame of the client; `false` when there is none.
    pub(super) fn frame_of_client(&mut self) -> bool {
        let mut frame = std::mem::take(&mut self.frame);
        let found = match self.client.next(&mut frame) {
            Ok(None) => false,
            Ok(Some(Received::Headers(headers))) => {
                self.request(headers);
                true
            }
            Ok(Some(Received::Frame(head))) => {
                self.take_from_client(head, &frame);
                true
            }
            Err(Doubt) => {
                self.client_raw = true;
                self.is_raw(RawReason::BadFrame);
                self.client.rest(&mut self.real.out);
                true
            }
        };
        self.frame = frame;
        found
    }

    /// A header block of the client: a request, or the end of one.
    pub(super) fn request(&mut self, headers: Headers) {
        let number = headers.stream;
        if let Some(stream) = self.streams.get_mut(&number) {
            if stream.client_done {
                return self.refuse_stream(number, code::STREAM_CLOSED);
            }
            // Trailers end a stream and have no pseudo-fields.
            if !headers.end || headers.fields.iter().any(|(name, _)| name.starts_with(b":")) {
                return self.refuse_stream(number, code::PROTOCOL_ERROR);
            }
            stream.client_done = true;
            self.up(number, Up::Headers(headers));
            return;
        }
        match self.ended.known.get(&number) {
            Some(true) => return self.fail(code::STREAM_CLOSED),
            Some(false) => return,
            None => {}
        }
        if number < self.newest && number > self.newest_real {
            return self.fail(code::PROTOCOL_ERROR);
        }
        let new = number > self.newest && number % 2 == 1;
        self.newest = self.newest.max(number);
        if new {
            let content = if headers.end {
                Content::Whole(&[])
            } else {
                Content::Coming
            };
            let decide = |head: &RequestHead<'_>, content: Content<'_>| self.router.decide(head, content);
            let judged = judge(&headers.fields, content, Upstream::Real, decide);
            self.summary.requests += u64::from(!matches!(judged, Judged::Improper));
            match judged {
                Judged::Undecided => return self.wait_for_body(headers),
                Judged::To(to @ Upstream::Session(_)) => {
                    self.summary.matched += 1;
                    self.lift(headers);
                    return self.assign(number, to);
                }
                Judged::To(Upstream::Real) => self.summary.passed += 1,
                Judged::Improper => {}
            }
            if self.leaving && self.real.side.ended {
                return self.refuse(number);
            }
            self.newest_real = number;
        }
        self.real.headers(number, &headers);
    }

    pub(super) fn take_from_client(&mut self, head: Head, frame: &[u8]) {
        let payload = &frame[frame::HEAD..];
        if head.stream == 0 {
            return self.connection_of_client(head, payload, frame);
        }
        let ended = self.ended.known.get(&head.stream).copied();
        if ended.is_none() && !self.streams.contains_key(&head.stream) {
            self.real.out.extend_from_slice(frame);
            return;
        }
        if !self.is_well_formed(head, payload) {
            return;
        }
        if let Some(client_done) = ended {
            if head.kind == kind::DATA {
                self.client.grant(0, head.length);
                if client_done {
                    self.client.reset(head.stream, code::STREAM_CLOSED);
                }
            }
            return;
        }
        let Some(stream) = self.streams.get_mut(&head.stream) else {
            return;
        };
        let at = stream.at;
        match head.kind {
            kind::DATA if stream.client_done => {
                self.client.grant(0, head.length);
                self.refuse_stream(head.stream, code::STREAM_CLOSED);
            }
            kind::DATA => {
                let Some(content) = frame::unpadded(head, payload) else {
                    // The real app refuses it as it would any that is out of place.
                    self.real.out.extend_from_slice(frame);
                    return;
                };
                // Padding goes no further.
                let padding = head.length - content.len();
                self.client.grant(0, padding);
                self.client.grant(head.stream, padding);
                let end = head.has(flag::END_STREAM);
                stream.client_done = end;
                let up = Up::Data {
                    bytes: content.to_vec(),
                    sent: 0,
                    end,
                };
                self.up(head.stream, up);
            }
            kind::WINDOW_UPDATE if stream.number.is_none() => {
                stream.granted += frame::number(payload) as usize;
                if signed(stream.granted) + frame::WINDOW > frame::MAX_WINDOW {
                    self.refuse_stream(head.stream, code::FLOW_CONTROL_ERROR);
                }
            }
            kind::RST_STREAM | kind::WINDOW_UPDATE => {
                if let Some(number) = stream.number
                    && let Some(peer) = self.sessions.get_mut(&at).and_then(Session::peer)
                {
                    peer.frame(head.kind, head.flags, number, payload);
                }
                if head.kind == kind::RST_STREAM {
                    stream.client_done = true;
                    self.close(head.stream);
                }
            }
            // These concern no stream: the real app's to judge.
            kind::SETTINGS | kind::PING | kind::GOAWAY => self.real.out.extend_from_slice(frame),
            _ => {}
        }
    }

    /// Refuses what is wrong in a frame of a lifted stream, whatever became of the stream.
    fn is_well_formed(&mut self, head: Head, payload: &[u8]) -> bool {
        match head.kind {
            kind::RST_STREAM | kind::WINDOW_UPDATE if head.length != 4 => self.fail(code::FRAME_SIZE_ERROR),
            kind::PRIORITY if head.length != 5 => self.refuse_stream(head.stream, code::FRAME_SIZE_ERROR),
            kind::WINDOW_UPDATE if frame::number(payload) == 0 => {
                self.refuse_stream(head.stream, code::PROTOCOL_ERROR);
            }
            _ => return true,
        }
        false
    }

    /// The client breaks the rules on a lifted stream, as its upstream would say.
    fn refuse_stream(&mut self, number: u32, code: u32) {
        self.client.reset(number, code);
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.client_done = true;
            if let Some(theirs) = stream.number
                && let Some(peer) = self.sessions.get_mut(&stream.at).and_then(Session::peer)
            {
                peer.reset(theirs, code::CANCEL);
            }
        }
        self.close(number);
    }

    /// The client breaks the rules of the connection where the real app cannot see it.
    fn fail(&mut self, code: u32) {
        let payload = [self.newest.to_be_bytes(), code.to_be_bytes()].concat();
        self.client.frame(kind::GOAWAY, 0, 0, &payload);
        self.failed = true;
    }

    /// What concerns the client's connection as a whole.
    pub(super) fn connection_of_client(&mut self, head: Head, payload: &[u8], frame: &[u8]) {
        match head.kind {
            kind::SETTINGS if !head.has(flag::ACK) && head.length.is_multiple_of(6) => {
                let mut settings: Vec<(u16, u32)> = frame::settings(payload).map(lowered).collect();
                for (identifier, value) in &mut settings {
                    if *identifier == setting::ENABLE_PUSH && *value == 1 {
                        *value = 0;
                    }
                }
                if !self.configured
                    && settings
                        .iter()
                        .all(|(identifier, _)| *identifier != setting::ENABLE_PUSH)
                {
                    settings.push((setting::ENABLE_PUSH, 0));
                }
                self.configured = true;
                self.real.allow(&settings);
                write_settings(&settings, &mut self.real.out);
                settings.retain(|(identifier, _)| *identifier != setting::HEADER_TABLE_SIZE);
                for session in self.sessions.values_mut() {
                    if let Some(peer) = session.peer() {
                        peer.allow(&settings);
                        write_settings(&settings, &mut peer.out);
                    }
                }
                for (identifier, value) in settings {
                    self.settings.retain(|(known, _)| *known != identifier);
                    self.settings.push((identifier, value));
                }
            }
            kind::WINDOW_UPDATE if head.length == 4 && frame::number(payload) > 0 => {
                let granted = frame::number(payload);
                self.window += i64::from(granted);
                let withheld = granted.min(self.debt);
                self.debt -= withheld;
                self.real.grant(0, (granted - withheld) as usize);
            }
            _ => self.real.out.extend_from_slice(frame),
        }
    }
}
