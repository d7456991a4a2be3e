//! The app's listeners as claims on the pod's traffic: declarative, sent whole whenever they change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use guest::event::Event;
use guest::protocol::SocketCookie;
use rules::{IncomingMode, IncomingRules, WhenTaken};
use tokio::sync::watch;
use wire::message::{self, Claim, ClaimEntry, ClaimMode, ClaimState, ReplyBody, RequestBody};
use wire::{ControlClient, LinkError};

use crate::check;
use crate::guests::Guests;
use crate::router::{Agent, Router};

/// Who waits for another session's end asks so often.
const AGAIN: Duration = Duration::from_secs(1);
/// Sessions that are ended for one claim; more would be people who take it back.
const MAX_ENDED: usize = 16;

/// One listener of the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Listener {
    pod_port: u16,
    actual: SocketAddr,
}

/// Which pod port leads to which local listener.
pub(crate) struct Claims {
    rules: IncomingRules,
    probes: Vec<message::Probe>,
    listeners: Mutex<BTreeMap<SocketCookie, Listener>>,
    changed: watch::Sender<u64>,
    /// Each claim is tried once it is in force.
    check: bool,
}

impl Claims {
    pub(crate) fn new(rules: IncomingRules, probes: Vec<message::Probe>) -> Self {
        Self {
            rules,
            probes,
            listeners: Mutex::default(),
            changed: watch::channel(0).0,
            check: false,
        }
    }

    pub(crate) fn with_check(self, check: bool) -> Self {
        Self { check, ..self }
    }

    /// A socket of the app listens.
    pub(crate) fn listen(&self, socket: SocketCookie, asked: u16, actual: SocketAddr) {
        if let Some(pod_port) = self.rules.pod_port(asked) {
            self.lock().insert(socket, Listener { pod_port, actual });
            self.changed.send_modify(|version| *version += 1);
        }
    }

    /// It is gone.
    pub(crate) fn unlisten(&self, socket: SocketCookie) {
        if self.lock().remove(&socket).is_some() {
            self.changed.send_modify(|version| *version += 1);
        }
    }

    /// Where the app listens for this pod port.
    pub(crate) fn local(&self, pod_port: u16) -> Option<SocketAddr> {
        self.lock()
            .values()
            .find(|listener| listener.pod_port == pod_port)
            .map(|listener| listener.actual)
    }

    /// Keeps the agents' claims as the listeners are, until the link is gone.
    pub(crate) async fn keep(&self, router: &Router, guests: &Guests) {
        let mut changed = self.changed.subscribe();
        let mut told: BTreeMap<u16, Option<String>> = BTreeMap::new();
        let mut waits = false;
        loop {
            let change = changed.changed();
            let change = if waits {
                tokio::time::timeout(AGAIN, change).await.unwrap_or(Ok(()))
            } else {
                change.await
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
                    if self.check {
                        tokio::spawn(check::check(agent.control.clone(), port, guests.clone()));
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
        for ClaimEntry { port, mode, counts, .. } in held {
            guests.event(Event::Counted {
                port,
                mode: verb(mode).to_owned(),
                seen: counts.seen,
                matched: counts.matched,
                passed: counts.passed,
                mirrored: counts.mirrored,
                dropped: counts.dropped,
            });
        }
    }

    fn wanted(&self) -> Vec<Claim> {
        let ports = self.lock().values().map(|listener| listener.pod_port).collect();
        self.of(ports)
    }

    /// A claim for each of the ports.
    pub(crate) fn of(&self, mut ports: Vec<u16>) -> Vec<Claim> {
        let mode = match self.rules.mode {
            IncomingMode::Off => return Vec::new(),
            IncomingMode::Mirror => ClaimMode::Mirror,
            IncomingMode::Steal => ClaimMode::Steal,
        };
        ports.sort_unstable();
        ports.dedup();
        ports
            .into_iter()
            .map(|port| Claim {
                port,
                mode,
                filter: self.rules.filter.terms().to_vec(),
                probes: self.probes.clone(),
                reconnect: self.rules.reconnect_clients,
            })
            .collect()
    }

    /// Says what changed for a person: a port newly in force, which is returned, or refused for a new reason.
    fn tell(
        &self,
        claims: &[Claim],
        states: &[ClaimState],
        told: &mut BTreeMap<u16, Option<String>>,
        guests: &Guests,
    ) -> Vec<u16> {
        let mut in_force = Vec::new();
        told.retain(|port, _| claims.iter().any(|claim| claim.port == *port));
        for (claim, state) in claims.iter().zip(states) {
            let (news, event) = self.news(claim, state);
            if told.get(&claim.port) != Some(&news) {
                in_force.extend(news.is_none().then_some(claim.port));
                told.insert(claim.port, news);
                guests.event(event);
            }
        }
        in_force
    }

    /// Why the claim is not in force, if it is not, and how that is said.
    pub(crate) fn news(&self, claim: &Claim, state: &ClaimState) -> (Option<String>, Event) {
        match state {
            ClaimState::Active { older } => (
                None,
                Event::Claimed {
                    port: claim.port,
                    mode: self.words(),
                    older_connections: *older,
                },
            ),
            ClaimState::Refused(reason) => refused(claim.port, reason.clone()),
            ClaimState::Taken { why, .. } => refused(claim.port, format!("{why}; {}", self.what_then())),
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

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<SocketCookie, Listener>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn verb(mode: ClaimMode) -> &'static str {
    match mode {
        ClaimMode::Steal => "stolen",
        ClaimMode::Mirror => "mirrored",
    }
}

fn refused(port: u16, reason: String) -> (Option<String>, Event) {
    (Some(reason.clone()), Event::ClaimRefused { port, reason })
}
