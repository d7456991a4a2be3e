//! Ports whose TLS ends at the agent: what that one needs, and how the local app is reached.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use guest::event::Event;
use rules::{Pem, TlsPort};
use tls::{Hello, Identity, Origination};
use tokio::net::TcpStream;
use tokio::time::timeout;
use wire::message::{self, Bytes, FileAnswer, FileOperation, MAX_PEM, Tls};
use wire::{FilesClient, Stream};

use crate::error::SessionError;
use crate::guests::Guests;
use crate::pump;

/// Most bytes of this machine's files that go to the agent: all claims are one message.
const MAX_SENT: usize = 512 << 10;
/// How long the local app's handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Warnings that are remembered, so that each is said once.
const MAX_TOLD: usize = 64;

/// Every such port of the pod.
pub(crate) struct TerminatedPorts {
    ports: BTreeMap<u16, Port>,
    told: Mutex<BTreeSet<String>>,
    guests: Guests,
}

struct Port {
    claim: Tls,
    /// `None` for a local app that is handed what was decrypted.
    app: Option<Origination>,
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
            plain: wanted.plain,
        };
        let app = match (wanted.plain, &wanted.client_identity) {
            (true, _) => None,
            (false, None) => Some(Origination::new(None)),
            (false, Some((certificate, key))) => {
                let read = (content(certificate, files).await?, content(key, files).await?);
                let identity = Identity::from_pem(&read.0, &read.1);
                let identity = identity.map_err(|unusable| unusable_pem(certificate, unusable.to_string()))?;
                Some(Origination::new(Some(identity)))
            }
        };
        ports.insert(port, Port { claim, app });
    }
    Ok(TerminatedPorts {
        ports,
        told: Mutex::default(),
        guests: guests.clone(),
    })
}

impl TerminatedPorts {
    /// What the agent is to do with the port's TLS, if anything.
    pub(crate) fn claim(&self, port: u16) -> Option<Tls> {
        self.ports.get(&port).map(|port| port.claim.clone())
    }

    /// Joins a client, decrypted, and the local app, which is spoken to as it wants to be.
    ///
    /// # Errors
    /// When either breaks, or the app does not speak what is expected of it, which has been told.
    pub(crate) async fn join(&self, port: u16, hello: &Hello, socket: TcpStream, stream: Stream) -> io::Result<()> {
        let Some(app) = self.ports.get(&port).and_then(|port| port.app.as_ref()) else {
            return pump::join(socket, stream).await;
        };
        let _ = socket.set_nodelay(true);
        let connected = timeout(HANDSHAKE, app.connect(socket, hello)).await;
        let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if app.missed_certificate() {
            self.warn(port, "the program asks for a client certificate, and there is none to present: `client_certificate` and `client_key` in incoming.tls");
        }
        let mut socket = connected.inspect_err(|error| self.warn(port, &refused(port, error)))?;
        let agreed = hello.protocols.first().map(Vec::as_slice);
        if agreed != socket.protocol() && agreed.is_some_and(|protocol| protocol != tls::HTTP1) {
            let protocol = String::from_utf8_lossy(agreed.unwrap_or_default()).into_owned();
            self.warn(port, &format!("the program does not speak `{protocol}` over TLS, which the pod's app and its client have agreed on"));
            return Err(io::ErrorKind::Unsupported.into());
        }
        let joined = copy(&mut socket, stream).await;
        if joined.is_err() {
            pump::reset(socket.transport());
        }
        joined
    }

    /// Says it once.
    fn warn(&self, port: u16, what: &str) {
        let message = format!("port {port}: {what}");
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < MAX_TOLD && told.insert(message.clone()) {
            self.guests.event(Event::Warning { message });
        }
    }
}

async fn copy(app: &mut tls::Stream<TcpStream>, mut stream: Stream) -> io::Result<()> {
    tokio::io::copy_bidirectional_with_sizes(app, &mut stream, wire::BULK, wire::BULK)
        .await
        .map(drop)
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
