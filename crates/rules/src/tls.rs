//! Where TLS of a port ends, and what is needed for that.

use std::fmt;
use std::path::PathBuf;

/// A PEM file, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pem {
    Pod(PathBuf),
    /// Of this machine.
    Local(PathBuf),
}

impl fmt::Display for Pem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(path) => write!(formatter, "{} of the pod", path.display()),
            Self::Local(path) => write!(formatter, "{} of this machine", path.display()),
        }
    }
}

/// A port whose TLS is terminated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsPort {
    pub certificate: Pem,
    pub key: Pem,
    /// The local app is handed what was decrypted; otherwise it speaks TLS, as in the pod.
    pub plain: bool,
    /// Only clients are served that have a certificate of these authorities.
    pub client_ca: Option<Pem>,
    /// What is presented to the real app and to the local one where they ask: certificate and key. Only with `client_ca`,
    /// since everybody would have it otherwise.
    pub client_identity: Option<(Pem, Pem)>,
}
