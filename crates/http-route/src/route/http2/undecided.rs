//! Streams whose bodies decide where they go. They are lifted before it is known: one that the real app gets in the end has a
//! connection of its own to it, since the client's may have had later streams meanwhile.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

use super::Multiplex;
use super::peer::Headers;
use super::session::{NOBODY, Up};
use crate::http1::MAX_HEAD;
use crate::http2::{Judged, judge};
use crate::{Connection, Content, RequestHead, Router, Upstream, Upstreams};

/// The longest body that is waited for, in bytes: as much as fits behind the head of an HTTP/1 request.
const MAX_BODY: usize = MAX_HEAD;

/// The streams in the order in which they came, and how long each waits. Some may be decided.
#[derive(Default)]
pub(super) struct Undecided {
    order: VecDeque<(Instant, u32)>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<D: Connection, U: Upstreams, R: Router + ?Sized> Multiplex<'_, D, U, R> {
    pub(super) fn wait_for_body(&mut self, headers: Headers) {
        let until = Instant::now() + self.opener.patience();
        self.undecided.order.push_back((until, headers.stream));
        self.lift(headers);
    }

    /// Something was added to a stream that is undecided. The client may send as much again at once: what has come waits here,
    /// and others must not wait for it.
    pub(super) fn more_of_body(&mut self, number: u32) {
        let Some(stream) = self.streams.get_mut(&number) else {
            return;
        };
        let ended = match stream.waiting.back() {
            Some(Up::Data { bytes, end, .. }) => {
                stream.prepaid += bytes.len();
                self.client.grant(0, bytes.len());
                if !end {
                    self.client.grant(number, bytes.len());
                }
                *end
            }
            // Trailers.
            _ => true,
        };
        if ended || stream.prepaid > MAX_BODY {
            self.settle(number, ended);
        }
    }

    /// Decides with what there is.
    fn settle(&mut self, number: u32, whole: bool) {
        let Some(stream) = self.streams.get(&number) else {
            return;
        };
        let Some(Up::Headers(headers)) = stream.waiting.front() else {
            return;
        };
        let data = stream.waiting.iter().filter_map(|up| match up {
            Up::Data { bytes, .. } => Some(bytes.as_slice()),
            Up::Headers(_) => None,
        });
        let body = whole.then(|| data.collect::<Vec<_>>().concat());
        let content = body.as_deref().map_or(Content::Unseen, Content::Whole);
        let decide = |head: &RequestHead<'_>, content: Content<'_>| self.router.decide(head, content);
        let to = match judge(&headers.fields, content, Upstream::Real, decide) {
            Judged::To(to) => to,
            Judged::Improper | Judged::Undecided => Upstream::Real,
        };
        match to {
            Upstream::Real => self.summary.passed += 1,
            Upstream::Session(_) => self.summary.matched += 1,
        }
        self.assign(number, to);
    }

    /// Settles what has waited long enough.
    pub(super) fn poll_undecided(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while let Some(&(until, number)) = self.undecided.order.front() {
            let waits = self.streams.get(&number).is_some_and(|stream| stream.at == NOBODY);
            if waits && until > Instant::now() {
                let timer = self.undecided.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
                if timer.as_mut().poll(cx) == Poll::Pending {
                    return moved;
                }
                self.undecided.timer = None;
                continue;
            }
            self.undecided.order.pop_front();
            if waits {
                self.settle(number, false);
                moved = true;
            }
        }
        self.undecided.timer = None;
        moved
    }
}
