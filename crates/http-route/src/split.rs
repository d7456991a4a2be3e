//! Splits a client's byte stream into requests that are wanted and those that are not, for the mirror.

mod http2;

use crate::connection::Content;
use crate::counters::RawReason;
use crate::detect::{Detected, detect};
use crate::http1::{BodyScan, FieldStorage, HeadScan, MAX_HEAD, RequestHead};
use crate::http2::Heard;

/// A run of the client's bytes, in order and without gaps: all pieces together are the input. Of HTTP/2 only what is wanted
/// comes, written anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    pub bytes: &'a [u8],
    /// It belongs to a request that is wanted.
    pub wanted: bool,
    /// It begins a request, with its whole head.
    pub head: bool,
}

/// Fed with what one client sends, from the connection's first byte, in pieces of any size.
///
/// What cannot be framed without doubt is not wanted for the rest of the connection, unless it happens inside a wanted
/// request: then the rest stays with that request, as it does when the connection is routed. Or unless requests are only
/// [left out](Self::leaving_out).
#[derive(Debug, Default)]
pub struct RequestSplitter {
    state: State,
    /// The beginning of a head, or of a request that is undecided; holds no more than [`MAX_HEAD`] bytes.
    partial: Vec<u8>,
    scan: HeadScan,
    begun: bool,
    requests: u64,
    raw: Option<RawReason>,
    /// What is taken apart no further is wanted.
    rest: bool,
    http2_as_it_is: bool,
}

/// Whether a request is wanted.
type Decide<'a> = dyn FnMut(&RequestHead<'_>, Content<'_>) -> Option<bool> + 'a;

#[derive(Debug, Default)]
enum State {
    #[default]
    Head,
    /// Its body is waited for; all of it that has come is in `partial`.
    Undecided {
        /// Of the head.
        length: usize,
        scan: BodyScan,
        content: Vec<u8>,
    },
    Body {
        scan: BodyScan,
        wanted: bool,
        /// Other bytes than a request may follow it.
        switches: bool,
    },
    /// Behind a request that asked for another protocol: the next bytes say whether it was granted.
    Switched {
        wanted: bool,
    },
    Rest {
        wanted: bool,
    },
    Http2(Box<http2::Streams>),
}

impl RequestSplitter {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// For somebody who wants everything but some requests: what cannot be framed is wanted, and comes as it is. So does HTTP/2,
    /// unless it has to be taken apart.
    #[must_use]
    pub fn leaving_out(http2: bool) -> Self {
        Self {
            rest: true,
            http2_as_it_is: !http2,
            ..Self::default()
        }
    }

    /// Requests seen so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        match &self.state {
            State::Http2(streams) => streams.requests(),
            _ => self.requests,
        }
    }

    /// Why the rest is not split, if it is not.
    #[must_use]
    pub fn raw(&self) -> Option<RawReason> {
        self.raw
    }

    /// More requests may begin; else the rest of the connection is of one piece.
    #[must_use]
    pub fn splits(&self) -> bool {
        !matches!(self.state, State::Rest { .. })
    }

    /// Takes the next bytes; `decide` is asked for each request as a [`crate::Router`] is, `each` gets every piece that is
    /// decided.
    pub fn feed(&mut self, mut bytes: &[u8], decide: &mut Decide<'_>, each: &mut dyn FnMut(Piece<'_>)) {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Rest { wanted } => {
                    each(Piece {
                        bytes,
                        wanted: *wanted,
                        head: false,
                    });
                    return;
                }
                State::Http2(streams) => {
                    if let Err(reason) = streams.feed(bytes, decide, each) {
                        self.requests = streams.requests();
                        self.give_up(reason, false);
                    }
                    return;
                }
                State::Undecided { .. } => bytes = self.undecided(bytes, decide, each),
                State::Body { scan, wanted, switches } => {
                    let (wanted, switches) = (*wanted, *switches);
                    match scan.scan(bytes) {
                        Ok(scanned) => {
                            let (now, rest) = bytes.split_at(scanned.taken);
                            if !now.is_empty() {
                                each(Piece {
                                    bytes: now,
                                    wanted,
                                    head: false,
                                });
                            }
                            bytes = rest;
                            if scanned.done {
                                self.state = after(wanted, switches);
                            }
                        }
                        Err(reason) => self.give_up(reason, wanted),
                    }
                }
                State::Head | State::Switched { .. } => {
                    // The usual case needs no copy: the whole head is in these bytes.
                    let taken = if self.partial.is_empty() {
                        let taken = self.head(bytes, decide, each);
                        if taken == 0 && matches!(self.state, State::Head | State::Switched { .. }) {
                            self.partial.extend_from_slice(bytes);
                            return;
                        }
                        taken
                    } else {
                        self.partial_head(bytes, decide, each)
                    };
                    bytes = &bytes[taken..];
                }
            }
        }
    }

    /// The connection ended: what is left of an unfinished head comes out, as what cannot be framed.
    pub fn finish(&mut self, each: &mut dyn FnMut(Piece<'_>)) {
        if !self.partial.is_empty() {
            let wanted = self.rest || matches!(self.state, State::Switched { wanted: true });
            each(Piece {
                bytes: &self.partial,
                wanted,
                head: false,
            });
            self.partial = Vec::new();
        }
        self.requests = self.requests();
        self.state = State::Rest { wanted: false };
    }

    /// Adds bytes to the partial head and judges it. Returns how many of `bytes` were used up.
    fn partial_head(&mut self, bytes: &[u8], decide: &mut Decide<'_>, each: &mut dyn FnMut(Piece<'_>)) -> usize {
        let before = self.partial.len();
        let added = bytes.len().min(MAX_HEAD.saturating_sub(before));
        self.partial.extend_from_slice(&bytes[..added]);
        let mut partial = std::mem::take(&mut self.partial);
        let taken = self.head(&partial, decide, each);
        match self.state {
            // No verdict yet.
            State::Head | State::Switched { .. } if taken == 0 => {
                self.partial = partial;
                added
            }
            // Without a head, the bytes held so far go where the rest goes.
            State::Rest { wanted } if taken == 0 => {
                each(Piece {
                    bytes: &partial,
                    wanted,
                    head: false,
                });
                added
            }
            State::Http2(_) => {
                self.feed(&partial, decide, each);
                added
            }
            // What belongs to it is kept.
            State::Undecided { .. } => taken.saturating_sub(before),
            _ => {
                partial.clear();
                self.partial = partial;
                taken.saturating_sub(before)
            }
        }
    }

    /// Takes more of a body that decides; returns what is left of `bytes`.
    fn undecided<'a>(&mut self, bytes: &'a [u8], decide: &mut Decide<'_>, each: &mut dyn FnMut(Piece<'_>)) -> &'a [u8] {
        let State::Undecided {
            length,
            mut scan,
            mut content,
        } = std::mem::take(&mut self.state)
        else {
            return bytes;
        };
        let room = MAX_HEAD.saturating_sub(self.partial.len());
        let scanned = scan.scan_content(&bytes[..bytes.len().min(room)], |run| {
            content.extend_from_slice(run);
        });
        let taken = scanned.map_or(0, |scanned| scanned.taken);
        self.partial.extend_from_slice(&bytes[..taken]);
        let rest = &bytes[taken..];
        let known = match scanned {
            Ok(scanned) if scanned.done => Content::Whole(&content),
            Ok(_) if rest.is_empty() => {
                self.state = State::Undecided { length, scan, content };
                return rest;
            }
            // It is too long, or malformed.
            _ => Content::Unseen,
        };
        let partial = std::mem::take(&mut self.partial);
        let (head_bytes, body) = partial.split_at(length);
        let mut storage = FieldStorage::default();
        let (wanted, switches) = match RequestHead::parse(head_bytes, &mut storage) {
            Ok(head) => (decide(&head, known) == Some(true), switches(&head)),
            Err(_) => (false, false),
        };
        for (bytes, head) in [(head_bytes, true), (body, false)] {
            if !bytes.is_empty() {
                each(Piece { bytes, wanted, head });
            }
        }
        match scanned {
            Ok(scanned) if scanned.done => self.state = after(wanted, switches),
            Ok(_) => self.state = State::Body { scan, wanted, switches },
            Err(reason) => self.give_up(reason, wanted),
        }
        rest
    }

    /// Judges the head at the beginning of `bytes`. Returns its length, 0 when it is incomplete or when there is none.
    fn head(&mut self, bytes: &[u8], decide: &mut Decide<'_>, each: &mut dyn FnMut(Piece<'_>)) -> usize {
        let switched = match self.state {
            State::Switched { wanted } => Some(wanted),
            _ => None,
        };
        if !self.begun || switched.is_some() {
            match (detect(bytes), switched) {
                (Detected::NeedMore, _) => return 0,
                (Detected::Http1, _) => {}
                (_, Some(wanted)) => {
                    self.state = State::Rest { wanted };
                    return 0;
                }
                (Detected::Tls, None) => return self.give_up_at_head(RawReason::Tls),
                (Detected::Http2, None) if self.http2_as_it_is => {
                    self.state = State::Rest { wanted: true };
                    return 0;
                }
                (Detected::Http2, None) => {
                    self.state = State::Http2(Box::default());
                    return 0;
                }
                (Detected::Other, None) => return self.give_up_at_head(RawReason::NotHttp),
            }
            self.begun = true;
            self.state = State::Head;
        }
        let length = match self.scan.scan(bytes) {
            Ok(Some(length)) => length,
            Ok(None) => return 0,
            Err(reason) => return self.give_up_at_head(reason),
        };
        self.scan = HeadScan::default();
        let mut storage = FieldStorage::default();
        let parsed = RequestHead::parse(&bytes[..length], &mut storage);
        match parsed.and_then(|head| head.body().map(|body| (head, body))) {
            Ok((head, body)) => {
                self.requests += 1;
                let mut scan = BodyScan::new(body);
                let empty = scan.scan(&[]).is_ok_and(|scanned| scanned.done);
                let known = if empty { Content::Whole(&[]) } else { Content::Coming };
                let Some(wanted) = decide(&head, known) else {
                    self.partial = bytes[..length].to_vec();
                    let content = Vec::new();
                    self.state = State::Undecided { length, scan, content };
                    return length;
                };
                let switches = switches(&head);
                each(Piece {
                    bytes: head.bytes(),
                    wanted,
                    head: true,
                });
                self.state = if empty {
                    after(wanted, switches)
                } else {
                    State::Body { scan, wanted, switches }
                };
                length
            }
            Err(reason) => self.give_up_at_head(reason),
        }
    }

    fn give_up_at_head(&mut self, reason: RawReason) -> usize {
        self.give_up(reason, self.rest);
        0
    }

    fn give_up(&mut self, reason: RawReason, wanted: bool) {
        self.raw = Some(reason);
        self.state = State::Rest { wanted };
    }
}

/// Other bytes than a request may follow this one.
fn switches(head: &RequestHead<'_>) -> bool {
    head.is_upgrade() || head.is_connect()
}

/// What comes behind a request.
fn after(wanted: bool, switches: bool) -> State {
    if switches {
        State::Switched { wanted }
    } else {
        State::Head
    }
}

/// # Panics
/// When it makes a difference how the bytes are cut, or some are lost.
pub(crate) fn fuzz(data: &[u8]) {
    let whole = split(data, data.len().max(1));
    for size in [1, 2, 3, 7, 64] {
        let cut = split(data, size);
        assert_eq!(whole, cut, "the split depends on how the bytes are cut");
    }
}

/// What is wanted, by a rule that any head can fulfil: which bytes, or what is said on the wanted streams; and why the
/// splitter gave up.
#[derive(Debug, PartialEq)]
struct Split {
    wanted: Vec<bool>,
    said: Heard,
    requests: u64,
    raw: Option<RawReason>,
}

fn split(data: &[u8], size: usize) -> Split {
    let mut splitter = RequestSplitter::new();
    let mut all = Vec::with_capacity(data.len());
    let mut wanted = Vec::with_capacity(data.len());
    let mut each = |piece: Piece<'_>| {
        all.extend_from_slice(piece.bytes);
        wanted.resize(all.len(), piece.wanted);
    };
    let mut decide = |head: &RequestHead<'_>, content: Content<'_>| match (head.target().len() % 3, content) {
        (0, _) => Some(false),
        (1, Content::Coming) => None,
        (1, Content::Whole(content)) => Some(content.len().is_multiple_of(2)),
        _ => Some(true),
    };
    for bytes in data.chunks(size) {
        splitter.feed(bytes, &mut decide, &mut each);
    }
    splitter.finish(&mut each);
    let mut said = Heard::new();
    if detect(data) == Detected::Http2 {
        let marked = all.iter().zip(&wanted).filter(|(_, wanted)| **wanted);
        let written: Vec<u8> = marked.map(|(byte, _)| *byte).collect();
        wanted.clear();
        let read = crate::http2::heard(&written, written.len().max(1), &mut said);
        assert!(read.is_ok(), "what was written cannot be read");
    } else {
        assert_eq!(all, data, "bytes were lost or added");
    }
    Split {
        wanted,
        said,
        requests: splitter.requests(),
        raw: splitter.raw(),
    }
}
