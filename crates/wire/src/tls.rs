//! TLS that ends at the agent.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::message::{Bytes, Incoming};
use crate::xattr::at_most;

/// The largest PEM file, in bytes.
pub const MAX_PEM: usize = 64 << 10;

/// How the TLS of a port is terminated, in the app's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    pub certificate: Pem,
    pub key: Pem,
    /// Only clients are served that have a certificate of these authorities.
    pub client_ca: Option<Pem>,
    /// Certificate and key for the real app, where it asks for one.
    pub client_identity: Option<(Pem, Pem)>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pem {
    /// A path in the target's root: read there, and again when it has changed.
    Path(Bytes),
    Content(#[serde(deserialize_with = "at_most::<MAX_PEM, _>")] Bytes),
}

/// Keys are not for logs.
impl fmt::Debug for Pem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(formatter, "Path({})", path.0.escape_ascii()),
            Self::Content(content) => write!(formatter, "Content({} bytes)", content.0.len()),
        }
    }
}

/// A connection whose TLS was terminated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminated {
    pub incoming: Incoming,
    /// The name that the client asked for (SNI).
    pub server_name: Option<String>,
    /// The ALPN protocol ID that was agreed on.
    pub protocol: Option<Bytes>,
}
