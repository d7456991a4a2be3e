//! What a port's TLS is terminated with: the app's own certificate and key.
//!
//! They are read through the target's root and with its rights when the port is claimed, and looked at again, at most once a
//! second, when a client comes: a renewed certificate is used from then on. One that cannot be used leaves the former in place.

use std::fmt;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tls::{Authorities, Identity, Origination, Termination, Unusable};
use tokio::sync::oneshot;
use tokio::time::timeout;
use wire::message::{Claim, MAX_PEM, Pem, Tls};

use crate::files::resolve;
use crate::session::Session;
use crate::{Agent, Target};

/// How old what is known of the files may be.
const FRESH: Duration = Duration::from_secs(1);
/// How long reading them may take, whatever they lie on.
const PATIENCE: Duration = Duration::from_secs(10);

/// The TLS of one claim.
pub(crate) struct Terminator {
    wanted: Tls,
    state: Mutex<State>,
}

impl fmt::Debug for Terminator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Terminator").field(&self.wanted).finish()
    }
}

struct State {
    looked: Instant,
    read: Contents,
    material: Arc<Material>,
}

/// The two ends of a terminated connection.
pub(super) struct Material {
    pub(super) termination: Termination,
    pub(super) origination: Origination,
}

/// What the files hold.
#[derive(PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
    client_identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// One for each claim that wants one; the session's former ones where they are the same.
///
/// # Errors
/// Each with the file that cannot be used, and why.
pub(crate) async fn terminators(session: &Session, claims: &[Claim]) -> Vec<Result<Option<Arc<Terminator>>, String>> {
    let mut all = Vec::with_capacity(claims.len());
    for claim in claims {
        let former = session.agent.intercept.terminator(session.id, claim.port);
        all.push(match (&claim.tls, former) {
            (None, _) => Ok(None),
            (Some(wanted), Some(former)) if former.wanted == *wanted => Ok(Some(former)),
            (Some(wanted), _) => Terminator::new(&session.agent, wanted).await.map(Some),
        });
    }
    all
}

impl Terminator {
    async fn new(agent: &Arc<Agent>, wanted: &Tls) -> Result<Arc<Self>, String> {
        let read = read(agent, wanted).await?;
        let material = Arc::new(Material::new(wanted, &read)?);
        let state = State {
            looked: Instant::now(),
            read,
            material,
        };
        Ok(Arc::new(Self {
            wanted: wanted.clone(),
            state: Mutex::new(state),
        }))
    }

    pub(super) fn wanted(&self) -> &Tls {
        &self.wanted
    }

    /// As the files are now. `session` is told what keeps a renewed one from being used.
    pub(super) async fn material(&self, session: &Session) -> Arc<Material> {
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.looked.elapsed() < FRESH {
                return Arc::clone(&state.material);
            }
            // Whoever comes meanwhile does not look as well.
            state.looked = Instant::now();
        }
        let read = read(&session.agent, &self.wanted).await;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let renewed = match read {
            Ok(read) if read == state.read => return Arc::clone(&state.material),
            Ok(read) => Material::new(&self.wanted, &read).map(|material| (read, material)),
            Err(why) => Err(why),
        };
        match renewed {
            Ok((read, material)) => {
                state.read = read;
                state.material = Arc::new(material);
            }
            Err(why) => session
                .standing
                .warn(format!("TLS goes on with the former certificate: {why}")),
        }
        Arc::clone(&state.material)
    }
}

impl Material {
    fn new(wanted: &Tls, read: &Contents) -> Result<Self, String> {
        let identity = identity(&wanted.certificate, &wanted.key, &read.certificate, &read.key)?;
        let clients = match (&wanted.client_ca, &read.client_ca) {
            (Some(pem), Some(bundle)) => {
                let unusable = |why| format!("{}: {why}", words("authorities of clients", pem));
                Some((Authorities::from_pem(bundle).map_err(unusable)?, unusable))
            }
            _ => None,
        };
        let termination = match &clients {
            Some((authorities, unusable)) => Termination::new(&identity, Some(authorities)).map_err(unusable)?,
            None => Termination::new(&identity, None)?,
        };
        let own = match (&wanted.client_identity, &read.client_identity) {
            (Some((certificate, key)), Some(read)) => Some(self::identity(certificate, key, &read.0, &read.1)?),
            _ => None,
        };
        Ok(Self {
            termination,
            origination: Origination::new(own),
        })
    }
}

fn identity(certificate: &Pem, key: &Pem, read_certificate: &[u8], read_key: &[u8]) -> Result<Identity, String> {
    Identity::from_pem(read_certificate, read_key).map_err(|unusable| match unusable {
        Unusable::Certificate(why) => format!("{}: {why}", words("certificate", certificate)),
        Unusable::Key(why) => format!("{}: {why}", words("key", key)),
    })
}

/// On a thread that has the target's rights.
async fn read(agent: &Arc<Agent>, wanted: &Tls) -> Result<Contents, String> {
    let (reply, answer) = oneshot::channel();
    let (of, what) = (Arc::clone(agent), wanted.clone());
    agent.files.run(move || {
        // Nobody waits any more.
        let _ = reply.send(Contents::read(&of.target, &what));
    });
    let slow = |_| {
        let seconds = PATIENCE.as_secs();
        format!(
            "{} could not be read within {seconds} s",
            words("certificate", &wanted.certificate)
        )
    };
    let answer = timeout(PATIENCE, answer).await.map_err(slow)?;
    answer.map_err(|_| "the agent has no thread to read the certificate".to_owned())?
}

impl Contents {
    fn read(target: &Target, wanted: &Tls) -> Result<Self, String> {
        let client_ca = wanted.client_ca.as_ref();
        let client_identity = wanted.client_identity.as_ref();
        let identity = |(certificate, key): &(Pem, Pem)| {
            let certificate = content(target, "client's certificate", certificate)?;
            Ok::<_, String>((certificate, content(target, "client's key", key)?))
        };
        Ok(Self {
            certificate: content(target, "certificate", &wanted.certificate)?,
            key: content(target, "key", &wanted.key)?,
            client_ca: client_ca
                .map(|pem| content(target, "authorities of clients", pem))
                .transpose()?,
            client_identity: client_identity.map(identity).transpose()?,
        })
    }
}

fn content(target: &Target, what: &str, pem: &Pem) -> Result<Vec<u8>, String> {
    let path = match pem {
        Pem::Content(bytes) => return Ok(bytes.0.clone()),
        Pem::Path(path) => path,
    };
    let wrong = |why: &str| format!("{}: {why}", words(what, pem));
    let open = || resolve::open(target.root()?, target.own_pid(), &path.0, resolve::READ);
    let file = std::fs::File::from(open().map_err(|error| wrong(&error.to_string()))?);
    let metadata = file.metadata().map_err(|error| wrong(&error.to_string()))?;
    if !metadata.is_file() {
        return Err(wrong("it is no regular file"));
    }
    let mut bytes = Vec::new();
    let read = file.take(MAX_PEM as u64 + 1).read_to_end(&mut bytes);
    match read {
        Ok(count) if count > MAX_PEM => Err(wrong(&format!("it is larger than {} KiB", MAX_PEM >> 10))),
        Ok(_) => Ok(bytes),
        Err(error) => Err(wrong(&error.to_string())),
    }
}

fn words(what: &str, pem: &Pem) -> String {
    match pem {
        Pem::Path(path) => format!("the {what} {} in the pod", String::from_utf8_lossy(&path.0)),
        Pem::Content(_) => format!("the {what} of the session's machine"),
    }
}
