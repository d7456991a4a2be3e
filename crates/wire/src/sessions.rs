//! Who is at an agent, and what each holds there.

use serde::{Deserialize, Serialize};

use crate::message::ClaimMode;

/// The longest text of a claim's filter, in bytes: what is longer is cut.
pub const MAX_FILTER_TEXT: usize = 1024;

/// One session of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEntry {
    /// As in [`crate::Hello::session`].
    pub session: [u8; 16],
    /// As in [`crate::Hello::owner`]: nobody has checked it.
    pub owner: String,
    /// Since its link was made, in milliseconds.
    pub age_ms: u64,
    /// Those in force, by port.
    pub claims: Vec<ClaimEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimEntry {
    pub port: u16,
    pub mode: ClaimMode,
    /// In the words of its owner; `None` takes everything.
    pub filter: Option<String>,
    pub counts: Counts,
}

/// What came to a claim's port while the claim was in force, since the session began. HTTP counts by request; a connection
/// that is not taken apart into requests, and one that is mirrored without a filter, counts as one. A datagram is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    pub seen: u64,
    /// Stolen: went to this session.
    pub matched: u64,
    /// Stolen from the port: went to the real app. What another session took is in neither.
    pub passed: u64,
    /// Copies that were begun.
    pub mirrored: u64,
    /// Connections whose copy is not whole; datagrams that did not reach the session.
    pub dropped: u64,
}
