//! HTTP/2 framing and header compression (RFC 9113, RFC 7541), without I/O.

pub(crate) mod frame;
pub(crate) mod hpack;
mod huffman;
mod reader;
mod request;
mod tables;

pub use hpack::Fields;
pub use reader::{ClientReader, Said};
pub(crate) use reader::{Heard, heard};
pub(crate) use request::{Judged, judge};

/// Whether a connection that begins with `bytes` is one with prior knowledge; `None` while more must be seen.
#[must_use]
pub fn is_prior_knowledge(bytes: &[u8]) -> Option<bool> {
    match bytes.starts_with(frame::PREFACE) {
        true => Some(true),
        false if frame::PREFACE.starts_with(bytes) => None,
        false => Some(false),
    }
}

/// Header blocks, decoded and encoded again; and a client's bytes, cut in different ways.
pub(crate) fn fuzz(data: &[u8]) {
    hpack::fuzz(data);
    reader::fuzz(data);
}
