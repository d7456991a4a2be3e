//! The preface's message: version range, features, and who speaks.

use serde::{Deserialize, Serialize};

use crate::LinkError;

/// The first eight bytes each end sends.
pub const MAGIC: [u8; 8] = *b"inpod\x00\x01\n";
/// The protocol versions this build speaks, both ends included.
pub const VERSIONS: (u16, u16) = (1, 1);
/// The longest encoded hello, in bytes.
pub const MAX_HELLO: usize = 4096;
/// The longest text field, in bytes: names are shown to people.
pub const MAX_TEXT: usize = 256;

/// Feature bits of [`Hello::features`].
pub mod feature {
    /// Bytes are numbered and replayed after a re-attach (the resume layer).
    pub const RESUME: u64 = 1 << 0;
    /// The session only looks: it is not listed, and does not keep an idle agent from ending.
    pub const VISITOR: u64 = 1 << 1;
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

impl Hello {
    /// This build's hello. `session` and `token` are random for a session; the agent repeats the session's id and sends
    /// a token of zeros.
    #[must_use]
    pub fn new(session: [u8; 16], token: [u8; 16], owner: &str) -> Self {
        Self {
            versions: VERSIONS,
            features: 0,
            build: env!("CARGO_PKG_VERSION").to_owned(),
            session,
            token,
            owner: shortened(owner),
        }
    }

    /// The version both ends speak: the highest common one.
    ///
    /// # Errors
    /// [`LinkError::Version`] when the ranges do not overlap.
    pub fn common_version(&self, theirs: &Self) -> Result<u16, LinkError> {
        let low = self.versions.0.max(theirs.versions.0);
        let high = self.versions.1.min(theirs.versions.1);
        if low > high {
            return Err(LinkError::Version {
                ours: self.versions,
                theirs: theirs.versions,
                our_build: self.build.clone(),
                their_build: shortened(&theirs.build),
            });
        }
        Ok(high)
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, LinkError> {
        let body = postcard::to_allocvec(self).map_err(|error| LinkError::Decode {
            what: "the own hello",
            why: error.to_string(),
        })?;
        check_length(body.len())?;
        Ok(body)
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, LinkError> {
        check_length(body.len())?;
        let mut hello: Self = postcard::from_bytes(body).map_err(|error| LinkError::Decode {
            what: "the other end's hello",
            why: error.to_string(),
        })?;
        hello.owner = shortened(&hello.owner);
        hello.build = shortened(&hello.build);
        Ok(hello)
    }
}

pub(crate) fn check_length(length: usize) -> Result<(), LinkError> {
    if length > MAX_HELLO {
        return Err(LinkError::TooLong {
            what: "the hello",
            length,
            limit: MAX_HELLO,
        });
    }
    Ok(())
}

/// Text from the other end reaches terminals: control characters go, and what is too long is cut.
fn shortened(text: &str) -> String {
    let mut short = String::new();
    for character in text.chars().filter(|character| !character.is_control()) {
        if short.len() + character.len_utf8() > MAX_TEXT {
            break;
        }
        short.push(character);
    }
    short
}
