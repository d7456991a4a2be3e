//! What a capture tells.

use std::net::SocketAddr;

/// Names a connection for as long as the capture lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub(crate) u64);

/// What happened on a connection, in order: one `Opened`, any number of `Data`, one `Closed`. Between connections there is no
/// order: what several said in turn comes as one `Data` of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A client has completed the handshake.
    Opened {
        /// The connection from now on.
        id: ConnectionId,
        /// The client's address; IPv4-mapped addresses do not occur.
        client: SocketAddr,
        /// The address that the client connected to.
        server: SocketAddr,
        /// The largest segment that the client says it takes (RFC 9293 3.7.1), as it says it with SYN: network address
        /// translation leaves it alone.
        mss: Option<u16>,
        /// It came over loopback: from inside of the namespace, or handed on by a proxy there.
        loopback: bool,
    },
    /// The next bytes that the client sent.
    Data {
        /// The connection.
        id: ConnectionId,
        /// Never empty; at most about one ring block (256 KiB).
        bytes: Vec<u8>,
    },
    /// Nothing more comes.
    Closed {
        /// The connection.
        id: ConnectionId,
        /// Why.
        how: Closed,
    },
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Closed {
    /// The client has sent everything (FIN); every byte was delivered.
    Finished,
    /// Either side has reset it, or the client began anew with the same port. What was delivered is a prefix.
    Reset,
    /// The capture could not keep it whole. What was delivered is a prefix.
    Dropped(Reason),
}

/// Why a connection was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A segment is missing: lost by the ring, or never repeated. Also when the ring has lost packets and the connection
    /// was silent for 30 s since: its last may be among them.
    Gap,
    /// More bytes wait for an earlier segment than are allowed, or more connections are open than are followed.
    Overload,
    /// A frame was larger than the ring's blocks.
    Truncated,
    /// The server has closed its side and the client has been silent for two minutes.
    Idle,
    /// Its port is no longer captured.
    Stopped,
}

/// Counts since the capture was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Frames that the filter let through, both directions.
    pub seen: u64,
    /// Payload bytes given out.
    pub delivered: u64,
    /// Connections given out.
    pub opened: u64,
    /// Connections that ended with every byte delivered.
    pub finished: u64,
    /// Connections that ended by a reset.
    pub reset: u64,
    /// Packets that found the ring full. Their connections are dropped for a gap.
    pub dropped_kernel: u64,
    /// Connections dropped for a gap.
    pub dropped_gap: u64,
    /// Connections dropped, or not followed from the start, because a bound was reached.
    pub dropped_overload: u64,
    /// Connections dropped because a frame was cut.
    pub dropped_truncated: u64,
    /// Connections dropped as dead.
    pub dropped_idle: u64,
    /// Connections that the reader gave up, by [`Capture::abandon`](crate::Capture::abandon) or with their port.
    pub abandoned: u64,
    /// Connections seen that are older than the capture: their beginning is unknown, they are not delivered.
    pub older: u64,
    /// Frames that were no TCP segment of use: malformed, or an IP fragment.
    pub unusable: u64,
}
