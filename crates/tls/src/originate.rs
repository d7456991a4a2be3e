//! Towards an app: any certificate is taken.
//!
//! The app is reached by its address in its own network namespace, or over this machine's loopback, and what it presents is
//! for the names that its clients know. There is nobody in between whom a verification would find out.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::{CertificateDer, IpAddr, Ipv4Addr, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::{Hello, Identity, Stream, provider};

/// How connections to an app are made.
#[derive(Debug, Clone)]
pub struct Origination {
    config: ClientConfig,
    presented: Arc<Presented>,
}

impl Origination {
    /// `identity` is presented to an app that asks for a certificate.
    #[must_use]
    pub fn new(identity: Option<Identity>) -> Self {
        let provider = provider();
        let presented = Arc::new(Presented {
            identity: identity.map(|identity| identity.0),
            missed: AtomicBool::new(false),
        });
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring has what TLS 1.2 and 1.3 need")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(
                provider.signature_verification_algorithms.supported_schemes(),
            )))
            .with_client_cert_resolver(Arc::clone(&presented) as Arc<dyn ResolvesClientCert>);
        config.resumption = Resumption::disabled();
        Self { config, presented }
    }

    /// An app has asked for a certificate, and there was none to present.
    #[must_use]
    pub fn missed_certificate(&self) -> bool {
        self.presented.missed.load(Ordering::Relaxed)
    }

    /// Says the client's hello to an app.
    ///
    /// # Errors
    /// When the connection breaks, or the app refuses ([`crate::is_refusal`]).
    pub async fn connect<S>(&self, stream: S, hello: &Hello) -> io::Result<Stream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut config = self.config.clone();
        config.alpn_protocols.clone_from(&hello.protocols);
        let name = hello.server_name.as_deref();
        let name = name.and_then(|name| ServerName::try_from(name.to_owned()).ok());
        // An address is never sent as SNI (RFC 6066 section 3).
        let name = name.unwrap_or(ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([127, 0, 0, 1]))));
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        Ok(Stream::new(connected.into()))
    }
}

/// The certificate for apps that ask.
#[derive(Debug)]
struct Presented {
    identity: Option<Arc<CertifiedKey>>,
    missed: AtomicBool,
}

impl ResolvesClientCert for Presented {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.missed.fetch_or(self.identity.is_none(), Ordering::Relaxed);
        self.identity.clone()
    }

    fn has_certs(&self) -> bool {
        // Also without: it is to be known that somebody asks.
        true
    }
}

/// Verifies nothing.
#[derive(Debug)]
struct Anybody(Vec<SignatureScheme>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}
