//! Ports whose TLS ends at the agent: what that one needs, and how the local app is reached.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use guest::event::Event;
use guest::protocol::SocketCookie;
use rules::{Pem, TlsPort};
use tls::{Hello, Identity, Origination};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use wire::message::{self, Bytes, FileAnswer, FileOperation, MAX_PEM, Tls};
use wire::{FilesClient, Stream, Underway};

use crate::app::App;
use crate::error::SessionError;
use crate::guests::Guests;
use crate::prior_knowledge::{self, Answer};
use crate::translate::{Warn, translate};

/// Most bytes of this machine's files that go to the agent: all claims are one message.
const MAX_SENT: usize = 512 << 10;
/// How long the local app's handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Warnings that are remembered, so that each is said once.
const MAX_TOLD: usize = 64;

/// Every such port of the pod.
pub(crate) struct TerminatedPorts {
    ports: BTreeMap<u16, Port>,
    told: Arc<Told>,
}

struct Port {
    claim: Tls,
    /// The program has listened on it.
    claimed: AtomicBool,
    app: Speaks,
}

/// How the local app is spoken to.
enum Speaks {
    Tls(Arc<Origination>),
    /// It is handed what was decrypted.
    Plain {
        /// The listener whose app has shown that it does not speak HTTP/2.
        http1: Mutex<Option<SocketCookie>>,
    },
}

/// What a person has been told, each once.
struct Told {
    already: Mutex<BTreeSet<String>>,
    guests: Guests,
}

/// Reads this machine's files, and what else is needed here.
///
/// # Errors
/// Which file cannot be used, and why.
pub(crate) async fn load(
    wanted: &BTreeMap<u16, TlsPort>,
    files: &FilesClient,
    guests: &Guests,
) -> Result<TerminatedPorts, SessionError> {
    let mut ports = BTreeMap::new();
    let mut sent = 0;
    for (&port, wanted) in wanted {
        let mut pem = |pem: &Pem| for_agent(pem, &mut sent);
        let claim = Tls {
            certificate: pem(&wanted.certificate)?,
            key: pem(&wanted.key)?,
            client_ca: wanted.client_ca.as_ref().map(&mut pem).transpose()?,
            client_identity: match &wanted.client_identity {
                Some((certificate, key)) => Some((pem(certificate)?, pem(key)?)),
                None => None,
            },
        };
        let app = match (wanted.plain, &wanted.client_identity) {
            (true, _) => Speaks::Plain {
                http1: Mutex::default(),
            },
            (false, None) => Speaks::Tls(Arc::new(Origination::new(None))),
            (false, Some((certificate, key))) => {
                let read = (content(certificate, files).await?, content(key, files).await?);
                let identity = Identity::from_pem(&read.0, &read.1);
                let identity = identity.map_err(|unusable| unusable_pem(certificate, unusable.to_string()))?;
                Speaks::Tls(Arc::new(Origination::new(Some(identity))))
            }
        };
        let claimed = AtomicBool::default();
        ports.insert(port, Port { claim, claimed, app });
    }
    Ok(TerminatedPorts {
        ports,
        told: Arc::new(Told {
            already: Mutex::default(),
            guests: guests.clone(),
        }),
    })
}

impl TerminatedPorts {
    /// What the agent is to do with the port's TLS, if anything.
    pub(crate) fn claim(&self, port: u16) -> Option<Tls> {
        let port = self.ports.get(&port)?;
        port.claimed.store(true, Ordering::Relaxed);
        Some(port.claim.clone())
    }

    /// Says which ports were named in vain.
    pub(crate) fn tell_unused(&self) {
        let unused = |(_, of): &(&u16, &Port)| !of.claimed.load(Ordering::Relaxed);
        for (port, _) in self.ports.iter().filter(unused) {
            self.told.warn(
                *port,
                "the program never listened on it, so that its TLS was not terminated: `--tls` and incoming.tls name ports of the pod",
            );
        }
    }

    /// Joins a client, decrypted, and the local app, which is spoken to as it wants to be.
    ///
    /// # Errors
    /// When either breaks, or the app does not speak what is expected of it, which has been told.
    pub(crate) async fn join<A>(
        &self,
        port: u16,
        hello: &Hello,
        app: A,
        mut stream: Stream,
        underway: &Underway,
    ) -> io::Result<()>
    where
        A: App<Connection = TcpStream>,
    {
        match self.ports.get(&port).map(|port| &port.app) {
            Some(Speaks::Tls(how)) => self.join_tls(port, how, hello, app, stream, underway).await,
            Some(Speaks::Plain { http1 }) if agreed(hello) == Some(tls::HTTP2) => {
                self.join_plain(port, http1, app, stream, underway).await
            }
            _ => {
                let (socket, _kept) = app.connect().await?;
                stream.hold_sending(underway.hold());
                wire::join(socket, stream, |socket| Some(socket), ()).await
            }
        }
    }

    async fn join_tls<A>(
        &self,
        port: u16,
        how: &Arc<Origination>,
        hello: &Hello,
        app: A,
        mut stream: Stream,
        underway: &Underway,
    ) -> io::Result<()>
    where
        A: App<Connection = TcpStream>,
    {
        let mut app = Secured {
            port,
            app,
            how: Arc::clone(how),
            hello: hello.clone(),
            told: Arc::clone(&self.told),
        };
        let agreed = agreed(hello);
        if agreed == Some(tls::HTTP2) {
            app.hello.protocols.push(tls::HTTP1.to_vec());
        }
        let (socket, kept) = app.connect().await?;
        stream.hold_sending(underway.hold());
        if agreed == Some(tls::HTTP2) && socket.protocol() != agreed {
            self.told.warn(
                port,
                "the program does not speak `h2` over TLS: its requests are handed to it as HTTP/1.1",
            );
            app.hello.protocols = vec![tls::HTTP1.to_vec()];
            return translate(
                stream,
                Arc::new(app),
                Some((socket, kept)),
                self.told.on(port),
                underway,
            )
            .await;
        }
        if agreed != socket.protocol() && agreed.is_some_and(|protocol| protocol != tls::HTTP1) {
            let protocol = String::from_utf8_lossy(agreed.unwrap_or_default()).into_owned();
            self.told.warn(port, &format!("the program does not speak `{protocol}` over TLS, which the pod's app and its client have agreed on"));
            return Err(io::ErrorKind::Unsupported.into());
        }
        wire::join(socket, stream, |socket| Some(socket.transport()), ()).await
    }

    /// Hands HTTP/2 to an app without TLS, which may speak it (with prior knowledge) or not.
    async fn join_plain<A>(
        &self,
        port: u16,
        http1: &Mutex<Option<SocketCookie>>,
        app: A,
        mut stream: Stream,
        underway: &Underway,
    ) -> io::Result<()>
    where
        A: App<Connection = TcpStream>,
    {
        let listener = app.listener();
        let known = *http1.lock().unwrap_or_else(PoisonError::into_inner);
        if listener.is_some() && listener == known {
            stream.hold_sending(underway.hold());
            return translate(stream, Arc::new(app), None, self.told.on(port), underway).await;
        }
        let first = prior_knowledge::first(&mut stream).await?;
        let (mut socket, _kept) = app.connect().await?;
        stream.hold_sending(underway.hold());
        if http_route::http2::is_prior_knowledge(&first) != Some(true) {
            socket.write_all(&first).await?;
            return wire::join(socket, stream, |socket| Some(socket), ()).await;
        }
        match prior_knowledge::ask(&mut socket, &first, &mut stream).await? {
            Answer::Http2 => return wire::join(socket, stream, |socket| Some(socket), ()).await,
            Answer::Nothing => self.told.warn(
                port,
                "the program has not answered HTTP/2 within 2 s: requests that come over it are handed to it as HTTP/1.1",
            ),
            Answer::Other => {
                self.told.warn(
                    port,
                    "the program does not speak HTTP/2: requests that come over it are handed to it as HTTP/1.1",
                );
                *http1.lock().unwrap_or_else(PoisonError::into_inner) = listener;
            }
        }
        drop(socket);
        let (from, to) = tokio::io::split(stream);
        let client = tokio::io::join(AsyncReadExt::chain(io::Cursor::new(first), from), to);
        translate(client, Arc::new(app), None, self.told.on(port), underway).await
    }
}

/// The ALPN protocol ID that the real app and the client speak.
fn agreed(hello: &Hello) -> Option<&[u8]> {
    hello.protocols.first().map(Vec::as_slice)
}

/// The local app, spoken to over TLS.
struct Secured<A> {
    port: u16,
    app: A,
    how: Arc<Origination>,
    hello: Hello,
    told: Arc<Told>,
}

impl<A: App<Connection = TcpStream>> App for Secured<A> {
    type Connection = tls::Stream<TcpStream>;
    type Kept = A::Kept;

    /// What goes wrong is told.
    async fn connect(&self) -> io::Result<(tls::Stream<TcpStream>, A::Kept)> {
        let (socket, kept) = self.app.connect().await?;
        let _ = socket.set_nodelay(true);
        let connected = timeout(HANDSHAKE, self.how.connect(socket, &self.hello)).await;
        let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if self.how.missed_certificate() {
            self.told.warn(self.port, "the program asks for a client certificate, and there is none to present: `client_certificate` and `client_key` in incoming.tls");
        }
        let socket = connected.inspect_err(|error| self.told.warn(self.port, &refused(self.port, error)))?;
        Ok((socket, kept))
    }
}

impl Told {
    /// Says it once.
    fn warn(&self, port: u16, what: &str) {
        let message = format!("port {port}: {what}");
        let mut already = self.already.lock().unwrap_or_else(PoisonError::into_inner);
        if already.len() < MAX_TOLD && already.insert(message.clone()) {
            self.guests.event(Event::Warning { message });
        }
    }

    /// The same for what concerns one port.
    fn on(self: &Arc<Self>, port: u16) -> Warn {
        let told = Arc::clone(self);
        Arc::new(move |what| told.warn(port, &what))
    }
}

fn refused(port: u16, error: &io::Error) -> String {
    if tls::is_alert(error) {
        return format!("the program refuses TLS: {error}");
    }
    format!(
        "the program does not speak TLS there ({error}); `--tls {port}=CERTIFICATE,KEY,plain`, or `app = \"plain\"` in incoming.tls, \
         hands it what was decrypted"
    )
}

/// A path of the pod goes as it is; a file of this machine as what it holds.
fn for_agent(pem: &Pem, sent: &mut usize) -> Result<message::Pem, SessionError> {
    let path = match pem {
        Pem::Pod(path) => return Ok(message::Pem::Path(Bytes(path.as_os_str().as_bytes().to_vec()))),
        Pem::Local(path) => path,
    };
    let content = local(path).map_err(|error| unusable_pem(pem, error.to_string()))?;
    *sent += content.len();
    if *sent > MAX_SENT {
        let why = format!("with it, more than {} KiB would go to the agent", MAX_SENT >> 10);
        return Err(unusable_pem(pem, why));
    }
    Ok(message::Pem::Content(Bytes(content)))
}

fn local(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(MAX_PEM as u64 + 1).read_to_end(&mut content)?;
    if content.len() > MAX_PEM {
        return Err(io::Error::other(format!("it is larger than {} KiB", MAX_PEM >> 10)));
    }
    Ok(content)
}

async fn content(pem: &Pem, files: &FilesClient) -> Result<Vec<u8>, SessionError> {
    let path = match pem {
        Pem::Local(path) => return local(path).map_err(|error| unusable_pem(pem, error.to_string())),
        Pem::Pod(path) => Bytes(path.as_os_str().as_bytes().to_vec()),
    };
    let walk = FileOperation::Walk {
        path,
        known: 0,
        first: u32::try_from(MAX_PEM).unwrap_or(u32::MAX),
    };
    let errno = match files.call(walk).await? {
        FileAnswer::Walk {
            content: Some(content), ..
        } => return Ok(content.0),
        FileAnswer::Walk { steps, .. } => steps.last().and_then(|step| step.found.as_ref().err().copied()),
        FileAnswer::Failed(errno) => Some(errno),
        _ => None,
    };
    let why = errno.map(|errno| io::Error::from_raw_os_error(errno).to_string());
    let why = why.unwrap_or_else(|| format!("it is no regular file of at most {} KiB", MAX_PEM >> 10));
    Err(unusable_pem(pem, why))
}

fn unusable_pem(pem: &Pem, why: String) -> SessionError {
    SessionError::Pem {
        pem: pem.to_string(),
        why,
    }
}

#[cfg(test)]
#[path = "terminated_tests.rs"]
mod tests;
