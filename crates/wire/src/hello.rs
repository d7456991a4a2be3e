//! The preface: magic, version range, features, and who speaks.

use serde::{Deserialize, Serialize};

/// The first eight bytes each end sends.
pub const MAGIC: [u8; 8] = *b"inpod\x00\x01\n";
/// The protocol versions this build speaks, both ends included.
pub const VERSIONS: (u16, u16) = (1, 1);
/// The longest encoded hello, in bytes.
pub const MAX_HELLO: usize = 4096;

/// Feature bits of [`Hello::features`].
pub mod feature {
    /// Bytes are numbered and replayed after a re-attach (the resume layer).
    pub const RESUME: u64 = 1 << 0;
}

/// What each end says first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Lowest and highest version spoken.
    pub versions: (u16, u16),
    pub features: u64,
    /// Package version and source hash, for messages.
    pub build: String,
    /// The session; random, chosen by the session side.
    pub session: [u8; 16],
    /// Proves that a re-attach is by the same session; random.
    pub token: [u8; 16],
    /// What the person calls themselves, shown to others who meet this session's claims.
    pub owner: String,
}
