//! The wanted streams of an HTTP/2 connection, written as a connection of their own.
//!
//! It is for somebody who has a copy: there are no settings and windows in it, and header blocks refer to no table.

use std::collections::HashMap;

use super::{Decide, Piece};
use crate::Content;
use crate::counters::RawReason;
use crate::http1::MAX_HEAD;
use crate::http2::frame::{self, PREFACE, SAFE_PAYLOAD, flag, kind};
use crate::http2::{ClientReader, Fields, Judged, Said, hpack, judge};

/// Streams that are open at a time, and of these, those whose bodies are waited for. More are not wanted.
const MAX_STREAMS: usize = 4096;
const MAX_UNDECIDED: usize = 64;

#[derive(Default)]
pub(super) struct Streams {
    reader: ClientReader,
    kept: Kept,
}

/// What was found so far.
#[derive(Default)]
struct Kept {
    open: HashMap<u32, Stream>,
    undecided: usize,
    newest: u32,
    requests: u64,
    /// Something was written, and a header block was.
    begun: bool,
    out: Vec<u8>,
}

enum Stream {
    Wanted,
    Undecided { fields: Fields, body: Vec<u8> },
}

impl Streams {
    pub(super) fn requests(&self) -> u64 {
        self.kept.requests
    }

    /// # Errors
    /// When the rest cannot be read: what was wanted before has come out.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        decide: &mut Decide<'_>,
        each: &mut dyn FnMut(Piece<'_>),
    ) -> Result<(), RawReason> {
        let kept = &mut self.kept;
        let read = self
            .reader
            .feed(bytes, &mut |stream, said| kept.take(stream, said, decide));
        if !kept.out.is_empty() {
            each(Piece {
                bytes: &kept.out,
                wanted: true,
                head: false,
            });
            kept.out.clear();
        }
        read
    }
}

impl Kept {
    fn take(&mut self, number: u32, said: Said<'_>, decide: &mut Decide<'_>) {
        let Some(stream) = self.open.get_mut(&number) else {
            if let Said::Fields { fields, end } = said {
                self.request(number, fields, end, decide);
            }
            return;
        };
        match (stream, said) {
            (Stream::Wanted, Said::Fields { fields, end }) => self.fields(number, &fields, end),
            (Stream::Wanted, Said::Data { bytes, end }) => self.data(number, bytes, end),
            (Stream::Wanted, Said::Reset { code }) => {
                frame::write(kind::RST_STREAM, 0, number, &code.to_be_bytes(), &mut self.out);
                self.open.remove(&number);
            }
            (Stream::Undecided { .. }, Said::Reset { .. }) => drop(self.close(number)),
            (Stream::Undecided { body, .. }, Said::Data { bytes, end }) => {
                body.extend_from_slice(bytes);
                let fits = body.len() <= MAX_HEAD;
                if end || !fits {
                    self.settle(number, fits, end, decide);
                }
            }
            (Stream::Undecided { .. }, Said::Fields { fields, end }) => {
                self.settle(number, true, false, decide);
                if self.open.contains_key(&number) {
                    self.fields(number, &fields, end);
                }
            }
        }
    }

    fn request(&mut self, number: u32, fields: Fields, end: bool, decide: &mut Decide<'_>) {
        // Otherwise the trailers of a stream that is not wanted.
        if number <= self.newest || number.is_multiple_of(2) || self.open.len() >= MAX_STREAMS {
            return;
        }
        self.newest = number;
        let content = match end {
            true => Content::Whole(&[]),
            false if self.undecided >= MAX_UNDECIDED => Content::Unseen,
            false => Content::Coming,
        };
        match judge(&fields, content, false, &mut *decide) {
            Judged::Improper => {}
            Judged::Undecided => {
                self.requests += 1;
                self.undecided += 1;
                let body = Vec::new();
                self.open.insert(number, Stream::Undecided { fields, body });
            }
            Judged::To(wanted) => {
                self.requests += 1;
                if wanted {
                    self.open.insert(number, Stream::Wanted);
                    self.fields(number, &fields, end);
                }
            }
        }
    }

    /// Decides with what has come of the body: all of it, which may be the end of the stream, too.
    fn settle(&mut self, number: u32, whole: bool, end: bool, decide: &mut Decide<'_>) {
        let Some(Stream::Undecided { fields, body }) = self.close(number) else {
            return;
        };
        let content = if whole { Content::Whole(&body) } else { Content::Unseen };
        if matches!(judge(&fields, content, false, decide), Judged::To(true)) {
            self.open.insert(number, Stream::Wanted);
            self.fields(number, &fields, false);
            self.data(number, &body, end);
        }
    }

    fn close(&mut self, number: u32) -> Option<Stream> {
        let closed = self.open.remove(&number);
        self.undecided -= usize::from(matches!(closed, Some(Stream::Undecided { .. })));
        closed
    }

    fn fields(&mut self, number: u32, fields: &Fields, end: bool) {
        let first = !std::mem::replace(&mut self.begun, true);
        if first {
            self.out.extend_from_slice(PREFACE);
            frame::write(kind::SETTINGS, 0, 0, &[], &mut self.out);
        }
        let mut block = Vec::with_capacity(256);
        hpack::encode(fields, first, &mut block);
        frame::write_block(number, end, &[], &block, &mut self.out);
        if end {
            self.open.remove(&number);
        }
    }

    fn data(&mut self, number: u32, mut bytes: &[u8], end: bool) {
        while !bytes.is_empty() || end {
            let (now, rest) = bytes.split_at(bytes.len().min(SAFE_PAYLOAD));
            bytes = rest;
            let last = end && rest.is_empty();
            let flags = if last { flag::END_STREAM } else { 0 };
            frame::write(kind::DATA, flags, number, now, &mut self.out);
            if last {
                self.open.remove(&number);
                return;
            }
        }
    }
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams")
            .field("open", &self.kept.open.len())
            .finish_non_exhaustive()
    }
}
