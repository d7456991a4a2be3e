//! What is told about a connection when it is over.

use crate::Upstream;

/// Why a connection, or the rest of it, was not routed by request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum RawReason {
    #[error("TLS")]
    Tls,
    /// For [`crate::route`], only where the real app does not speak it.
    #[error("HTTP/2")]
    Http2,
    #[error("an HTTP/2 frame that cannot be read")]
    BadFrame,
    #[error("not HTTP")]
    NotHttp,
    #[error("the server spoke first")]
    ServerFirst,
    #[error("the server spoke unasked")]
    Unsolicited,
    #[error("the request head was incomplete for too long")]
    SlowHead,
    #[error("the client ended in the middle of a head")]
    CutHead,
    #[error("a head over 64 KiB")]
    HeadTooLong,
    #[error("more than 256 fields")]
    TooManyFields,
    #[error("a malformed head")]
    BadHead,
    #[error("a line ended by a bare CR or LF")]
    BareLineEnd,
    #[error("a folded field (obs-fold)")]
    Folded,
    #[error("whitespace before a colon")]
    SpaceBeforeColon,
    #[error("both Content-Length and Transfer-Encoding")]
    BothLengths,
    #[error("several Content-Length")]
    RepeatedLength,
    #[error("a malformed Content-Length")]
    BadLength,
    #[error("a Transfer-Encoding other than chunked")]
    UnknownCoding,
    #[error("a malformed chunk")]
    BadChunk,
    #[error("a malformed trailer")]
    BadTrailer,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client closed between requests, or after its last answer.
    ClientClosed,
    /// The client was reset or broke.
    ClientReset,
    /// One of both sides asked for the end (`Connection: close`, HTTP/1.0, a body delimited by the close).
    Closed,
    /// The real app ended an idle connection, and so the client's was.
    UpstreamClosed { reset: bool },
    /// The upstream ended in the middle of an answer, and so the client's connection did, in the same way.
    UpstreamBroke { reset: bool },
    /// The real app could not be reached; the client was reset.
    RealUnreachable(std::io::ErrorKind),
    /// Idle for [`crate::Options::orphan`] without any upstream.
    Orphaned,
    /// The router wanted the client to go on over another connection ([`crate::Router::leaves`]): this one was idle, or its
    /// last response has said so.
    Left,
    /// Both directions of a raw connection, or of an upgraded one, ended.
    RawEnded,
}

/// Counters of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Requests whose head was read and judged.
    pub requests: u64,
    /// Of these, sent to a session.
    pub matched: u64,
    /// Of these, sent to the real app.
    pub passed: u64,
    /// Of the passed ones, meant for a session that was gone.
    pub fallbacks: u64,
    /// An upgrade (101 or CONNECT) took the connection over.
    pub upgraded: bool,
    /// Why and where the rest of the connection went unparsed, if it did.
    pub raw: Option<(RawReason, Upstream)>,
    pub end: End,
}
