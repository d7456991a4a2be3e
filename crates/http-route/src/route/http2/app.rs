//! What the real app says: the client's as it is, but for header blocks and what lets too much through.

use std::task::{Context, Poll};

use super::peer::{Doubt, Received};
use super::session::Down;
use super::{Multiplex, lowered, signed, write_settings};
use crate::counters::{End, RawReason};
use crate::http2::frame::{self, Head, flag, kind};
use crate::{Connection, Router, Upstreams};

/// What the real app has sent and waits for the client's window, in frames; then it is not read.
const MAX_HELD: usize = 64;

impl<D: Connection, U: Upstreams, R: Router + ?Sized> Multiplex<'_, D, U, R> {
    /// Takes what the real app says, as long as there is room for it.
    pub(super) fn poll_real(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut moved = false;
        loop {
            if self.client.is_busy() || self.held.len() >= MAX_HELD {
                return Ok(moved);
            }
            if self.real_raw {
                self.real.rest(&mut self.client.out);
            } else if self.frame_of_real() {
                moved = true;
                continue;
            }
            if self.real.side.ended {
                // The beginning of a frame that never came.
                self.real.rest(&mut self.client.out);
                return Ok(moved);
            }
            if self.real.side.received.is_full() {
                return Ok(moved);
            }
            match self.real.side.poll_fill(cx) {
                Poll::Pending => return Ok(moved),
                Poll::Ready(Ok(())) => moved = true,
                Poll::Ready(Err(_)) => {
                    self.client.side.io.reset();
                    return Err(End::UpstreamBroke { reset: true });
                }
            }
        }
    }

    pub(super) fn frame_of_real(&mut self) -> bool {
        if !self.greeted {
            // The kind of its first frame tells.
            let Some(kind) = self.real.side.received.bytes().get(3) else {
                return false;
            };
            if *kind != kind::SETTINGS {
                self.real_gives_up(RawReason::Http2);
                return true;
            }
            self.greeted = true;
        }
        let mut frame = std::mem::take(&mut self.frame);
        let found = match self.real.next(&mut frame) {
            Ok(None) => false,
            Ok(Some(Received::Headers(headers))) => {
                self.down(None, Down::Headers(headers));
                true
            }
            Ok(Some(Received::Frame(head))) => {
                self.take_from_real(head, &frame);
                true
            }
            Err(Doubt) => {
                self.real_gives_up(RawReason::BadFrame);
                true
            }
        };
        self.frame = frame;
        found
    }

    /// What the real app says is not HTTP/2, or none that is understood: it is the client's to judge.
    pub(super) fn real_gives_up(&mut self, reason: RawReason) {
        self.real_raw = true;
        self.client_raw = true;
        self.is_raw(reason);
        self.sessions.clear();
        for number in self.streams.keys().copied().collect::<Vec<_>>() {
            self.close(number);
        }
    }

    pub(super) fn take_from_real(&mut self, head: Head, frame: &[u8]) {
        let payload = &frame[frame::HEAD..];
        match head.kind {
            kind::SETTINGS if !head.has(flag::ACK) && head.length.is_multiple_of(6) => {
                let settings: Vec<_> = frame::settings(payload).map(lowered).collect();
                self.client.allow(&settings);
                write_settings(&settings, &mut self.client.out);
            }
            kind::GOAWAY if head.length >= 8 => {
                self.leaving = true;
                // A session's stream that the real app has not heard of is not one that it has not done.
                let last = frame::number(payload).max(self.newest_lifted);
                let payload = [&last.to_be_bytes(), &payload[4..]].concat();
                self.client.frame(head.kind, head.flags, 0, &payload);
            }
            kind::DATA if self.held.is_empty() && self.fits(head.length) => {
                self.window -= signed(head.length);
                self.client.out.extend_from_slice(frame);
            }
            kind::DATA | kind::RST_STREAM => self.down(None, Down::Frame(frame.to_vec())),
            _ => self.client.out.extend_from_slice(frame),
        }
    }
}
