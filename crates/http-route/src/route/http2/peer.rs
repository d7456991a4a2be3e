//! One HTTP/2 connection: what comes in as frames, what goes out in order.

use std::io;
use std::task::{Context, Poll};

use super::super::side::Side;
use crate::Connection;
use crate::http2::frame::{self, Head, flag, kind, setting};
use crate::http2::hpack::{self, Decoder, Fields};

/// With so many bytes waiting to be sent to a peer, nothing more is read for it.
const ENOUGH: usize = 64 << 10;

/// What cannot be read without doubt: the rest is for its receiver to judge.
pub(super) struct Doubt;

pub(super) enum Received {
    /// The frame is in the buffer that was given.
    Frame(Head),
    Headers(Headers),
}

/// A header block and what its first frame said.
pub(super) struct Headers {
    pub stream: u32,
    pub end: bool,
    /// Empty, or the five bytes of the priority.
    pub priority: Vec<u8>,
    pub fields: Fields,
}

/// A header block of which not all has come.
struct Block {
    stream: u32,
    end: bool,
    priority: Vec<u8>,
    fragment: Vec<u8>,
    /// Its frames as they came.
    raw: Vec<u8>,
}

pub(super) struct Peer<S> {
    pub(super) side: Side<S>,
    pub(super) out: Vec<u8>,
    sent: usize,
    moved: bool,
    decoder: Decoder,
    /// The longest payload that it may send, in bytes.
    most: usize,
    block: Option<Block>,
    /// A header block was sent.
    begun: bool,
}

impl<S: Connection> Peer<S> {
    pub(super) fn new(side: Side<S>) -> Self {
        Self {
            side,
            out: Vec::new(),
            sent: 0,
            moved: false,
            decoder: Decoder::default(),
            most: frame::SAFE_PAYLOAD,
            block: None,
            begun: false,
        }
    }

    /// The peer was told this. What is lowered again is not held against it: when it has heard of that is not known.
    pub(super) fn allow(&mut self, settings: &[(u16, u32)]) {
        for &(identifier, value) in settings {
            match identifier {
                setting::MAX_FRAME_SIZE => self.most = self.most.max((value as usize).min(frame::MAX_PAYLOAD)),
                setting::HEADER_TABLE_SIZE => self.decoder.allow(value as usize),
                _ => {}
            }
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.out.len() - self.sent >= ENOUGH
    }

    /// Even answers to what it says itself are too many for it.
    pub(super) fn is_flooded(&self) -> bool {
        self.out.len() - self.sent >= 16 * ENOUGH
    }

    pub(super) fn is_idle(&self) -> bool {
        self.out.is_empty()
    }

    pub(super) fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        frame::write(kind, flags, stream, payload, &mut self.out);
    }

    /// On a stream, which is not always the one that they came on.
    pub(super) fn headers(&mut self, stream: u32, headers: &Headers) {
        let mut block = Vec::with_capacity(256);
        hpack::encode(&headers.fields, !self.begun, &mut block);
        self.begun = true;
        frame::write_block(stream, headers.end, &headers.priority, &block, &mut self.out);
    }

    pub(super) fn reset(&mut self, stream: u32, code: u32) {
        self.frame(kind::RST_STREAM, 0, stream, &code.to_be_bytes());
    }

    /// Lets the peer send so many bytes more.
    pub(super) fn grant(&mut self, stream: u32, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX >> 1);
        if bytes > 0 {
            self.frame(kind::WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
        }
    }

    /// Sends what it can to an upstream; whether that was any. One that breaks meanwhile shows it to the reader, behind what
    /// it still had to say.
    pub(super) fn pass_on(&mut self, cx: &mut Context<'_>) -> bool {
        if let Poll::Ready(Err(_)) = self.poll_send(cx) {
            self.moved = !self.out.is_empty();
            self.out.clear();
            self.sent = 0;
        }
        self.moved
    }

    /// Whether the last [`Self::poll_send`] has sent anything.
    pub(super) fn has_sent(&self) -> bool {
        self.moved
    }

    /// Sends what it can; ready when all is sent.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.moved = false;
        while self.sent < self.out.len() {
            match self.side.poll_write(cx, &self.out[self.sent..]) {
                Poll::Ready(Ok(count)) => {
                    self.sent += count;
                    self.moved = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    if self.sent > self.out.len() / 2 {
                        self.out.drain(..self.sent);
                        self.sent = 0;
                    }
                    return Poll::Pending;
                }
            }
        }
        self.sent = 0;
        if self.out.capacity() > ENOUGH {
            self.out = Vec::new();
        } else {
            self.out.clear();
        }
        self.side.poll_flush(cx)
    }

    /// The next frame or header block, of what was received; `None` when that is not all there.
    pub(super) fn next(&mut self, frame: &mut Vec<u8>) -> Result<Option<Received>, Doubt> {
        loop {
            let bytes = self.side.received.bytes();
            let Some(head) = Head::parse(bytes) else {
                return Ok(None);
            };
            if head.length > self.most {
                return Err(Doubt);
            }
            let length = frame::HEAD + head.length;
            let Some(whole) = bytes.get(..length) else {
                return Ok(None);
            };
            let block = match (head.kind, self.block.take()) {
                (kind::HEADERS, None) => Block::begin(head, whole).ok_or(Doubt)?,
                (kind::CONTINUATION, Some(mut block)) if block.stream == head.stream => {
                    block.fragment.extend_from_slice(&whole[frame::HEAD..]);
                    block.raw.extend_from_slice(whole);
                    block
                }
                (kind::CONTINUATION | kind::PUSH_PROMISE, None) => return Err(Doubt),
                (_, None) => {
                    frame.clear();
                    frame.extend_from_slice(whole);
                    self.side.received.consume(length);
                    return Ok(Some(Received::Frame(head)));
                }
                (_, begun) => {
                    self.block = begun;
                    return Err(Doubt);
                }
            };
            self.side.received.consume(length);
            if !head.has(flag::END_HEADERS) && block.fragment.len() <= frame::MAX_BLOCK {
                self.block = Some(block);
                continue;
            }
            let decoded = match self.decoder.decode(&block.fragment) {
                Ok(fields) if head.has(flag::END_HEADERS) => fields,
                _ => {
                    self.block = Some(block);
                    return Err(Doubt);
                }
            };
            return Ok(Some(Received::Headers(Headers {
                stream: block.stream,
                end: block.end,
                priority: block.priority,
                fields: decoded,
            })));
        }
    }

    /// What was received and not handed out, as it came.
    pub(super) fn rest(&mut self, out: &mut Vec<u8>) {
        if let Some(block) = self.block.take() {
            out.extend_from_slice(&block.raw);
        }
        let received = self.side.received.bytes();
        out.extend_from_slice(received);
        let length = received.len();
        self.side.received.consume(length);
    }
}

impl Block {
    fn begin(head: Head, whole: &[u8]) -> Option<Self> {
        let (priority, fragment) = frame::block(head, &whole[frame::HEAD..])?;
        Some(Self {
            stream: head.stream,
            end: head.has(flag::END_STREAM),
            priority: priority.to_vec(),
            fragment: fragment.to_vec(),
            raw: whole.to_vec(),
        })
    }
}
