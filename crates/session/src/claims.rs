//! The app's listeners, and its bound sockets for datagrams, as claims on the pod's traffic: declarative, sent whole whenever
//! they change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use guest::event::Event;
use guest::protocol::{SocketCookie, Transport};
use rules::{IncomingMode, IncomingRules, WhenTaken};
use tokio::sync::watch;
use wire::message::{self, Claim, ClaimEntry, ClaimMode, ClaimState, ReplyBody, RequestBody};
use wire::{ControlClient, LinkError};

use crate::check::Checker;
use crate::guests::Guests;
use crate::router::{Agent, Router};
use crate::terminated::TerminatedPorts;
use crate::translate::Warn;

/// Who waits for another session's end asks so often.
const AGAIN: Duration = Duration::from_secs(1);
/// An app that is started again listens again by then. Until it does, the copies of connections that its clients keep stay
/// open, since nothing could be mirrored of them later.
const RESTART: Duration = Duration::from_secs(10);
/// What is said of datagrams beside a filter.
const UNFILTERED: &str = "filters look into HTTP alone, so with one all datagrams are the real app's; without a filter they are \
     mirrored or stolen";
/// Sessions that are ended for one claim; more would be people who take it back.
const MAX_ENDED: usize = 16;

/// A port of the pod.
type Port = (u16, Transport);

/// One listener of the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Listener {
    transport: Transport,
    pod_port: u16,
    actual: SocketAddr,
}

#[derive(Default)]
struct Listeners {
    open: BTreeMap<SocketCookie, Listener>,
    /// Mirrored ports that something listened on, and since when nothing does.
    left: BTreeMap<Port, Instant>,
}

/// Which pod port leads to which local listener.
pub(crate) struct Claims {
    rules: IncomingRules,
    probes: Vec<message::Probe>,
    listeners: Mutex<Listeners>,
    changed: watch::Sender<u64>,
    /// Each claim is tried once it is in force.
    check: Option<Arc<Checker>>,
    terminated: Option<TerminatedPorts>,
    /// Mirrored requests that did not reach the app, by the pod's port; the first of each is said at once.
    lost: Mutex<BTreeMap<u16, u64>>,
    warn: Option<Warn>,
}

impl Claims {
    pub(crate) fn new(rules: IncomingRules, probes: Vec<message::Probe>) -> Self {
        Self {
            rules,
            probes,
            listeners: Mutex::default(),
            changed: watch::channel(0).0,
            check: None,
            terminated: None,
            lost: Mutex::default(),
            warn: None,
        }
    }

    pub(crate) fn with_warnings(self, warn: Warn) -> Self {
        Self {
            warn: Some(warn),
            ..self
        }
    }

    pub(crate) fn with_check(self, checker: Checker) -> Self {
        Self {
            check: Some(Arc::new(checker)),
            ..self
        }
    }

    pub(crate) fn with_terminated(self, ports: TerminatedPorts) -> Self {
        Self {
            terminated: Some(ports),
            ..self
        }
    }

    /// The ports whose TLS is terminated; none of somebody who only looks.
    pub(crate) fn terminated(&self) -> Option<&TerminatedPorts> {
        self.terminated.as_ref()
    }

    /// A socket of the app listens.
    pub(crate) fn listen(&self, socket: SocketCookie, transport: Transport, asked: u16, actual: SocketAddr) {
        if let Some(pod_port) = self.rules.pod_port(asked) {
            let listener = Listener {
                transport,
                pod_port,
                actual,
            };
            let mut listeners = self.lock();
            listeners.left.remove(&listener.port());
            listeners.open.insert(socket, listener);
            drop(listeners);
            self.changed.send_modify(|version| *version += 1);
        }
    }

    /// It is gone.
    pub(crate) fn unlisten(&self, socket: SocketCookie) {
        let mut listeners = self.lock();
        let Some(gone) = listeners.open.remove(&socket) else {
            return;
        };
        let port = gone.port();
        let last = listeners.open.values().all(|other| other.port() != port);
        if last && self.rules.mode == IncomingMode::Mirror && port.1 == Transport::Tcp {
            listeners.left.insert(port, Instant::now());
        }
        drop(listeners);
        self.changed.send_modify(|version| *version += 1);
    }

    /// Where the app listens for this pod port.
    pub(crate) fn local(&self, pod_port: u16) -> Option<SocketAddr> {
        self.all_local((pod_port, Transport::Tcp)).into_iter().next()
    }

    /// What it listens on for it.
    pub(crate) fn listener(&self, pod_port: u16) -> Option<SocketCookie> {
        let listeners = self.lock();
        let mut all = listeners.open.iter();
        all.find(|(_, listener)| listener.port() == (pod_port, Transport::Tcp))
            .map(|(socket, _)| *socket)
    }

    /// Where the app takes datagrams of this pod port; on a socket of the client's family where there is one.
    pub(crate) fn local_datagrams(&self, pod_port: u16, client: SocketAddr) -> Option<SocketAddr> {
        let all = self.all_local((pod_port, Transport::Udp));
        let same = all.iter().find(|actual| actual.is_ipv4() == client.is_ipv4());
        same.or(all.first()).copied()
    }

    fn all_local(&self, port: Port) -> Vec<SocketAddr> {
        let listeners = self.lock();
        let wanted = listeners.open.values().filter(|listener| listener.port() == port);
        wanted.map(|listener| listener.actual).collect()
    }

    fn lost_by_port(&self) -> MutexGuard<'_, BTreeMap<u16, u64>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A mirrored request has not reached the app.
    pub(crate) fn lost(&self, port: u16, why: &str) {
        let mut lost = self.lost_by_port();
        let count = lost.entry(port).or_default();
        *count += 1;
        if *count == 1
            && let Some(warn) = &self.warn
        {
            warn(format!(
                "port {port}: a mirrored request did not reach the app whole: {why}; how many there were is said at the end"
            ));
        }
    }

    /// Keeps the agents' claims as the listeners are, until the link is gone.
    pub(crate) async fn keep(&self, router: &Router, guests: &Guests) {
        let mut changed = self.changed.subscribe();
        let mut told: BTreeMap<Port, Option<String>> = BTreeMap::new();
        let mut waits = false;
        loop {
            let change = changed.changed();
            let change = match [waits.then_some(AGAIN), self.lingers()].into_iter().flatten().min() {
                Some(patience) => tokio::time::timeout(patience, change).await.unwrap_or(Ok(())),
                None => change.await,
            };
            if change.is_err() {
                return;
            }
            changed.mark_unchanged();
            let claims = self.wanted();
            waits = false;
            for (_, agent) in router.agents() {
                let Ok(states) = self.claim(agent, &claims, guests).await else {
                    return;
                };
                waits |= self.rules.when_taken == WhenTaken::Wait
                    && states.iter().any(|state| matches!(state, ClaimState::Taken { .. }));
                for port in self.tell(&claims, &states, &mut told, guests) {
                    if let Some(checker) = &self.check {
                        let (checker, control, guests) = (Arc::clone(checker), agent.control.clone(), guests.clone());
                        tokio::spawn(async move { checker.check(control, port, guests).await });
                    }
                }
            }
        }
    }

    /// One state for each claim, once everybody is out of the way who is to be.
    async fn claim(&self, agent: &Agent, claims: &[Claim], guests: &Guests) -> Result<Vec<ClaimState>, LinkError> {
        let mut ended: BTreeSet<[u8; 16]> = BTreeSet::new();
        loop {
            let states = match agent.control.call(RequestBody::Claims(claims.to_vec())).await? {
                ReplyBody::Claims(states) => states,
                other => {
                    guests.event(Event::Warning {
                        message: format!("the agent answered claims with {other:?}"),
                    });
                    return Ok(Vec::new());
                }
            };
            let holders = states.iter().filter_map(|state| match state {
                ClaimState::Taken { session, .. } if !ended.contains(session) => Some(*session),
                _ => None,
            });
            let holders: BTreeSet<_> = holders.collect();
            let takes = self.rules.when_taken == WhenTaken::TakeOver && !holders.is_empty();
            if !takes || ended.len() + holders.len() > MAX_ENDED {
                return Ok(states);
            }
            for holder in &holders {
                // One that has left meanwhile is no error.
                agent.control.call(RequestBody::StopSession(*holder)).await?;
            }
            ended.extend(holders);
        }
    }

    /// Says what came to the ports that were held, if any was.
    pub(crate) async fn tell_counts(&self, control: &ControlClient, guests: &Guests) {
        if *self.changed.borrow() == 0 {
            return;
        }
        // What the agent cannot say any more is not worth waiting for.
        let held = tokio::time::timeout(AGAIN, control.call(RequestBody::Held)).await;
        let Ok(Ok(ReplyBody::Held(held))) = held else { return };
        let lost = self.lost_by_port().clone();
        for ClaimEntry { port, mode, counts, .. } in held {
            let lost = match mode {
                ClaimMode::Mirror => lost.get(&port).copied().unwrap_or_default(),
                _ => 0,
            };
            guests.event(Event::Counted {
                port,
                transport: transport(mode),
                mode: verb(mode).to_owned(),
                seen: counts.seen,
                matched: counts.matched,
                passed: counts.passed,
                mirrored: counts.mirrored,
                dropped: counts.dropped,
                lost,
            });
        }
    }

    fn ports(&self) -> BTreeSet<Port> {
        self.lock().open.values().map(Listener::port).collect()
    }

    fn wanted(&self) -> Vec<Claim> {
        let mut ports = self.ports();
        let mut listeners = self.lock();
        listeners.left.retain(|_, since| since.elapsed() < RESTART);
        ports.extend(listeners.left.keys());
        drop(listeners);
        self.of(ports)
    }

    /// How long until the next port is given up.
    fn lingers(&self) -> Option<Duration> {
        let since = self.lock().left.values().min().copied();
        since.map(|since| RESTART.saturating_sub(since.elapsed()))
    }

    /// A claim for each of the ports. Filters look into HTTP alone: where there is one, datagrams are the real app's.
    pub(crate) fn of(&self, ports: BTreeSet<Port>) -> Vec<Claim> {
        let filter = self.rules.filter.terms();
        let claims = ports.into_iter();
        let claims = claims.filter_map(|(port, transport)| match (self.rules.mode, transport) {
            (IncomingMode::Off, _) => None,
            (IncomingMode::Mirror, Transport::Tcp) => Some((port, ClaimMode::Mirror)),
            (IncomingMode::Steal, Transport::Tcp) => Some((port, ClaimMode::Steal)),
            (_, Transport::Udp) if !filter.is_empty() => None,
            (IncomingMode::Mirror, Transport::Udp) => Some((port, ClaimMode::MirrorDatagrams)),
            (IncomingMode::Steal, Transport::Udp) => Some((port, ClaimMode::StealDatagrams)),
        });
        claims
            .map(|(port, mode)| Claim {
                port,
                mode,
                filter: filter.to_vec(),
                probes: self.probes.clone(),
                reconnect: self.rules.reconnect_clients,
                tls: match mode {
                    ClaimMode::Steal => self.terminated().and_then(|ports| ports.claim(port)),
                    _ => None,
                },
            })
            .collect()
    }

    /// Says what changed for a person: a port newly in force, or refused for a new reason. Returns the TCP ports that are
    /// newly in force.
    fn tell(
        &self,
        claims: &[Claim],
        states: &[ClaimState],
        told: &mut BTreeMap<Port, Option<String>>,
        guests: &Guests,
    ) -> Vec<u16> {
        let ports = self.ports();
        told.retain(|port, _| ports.contains(port));
        let news = claims.iter().zip(states);
        let news = news.map(|(claim, state)| (port_of(claim), self.news(claim, state)));
        let news = news.filter(|(port, _)| ports.contains(port));
        let filtered = self.rules.mode != IncomingMode::Off && !self.rules.filter.is_empty();
        let left = ports
            .iter()
            .filter(|(_, transport)| filtered && *transport == Transport::Udp);
        let left = left.map(|port| (*port, refused(*port, UNFILTERED.to_owned())));
        let mut in_force = Vec::new();
        for (port, (why, event)) in news.chain(left) {
            if told.get(&port) == Some(&why) {
                continue;
            }
            if why.is_none() && port.1 == Transport::Tcp {
                in_force.push(port.0);
            }
            told.insert(port, why);
            guests.event(event);
        }
        in_force
    }

    /// Why the claim is not in force, if it is not, and how that is said.
    pub(crate) fn news(&self, claim: &Claim, state: &ClaimState) -> (Option<String>, Event) {
        let port = port_of(claim);
        match state {
            ClaimState::Active { older } => (
                None,
                Event::Claimed {
                    port: port.0,
                    transport: port.1,
                    mode: self.words(),
                    older_connections: *older,
                },
            ),
            ClaimState::Refused(reason) => refused(port, reason.clone()),
            ClaimState::Taken { why, .. } => refused(port, format!("{why}; {}", self.what_then())),
        }
    }

    /// What to do, or is done, about somebody who is in the way.
    fn what_then(&self) -> &'static str {
        match self.rules.when_taken {
            WhenTaken::Refuse => "`--wait` waits until that session ends, `--take-over` ends it",
            WhenTaken::Wait => "waiting until that session ends",
            WhenTaken::TakeOver => "it could not be ended",
        }
    }

    fn words(&self) -> String {
        let verb = verb(match self.rules.mode {
            IncomingMode::Steal => ClaimMode::Steal,
            _ => ClaimMode::Mirror,
        });
        if self.rules.filter.is_empty() {
            verb.to_owned()
        } else {
            format!("{verb} where {}", self.rules.filter)
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn verb(mode: ClaimMode) -> &'static str {
    match mode {
        ClaimMode::Steal | ClaimMode::StealDatagrams => "stolen",
        ClaimMode::Mirror | ClaimMode::MirrorDatagrams => "mirrored",
    }
}

fn refused((port, transport): Port, reason: String) -> (Option<String>, Event) {
    let event = Event::ClaimRefused {
        port,
        transport,
        reason: reason.clone(),
    };
    (Some(reason), event)
}

impl Listener {
    fn port(&self) -> Port {
        (self.pod_port, self.transport)
    }
}

fn port_of(claim: &Claim) -> Port {
    (claim.port, transport(claim.mode))
}

/// What a claim of this mode takes.
#[must_use]
pub fn transport(mode: ClaimMode) -> Transport {
    if mode.is_datagrams() {
        Transport::Udp
    } else {
        Transport::Tcp
    }
}
