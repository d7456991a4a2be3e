//! TLS at both ends of a connection that is taken in an app's name: terminated towards the client with the app's own
//! certificate, originated anew towards whoever answers.
//!
//! The agent and the session use it alike. The client's [`Hello`] is read before anything is answered, so that the answer
//! can be what the app itself would agree to.
//!
//! Invariant: there is one provider of cryptography, ring, named wherever a configuration is made; none is installed for the
//! process.

mod material;
mod originate;
mod stream;
mod terminate;

pub use material::{Authorities, Identity, Unusable};
pub use originate::Origination;
pub use stream::Stream;
pub use terminate::{Termination, Waiting, accept};

use std::io;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// ALPN protocol IDs, as registered with IANA.
pub const HTTP1: &[u8] = b"http/1.1";
pub const HTTP2: &[u8] = b"h2";

/// What a client wants to reach and to speak.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hello {
    /// SNI: a DNS name.
    pub server_name: Option<String>,
    /// ALPN protocol IDs, the preferred ones first.
    pub protocols: Vec<Vec<u8>>,
}

impl Hello {
    /// What to agree to where nobody can be asked.
    #[must_use]
    pub fn safest(&self) -> Option<Vec<u8>> {
        let http1 = self.protocols.iter().find(|protocol| *protocol == HTTP1);
        http1.or(self.protocols.first()).cloned()
    }
}

/// Whether one of the two sides does not take what the other said; otherwise the connection broke.
#[must_use]
pub fn is_refusal(error: &io::Error) -> bool {
    cause(error).is_some()
}

/// Whether the other side has refused, in the words of TLS.
#[must_use]
pub fn is_alert(error: &io::Error) -> bool {
    matches!(cause(error), Some(rustls::Error::AlertReceived(_)))
}

fn cause(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Any bytes as PEM.
pub fn fuzz(data: &[u8]) {
    let _ = Identity::from_pem(data, data);
    let _ = Authorities::from_pem(data);
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_agreed_to_without_asking() {
        let check = |offered: &[&str], safest: Option<&str>| {
            let hello = Hello {
                protocols: offered.iter().map(|protocol| protocol.as_bytes().to_vec()).collect(),
                ..Hello::default()
            };
            assert_eq!(hello.safest().as_deref(), safest.map(str::as_bytes), "{offered:?}");
        };
        check(&[], None);
        check(&["h2"], Some("h2"));
        check(&["h2", "http/1.1"], Some("http/1.1"));
        check(&["postgresql"], Some("postgresql"));
    }
}
