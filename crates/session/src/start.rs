//! From a target's name to a running link: connect, ask who the target is, check that what was asked for can work.

use std::collections::BTreeMap;
use std::time::Instant;

use guest::event::Event;
use rules::{IncomingMode, IncomingRules, TlsPort};
use target::{Connector, PodProbe, ProbeKind, Progress};
use wire::hello::Hello;
use wire::message::{self, Facts, Open, ReplyBody, RequestBody};
use wire::{Acceptor, ControlClient, FilesClient, Link, LinkError};

use crate::error::SessionError;
use crate::guests::Guests;
use crate::router::{Agent, Router};
use crate::server::Settings;
use crate::spec;
use crate::terminated::{self, TerminatedPorts};
use crate::waiting::Waiting;

/// A session that is connected and knows its target.
pub(crate) struct Started {
    pub(crate) router: Router,
    pub(crate) acceptor: Acceptor,
    pub(crate) events: tokio::sync::mpsc::Receiver<message::Event>,
    pub(crate) facts: Facts,
    pub(crate) env: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) probes: Vec<message::Probe>,
    /// The incoming rules that can be kept here.
    pub(crate) incoming: IncomingRules,
    pub(crate) terminated: TerminatedPorts,
    pub(crate) target: String,
    pub(crate) connector: Connector,
}

/// Connects and gathers.
pub(crate) async fn start(settings: &Settings, guests: &Guests) -> Result<Started, SessionError> {
    let no_tls = BTreeMap::new();
    let tls = match settings.plan.incoming.mode {
        IncomingMode::Steal => &settings.plan.incoming.tls,
        IncomingMode::Mirror if !settings.plan.incoming.tls.is_empty() => return Err(SessionError::Encrypted),
        IncomingMode::Mirror | IncomingMode::Off => &no_tls,
    };
    let connector = Connector::resolve(&settings.target, &settings.kube, settings.agent.clone()).await?;
    let hello = Hello::new(settings.session, settings.token, &settings.owner);
    let (link, acceptor, peer) = connect(&connector, &hello, |event| guests.event(event)).await?;
    let begun = Instant::now();
    tracing::debug!(build = %peer.build, "linked");
    let (control, events) = ControlClient::new(link.open(&Open::Control, &[]).await?);
    let files = FilesClient::open(&link).await?;
    let router = Router::single(Agent { link, control, files }, guests.clone());
    let (mut facts, mut env) = tokio::try_join!(facts(&router.primary().control), env(&router))?;
    guests.event(Event::Phase {
        name: "facts and environment".to_owned(),
        milliseconds: u64::try_from(begun.elapsed().as_millis()).ok(),
    });
    let incoming = possible(&settings.plan.incoming, &facts, guests)?;
    let instead = spec::instead(&connector, &mut facts, &mut env).await;
    for message in instead {
        guests.event(Event::Warning { message });
    }
    let terminated = terminated::load(tls, &router.primary().files, guests).await?;
    let probes = connector.pod_probes().into_iter();
    let probes = probes.filter_map(|probe| wire_probe(probe, tls)).collect();
    Ok(Started {
        router,
        acceptor,
        events,
        facts,
        env,
        probes,
        incoming,
        terminated,
        target: connector.describe().to_string(),
        connector,
    })
}

/// An agent that another session has left may end just when this one attaches: then another follows.
pub(crate) async fn connect(
    connector: &Connector,
    hello: &Hello,
    tell: impl Fn(Event) + Send + Sync,
) -> Result<(Link, Acceptor, Hello), SessionError> {
    let mut again = true;
    loop {
        let waiting = Waiting::default();
        let connecting = connector.connect(|progress| {
            waiting.note(progress);
            if let Some(event) = phase(progress) {
                tell(event);
            }
        });
        let transport = waiting.tell_of(connecting, &tell).await?;
        let reused = connector.rights().is_some_and(|rights| rights.reused);
        match wire::connect(transport, hello.clone()).await {
            Err(LinkError::Ended { .. } | LinkError::Io { .. } | LinkError::Closed) if reused && again => again = false,
            outcome => return Ok(outcome?),
        }
    }
}

pub(crate) async fn facts(control: &ControlClient) -> Result<Facts, SessionError> {
    match control.call(RequestBody::Facts).await? {
        ReplyBody::Facts(facts) => Ok(facts),
        other => Err(unexpected("say who the target is", other)),
    }
}

async fn env(router: &Router) -> Result<Vec<(Vec<u8>, Vec<u8>)>, SessionError> {
    match router.call(RequestBody::Env).await? {
        ReplyBody::Env(pairs) => Ok(pairs.into_iter().map(|(name, value)| (name.0, value.0)).collect()),
        // Why is in the facts' limits, and is said from there.
        ReplyBody::Failed(_) => Ok(Vec::new()),
        other => Err(unexpected("read the target's environment", other)),
    }
}

fn unexpected(what: &'static str, reply: ReplyBody) -> SessionError {
    match reply {
        ReplyBody::Failed(fault) => SessionError::Agent { what, fault },
        _ => SessionError::Confused { what },
    }
}

/// Refuses what was asked for by name and cannot work; a default that cannot work is warned of and switched off.
fn possible(wanted: &IncomingRules, facts: &Facts, guests: &Guests) -> Result<IncomingRules, SessionError> {
    let (what, limit) = match wanted.mode {
        IncomingMode::Off => return Ok(wanted.clone()),
        IncomingMode::Steal => ("steal", &facts.limits.steal),
        IncomingMode::Mirror => ("mirror", &facts.limits.mirror),
    };
    let Some(reason) = limit else { return Ok(wanted.clone()) };
    if wanted.explicit || wanted.mode == IncomingMode::Steal {
        return Err(SessionError::Refused {
            what,
            reason: reason.clone(),
        });
    }
    guests.event(Event::Warning {
        message: format!("incoming traffic is not mirrored: {reason}"),
    });
    Ok(IncomingRules {
        mode: IncomingMode::Off,
        ..wanted.clone()
    })
}

/// The probes that can be recognised in traffic, with TLS where it is terminated.
fn wire_probe(probe: PodProbe, tls: &BTreeMap<u16, TlsPort>) -> Option<message::Probe> {
    let port = probe.port;
    match probe.kind {
        ProbeKind::Http { https: true, .. } if !tls.contains_key(&port) => None,
        ProbeKind::Http { path, headers, .. } => Some(message::Probe::Http { port, path, headers }),
        ProbeKind::Tcp { nodes } => Some(message::Probe::Tcp { port, nodes }),
        ProbeKind::Grpc { .. } => Some(message::Probe::Grpc { port }),
    }
}

fn phase(progress: Progress) -> Option<Event> {
    let (phase, took) = match progress {
        Progress::Began(phase) => (phase, None),
        Progress::Ended(phase, took) => (phase, u64::try_from(took.as_millis()).ok()),
        Progress::Sent(..) => return None,
    };
    Some(Event::Phase {
        name: phase.to_string(),
        milliseconds: took,
    })
}
