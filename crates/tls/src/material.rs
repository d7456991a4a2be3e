//! Certificates and keys, from PEM (RFC 7468).

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// A chain of certificates, its own first, with the key of that one.
#[derive(Debug, Clone)]
pub struct Identity(pub(crate) Arc<CertifiedKey>);

/// Whose certificates are believed.
#[derive(Debug, Clone)]
pub struct Authorities(pub(crate) Arc<RootCertStore>);

/// Which of the two cannot be used, and why.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("the certificate: {0}")]
    Certificate(String),
    #[error("the key: {0}")]
    Key(String),
}

impl Identity {
    /// # Errors
    /// What of it cannot be used, also when the two do not belong together.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, Unusable> {
        let chain = certificates(certificate).map_err(Unusable::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| Unusable::Key(key_words(key, &error)))?;
        let certified = CertifiedKey::from_der(chain, key, &crate::provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => Unusable::Key(
                "it does not belong to the certificate (`openssl x509 -pubkey` and `openssl pkey -pubout` differ)"
                    .to_owned(),
            ),
            rustls::Error::InvalidCertificate(error) => Unusable::Certificate(format!("it cannot be read: {error:?}")),
            error => Unusable::Key(error.to_string()),
        })?;
        Ok(Self(Arc::new(certified)))
    }
}

impl Authorities {
    /// # Errors
    /// Why the bundle cannot be used.
    pub fn from_pem(bundle: &[u8]) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(bundle)? {
            roots
                .add(certificate)
                .map_err(|error| format!("a certificate in it cannot be used: {error}"))?;
        }
        Ok(Self(Arc::new(roots)))
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = read.map_err(|error| format!("it is not PEM: {error}"))?;
    if certificates.is_empty() {
        return Err("it holds no certificate (`-----BEGIN CERTIFICATE-----`)".to_owned());
    }
    Ok(certificates)
}

fn key_words(key: &[u8], error: &pem::Error) -> String {
    const ENCRYPTED: &[u8] = b"ENCRYPTED";
    match error {
        pem::Error::NoItemsFound if key.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED) => {
            "it is encrypted (`openssl pkey` makes one that is not)".to_owned()
        }
        pem::Error::NoItemsFound => "it holds no private key (`-----BEGIN PRIVATE KEY-----`)".to_owned(),
        error => format!("it is not PEM: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["app".to_owned()]).expect("a certificate");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        let ((certificate, key), (_, other)) = (pair(), pair());
        let check = |certificate: &str, key: &str, expect: &str| {
            let got = Identity::from_pem(certificate.as_bytes(), key.as_bytes());
            let got = got.map_or_else(|error| error.to_string(), |_| "usable".to_owned());
            assert!(got.starts_with(expect), "{got:?} is not {expect:?}");
        };
        check(&certificate, &key, "usable");
        check(&format!("{certificate}{certificate}"), &key, "usable");
        check(&key, &key, "the certificate: it holds no certificate");
        check("", &key, "the certificate: it holds no certificate");
        check(&certificate, &certificate, "the key: it holds no private key");
        check(&certificate, &other, "the key: it does not belong to the certificate");
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        check(&certificate, encrypted, "the key: it is encrypted");
        let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        check(broken, &key, "the certificate: it is not PEM");
        let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        check(nonsense, &key, "the certificate: it cannot be read");
        let nonsense = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        check(&certificate, nonsense, "the key: ");
        assert!(Authorities::from_pem(certificate.as_bytes()).is_ok());
        assert!(Authorities::from_pem(key.as_bytes()).is_err());
    }
}
