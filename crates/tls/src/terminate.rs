//! Towards a client: with the app's own certificate, whatever name the client has asked for.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{Acceptor, NoClientAuth, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::StartHandshake;

use crate::{Authorities, Hello, Identity, Stream, provider};

/// How clients are answered.
#[derive(Debug, Clone)]
pub struct Termination(ServerConfig);

impl Termination {
    /// With `clients`, only those are served that have a certificate of theirs.
    ///
    /// # Errors
    /// Why `clients` cannot be used.
    pub fn new(identity: &Identity, clients: Option<&Authorities>) -> Result<Self, String> {
        let provider = provider();
        let verifier = match clients {
            None => Arc::new(NoClientAuth),
            Some(authorities) => {
                let roots = Arc::clone(&authorities.0);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
                verifier.build().map_err(|error| error.to_string())?
            }
        };
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&identity.0))));
        Ok(Self(config))
    }
}

/// A client that has said its hello and waits for an answer.
pub struct Waiting<S>(StartHandshake<S>);

/// Reads a client's hello; a client that says something else is told so by an alert.
///
/// # Errors
/// When the connection breaks, or what comes is no hello.
pub async fn accept<S>(client: S) -> io::Result<Waiting<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    Ok(Waiting(LazyConfigAcceptor::new(Acceptor::default(), client).await?))
}

impl<S: AsyncRead + AsyncWrite + Unpin> Waiting<S> {
    #[must_use]
    pub fn hello(&self) -> Hello {
        let hello = self.0.client_hello();
        Hello {
            server_name: hello.server_name().map(str::to_owned),
            protocols: hello.alpn().into_iter().flatten().map(<[u8]>::to_vec).collect(),
        }
    }

    /// Agrees to `protocol`, one of those that the client has offered.
    ///
    /// # Errors
    /// When the connection breaks, or one of the two refuses ([`crate::is_refusal`]), which the client has been told.
    pub async fn answer(self, how: &Termination, protocol: Option<&[u8]>) -> io::Result<Stream<S>> {
        let mut config = how.0.clone();
        config.alpn_protocols = protocol.map(<[u8]>::to_vec).into_iter().collect();
        let answered = self.0.into_stream(Arc::new(config)).await?;
        Ok(Stream::new(answered.into()))
    }
}
