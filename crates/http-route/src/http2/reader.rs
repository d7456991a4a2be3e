//! A client's bytes, read by somebody who only listens: what it says on its streams.
//!
//! Nobody answers it here, so what it was allowed is not known: frames may be of any length, and bodies are handed out as
//! they come. Header blocks are bounded as everywhere.

use super::Fields;
use super::frame::{self, Head, MAX_BLOCK, PREFACE, flag, kind};
use super::hpack::{Decoder, MAX_TABLE};
use crate::RawReason;

/// What a client says on a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said<'a> {
    /// A request, or the trailers of one.
    Fields { fields: Fields, end: bool },
    /// A run of a body, without padding.
    Data { bytes: &'a [u8], end: bool },
    /// It takes the request back, and why (an error code of RFC 9113 section 7).
    Reset { code: u32 },
}

/// Takes a connection's bytes from the first one on, in pieces of any size.
pub struct ClientReader {
    decoder: Decoder,
    state: State,
    /// What has come of a frame's head, or of a payload that is needed whole.
    partial: Vec<u8>,
    /// A header block of which not all has come.
    block: Option<Block>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// So many bytes of it have come.
    Preface(usize),
    Head,
    /// Needed whole.
    Payload(Head),
    /// The first byte of the payload says how long the padding is.
    Padding(Head),
    Data {
        head: Head,
        /// Of the content.
        left: usize,
        padding: usize,
    },
    /// Of no interest, and so many bytes long.
    Skip(usize),
    Broken(RawReason),
}

#[derive(Debug)]
struct Block {
    stream: u32,
    end: bool,
    fragment: Vec<u8>,
}

impl Default for ClientReader {
    fn default() -> Self {
        let mut decoder = Decoder::default();
        // The server's settings may allow it.
        decoder.allow(MAX_TABLE);
        Self {
            decoder,
            state: State::Preface(0),
            partial: Vec::new(),
            block: None,
        }
    }
}

impl ClientReader {
    /// Takes the next bytes; `each` gets streams and what is said on them.
    ///
    /// # Errors
    /// When they cannot be read without doubt, and for all that follows.
    pub fn feed(&mut self, mut bytes: &[u8], each: &mut dyn FnMut(u32, Said<'_>)) -> Result<(), RawReason> {
        while !bytes.is_empty() {
            match self.step(bytes, each) {
                Ok(taken) => bytes = &bytes[taken..],
                Err(reason) => {
                    self.state = State::Broken(reason);
                    return Err(reason);
                }
            }
        }
        Ok(())
    }

    /// Takes at least one of `bytes`, which are not empty.
    fn step(&mut self, bytes: &[u8], each: &mut dyn FnMut(u32, Said<'_>)) -> Result<usize, RawReason> {
        match self.state {
            State::Broken(reason) => Err(reason),
            State::Preface(come) => {
                let expected = &PREFACE[come..];
                let taken = expected.len().min(bytes.len());
                if bytes[..taken] != expected[..taken] {
                    return Err(RawReason::BadFrame);
                }
                self.state = match come + taken {
                    whole if whole == PREFACE.len() => State::Head,
                    come => State::Preface(come),
                };
                Ok(taken)
            }
            State::Head => {
                let taken = self.gather(bytes, frame::HEAD);
                if let Some(head) = Head::parse(&self.partial) {
                    self.partial.clear();
                    self.begin(head, each)?;
                }
                Ok(taken)
            }
            State::Payload(head) => {
                let taken = self.gather(bytes, head.length);
                if self.partial.len() == head.length {
                    let payload = std::mem::take(&mut self.partial);
                    self.state = State::Head;
                    self.whole(head, &payload, each)?;
                }
                Ok(taken)
            }
            State::Padding(head) => {
                let padding = usize::from(bytes[0]);
                let left = (head.length - 1).checked_sub(padding).ok_or(RawReason::BadFrame)?;
                self.data(head, left, padding, &[], each);
                Ok(1)
            }
            State::Data { head, left, padding } => {
                let taken = left.min(bytes.len());
                self.data(head, left - taken, padding, &bytes[..taken], each);
                Ok(taken)
            }
            State::Skip(left) => {
                let taken = left.min(bytes.len());
                self.skip(left - taken);
                Ok(taken)
            }
        }
    }

    fn gather(&mut self, bytes: &[u8], wanted: usize) -> usize {
        let taken = (wanted - self.partial.len()).min(bytes.len());
        self.partial.extend_from_slice(&bytes[..taken]);
        taken
    }

    fn begin(&mut self, head: Head, each: &mut dyn FnMut(u32, Said<'_>)) -> Result<(), RawReason> {
        let continues = self.block.as_ref().map(|block| block.stream);
        match (head.kind, continues) {
            (kind::CONTINUATION, Some(stream)) if stream == head.stream => {}
            // A header block is interrupted by nothing, and clients promise nothing.
            (_, Some(_)) | (kind::CONTINUATION | kind::PUSH_PROMISE, None) => return Err(RawReason::BadFrame),
            (_, None) => {}
        }
        match head.kind {
            kind::HEADERS | kind::CONTINUATION if head.length > MAX_BLOCK => return Err(RawReason::BadFrame),
            kind::RST_STREAM if head.length != 4 => return Err(RawReason::BadFrame),
            kind::HEADERS | kind::CONTINUATION if head.length == 0 => self.whole(head, &[], each)?,
            kind::HEADERS | kind::CONTINUATION | kind::RST_STREAM => self.state = State::Payload(head),
            kind::DATA if head.has(flag::PADDED) && head.length == 0 => return Err(RawReason::BadFrame),
            kind::DATA if head.has(flag::PADDED) => self.state = State::Padding(head),
            kind::DATA if head.length == 0 => self.data(head, 0, 0, &[], each),
            kind::DATA => {
                self.state = State::Data {
                    head,
                    left: head.length,
                    padding: 0,
                };
            }
            _ => self.skip(head.length),
        }
        Ok(())
    }

    /// Hands out a run of a body, of which so much is still to come.
    fn data(&mut self, head: Head, left: usize, padding: usize, bytes: &[u8], each: &mut dyn FnMut(u32, Said<'_>)) {
        let end = left == 0 && head.has(flag::END_STREAM);
        if !bytes.is_empty() || end {
            each(head.stream, Said::Data { bytes, end });
        }
        if left == 0 {
            self.skip(padding);
        } else {
            self.state = State::Data { head, left, padding };
        }
    }

    fn skip(&mut self, left: usize) {
        self.state = if left == 0 { State::Head } else { State::Skip(left) };
    }

    /// A frame that was needed whole.
    fn whole(&mut self, head: Head, payload: &[u8], each: &mut dyn FnMut(u32, Said<'_>)) -> Result<(), RawReason> {
        let block = match (head.kind, self.block.take()) {
            (kind::RST_STREAM, _) => {
                let code = frame::code_in(payload);
                each(head.stream, Said::Reset { code });
                return Ok(());
            }
            (_, Some(mut block)) => {
                block.fragment.extend_from_slice(payload);
                block
            }
            (_, None) => Block {
                stream: head.stream,
                end: head.has(flag::END_STREAM),
                fragment: frame::block(head, payload).ok_or(RawReason::BadFrame)?.1.to_vec(),
            },
        };
        if block.fragment.len() > MAX_BLOCK {
            return Err(RawReason::BadFrame);
        }
        if !head.has(flag::END_HEADERS) {
            self.block = Some(block);
            return Ok(());
        }
        let fields = self.decoder.decode(&block.fragment).map_err(|_| RawReason::BadFrame)?;
        each(block.stream, Said::Fields { fields, end: block.end });
        Ok(())
    }
}

/// What is said on which stream, with bodies in one piece where nothing else comes between.
pub(crate) type Heard = Vec<(u32, Fields, Vec<u8>, bool)>;

/// # Panics
/// When it makes a difference how the bytes are cut.
pub(crate) fn fuzz(data: &[u8]) {
    let data = [PREFACE, data].concat();
    let hear = |size| {
        let mut said = Heard::new();
        let read = heard(&data, size, &mut said);
        (said, read)
    };
    let whole = hear(data.len());
    for size in [1, 2, 3, 7, 64] {
        assert_eq!(whole, hear(size), "what is read depends on how it is cut");
    }
}

/// Appends what is said, as far as it can be read.
pub(crate) fn heard(bytes: &[u8], size: usize, out: &mut Heard) -> Result<(), RawReason> {
    let mut reader = ClientReader::default();
    let mut each = |stream: u32, said: Said<'_>| match said {
        Said::Fields { fields, end } => out.push((stream, fields, Vec::new(), end)),
        Said::Data { bytes, end } => match out.last_mut() {
            Some((last, _, body, ended)) if *last == stream && !*ended => {
                body.extend_from_slice(bytes);
                *ended = end;
            }
            _ => out.push((stream, Fields::default(), bytes.to_vec(), end)),
        },
        Said::Reset { code } => out.push((stream, Fields::default(), code.to_be_bytes().to_vec(), true)),
    };
    bytes.chunks(size).try_for_each(|bytes| reader.feed(bytes, &mut each))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http2::hpack;

    fn fields(path: &str) -> Fields {
        // Literal fields without indexing, names in the static table (RFC 7541 section 6.2.2).
        let block = [&[0x82, 0x04, u8::try_from(path.len()).unwrap()], path.as_bytes()].concat();
        Decoder::default().decode(&block).unwrap()
    }

    fn headers(stream: u32, path: &str, end: bool, out: &mut Vec<u8>) {
        let mut block = Vec::new();
        hpack::encode(&fields(path), false, &mut block);
        frame::write_block(stream, end, &[], &block, out);
    }

    fn all(frames: &[u8]) -> Result<Heard, RawReason> {
        let mut said = Heard::new();
        heard(&[PREFACE, frames].concat(), 5, &mut said).map(|()| said)
    }

    #[test]
    fn requests_bodies_and_resets() {
        let mut bytes = Vec::new();
        frame::write(kind::SETTINGS, 0, 0, &[0; 6], &mut bytes);
        headers(1, "/a", false, &mut bytes);
        frame::write(kind::DATA, flag::PADDED, 1, b"\x03abc\0\0\0", &mut bytes);
        frame::write(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 9], &mut bytes);
        headers(3, "/b", true, &mut bytes);
        frame::write(kind::DATA, flag::END_STREAM, 1, &[b'x'; 70_000], &mut bytes);
        frame::write(kind::RST_STREAM, 0, 3, &[0, 0, 0, 8], &mut bytes);
        let said = all(&bytes).unwrap();
        assert_eq!(
            said,
            [
                (1, fields("/a"), b"abc".to_vec(), false),
                (3, fields("/b"), vec![], true),
                (1, Fields::default(), vec![b'x'; 70_000], true),
                (3, Fields::default(), vec![0, 0, 0, 8], true),
            ]
        );
        fuzz(&bytes);
        for cut in [9, 17, 40] {
            fuzz(&bytes[cut..]);
        }
    }

    #[test]
    fn blocks_in_pieces() {
        let mut block = Vec::new();
        hpack::encode(&fields("/long"), false, &mut block);
        let (first, rest) = block.split_at(2);
        let mut bytes = Vec::new();
        frame::write(kind::HEADERS, flag::END_STREAM, 1, first, &mut bytes);
        frame::write(kind::CONTINUATION, 0, 1, &[], &mut bytes);
        frame::write(kind::CONTINUATION, flag::END_HEADERS, 1, rest, &mut bytes);
        assert_eq!(all(&bytes), Ok(vec![(1, fields("/long"), vec![], true)]));
        fuzz(&bytes);
    }

    #[test]
    fn what_cannot_be_read() {
        let frames = |frames: &[(u8, u8, u32, &[u8])]| {
            let mut bytes = Vec::new();
            for (kind, flags, stream, payload) in frames {
                frame::write(*kind, *flags, *stream, payload, &mut bytes);
            }
            bytes
        };
        let end = flag::END_HEADERS;
        for bytes in [
            frames(&[(kind::CONTINUATION, end, 1, b"")]),
            frames(&[(kind::PUSH_PROMISE, end, 1, b"")]),
            frames(&[(kind::HEADERS, 0, 1, b"\x82"), (kind::DATA, 0, 1, b"")]),
            frames(&[(kind::HEADERS, 0, 1, b"\x82"), (kind::CONTINUATION, end, 3, b"")]),
            frames(&[(kind::HEADERS, end, 1, b"\x80")]),
            frames(&[(kind::HEADERS, end | flag::PADDED, 1, b"\x02\0")]),
            frames(&[(kind::HEADERS, end, 1, &[0x82; MAX_BLOCK + 1])]),
            frames(&[(kind::DATA, flag::PADDED, 1, b"")]),
            frames(&[(kind::DATA, flag::PADDED, 1, b"\x01")]),
            frames(&[(kind::RST_STREAM, 0, 1, b"\x01")]),
        ] {
            assert_eq!(all(&bytes), Err(RawReason::BadFrame), "{}", bytes.escape_ascii());
        }
        let mut reader = ClientReader::default();
        assert_eq!(reader.feed(b"PRI * HTTP/2.1", &mut |_, _| ()), Err(RawReason::BadFrame));
        assert_eq!(reader.feed(PREFACE, &mut |_, _| ()), Err(RawReason::BadFrame));
    }
}
