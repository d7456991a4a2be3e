//! HTTP/2 framing and header compression (RFC 9113, RFC 7541), without I/O.

pub(crate) mod frame;
pub(crate) mod hpack;
mod huffman;
mod tables;

/// Header blocks, decoded and encoded again.
pub(crate) fn fuzz(data: &[u8]) {
    hpack::fuzz(data);
}
