//! How long [`crate::route`] waits.

use std::time::Duration;

/// Waiting times of one connection. There is none on a request or response in progress: long streams are never cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Silence of a new client after which the real app is connected, so that protocols in which the server speaks first
    /// (mysql, smtp) are delayed by no more than this. If the client speaks first after all, its requests are routed.
    pub first_bytes: Duration,
    /// From the first byte of a request head to its last; after it the connection goes raw to the real app. As long again for
    /// a body that decides; after it the request is judged without.
    pub head: Duration,
    /// To open a session's upstream; after it the request goes to the real app.
    pub session_open: Duration,
    /// Idle time after which a client with no upstream open is closed.
    pub orphan: Duration,
    /// Idle time after which a client is closed that is to go on over another connection ([`crate::Router::leaves`]).
    pub leave: Duration,
    /// After the last response byte: how long the client's unread bytes are drained, so that closing does not reset the
    /// response away (RFC 9112 section 9.6).
    pub drain: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            first_bytes: Duration::from_millis(200),
            head: Duration::from_secs(10),
            session_open: Duration::from_secs(3),
            orphan: Duration::from_secs(60),
            leave: Duration::from_secs(2),
            drain: Duration::from_secs(2),
        }
    }
}
