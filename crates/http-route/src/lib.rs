//! Routes one downstream connection between the pod's real app and the sessions that steal from it, request by request.
//!
//! HTTP/1.0 and 1.1 requests are framed, the router is asked about each head, and the bytes are forwarded exactly as they
//! came: order, case and spacing of fields, chunk sizes and trailers. What cannot be framed without doubt goes raw to the
//! one upstream it belongs to, for the rest of the connection.
//!
//! - [`detect`], [`detect_line`], [`http1`], [`http2`], [`ProbeMatcher`] and [`RequestSplitter`] are pure: bytes in, verdicts out, no I/O.
//! - [`route`] drives them over any [`Connection`]; TCP and in-memory pipes are [`Connection`]s already.
//!
//! Invariant: no message is ever split between two upstreams.
//! Invariant: a connection holds at most one 64 KiB buffer for each direction in use, and none while it is idle.

mod connection;
mod counters;
mod detect;
pub mod http1;
pub mod http2;
mod options;
mod probe;
mod route;
mod split;

pub use connection::{Connection, Content, Router, SessionId, Upstream, Upstreams};
pub use counters::{End, RawReason, Summary};
pub use detect::{Detected, detect, detect_line};
pub use http1::RequestHead;
pub use options::Options;
pub use probe::{HttpProbe, ProbeMatcher};
pub use route::route;
pub use split::{Piece, RequestSplitter};

/// Feeds foreign bytes to detection, framing and splitting, whole and cut in different ways.
///
/// # Panics
/// When the pieces do not add up to the input, or how it is cut changes what is found.
pub fn fuzz(data: &[u8]) {
    split::fuzz(data);
    http1::fuzz(data);
    http2::fuzz(data);
}
