//! The app's listeners as claims on the pod's traffic: declarative, sent whole whenever they change.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use guest::event::Event;
use guest::protocol::SocketCookie;
use rules::{IncomingMode, IncomingRules};
use tokio::sync::watch;
use wire::message::{self, Claim, ClaimMode, ClaimState, ReplyBody, RequestBody};

use crate::guests::Guests;
use crate::router::Router;

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
}

impl Claims {
    pub(crate) fn new(rules: IncomingRules, probes: Vec<message::Probe>) -> Self {
        Self {
            rules,
            probes,
            listeners: Mutex::default(),
            changed: watch::channel(0).0,
        }
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
        while changed.changed().await.is_ok() {
            changed.mark_unchanged();
            let claims = self.wanted();
            for (_, agent) in router.agents() {
                match agent.control.call(RequestBody::Claims(claims.clone())).await {
                    Ok(ReplyBody::Claims(states)) => self.tell(&claims, &states, &mut told, guests),
                    Ok(other) => guests.event(Event::Warning {
                        message: format!("the agent answered claims with {other:?}"),
                    }),
                    Err(_) => return,
                }
            }
        }
    }

    fn wanted(&self) -> Vec<Claim> {
        let mode = match self.rules.mode {
            IncomingMode::Off => return Vec::new(),
            IncomingMode::Mirror => ClaimMode::Mirror,
            IncomingMode::Steal => ClaimMode::Steal,
        };
        let mut ports: Vec<u16> = self.lock().values().map(|listener| listener.pod_port).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
            .into_iter()
            .map(|port| Claim {
                port,
                mode,
                filter: self.rules.filter.terms().to_vec(),
                probes: self.probes.clone(),
            })
            .collect()
    }

    /// Says what changed for a person: a port newly in force, or refused for a new reason.
    fn tell(&self, claims: &[Claim], states: &[ClaimState], told: &mut BTreeMap<u16, Option<String>>, guests: &Guests) {
        told.retain(|port, _| claims.iter().any(|claim| claim.port == *port));
        for (claim, state) in claims.iter().zip(states) {
            let (news, event) = match state {
                ClaimState::Active { older } => (
                    None,
                    Event::Claimed {
                        port: claim.port,
                        mode: self.words(),
                        older_connections: *older,
                    },
                ),
                ClaimState::Refused(reason) => (
                    Some(reason.clone()),
                    Event::ClaimRefused {
                        port: claim.port,
                        reason: reason.clone(),
                    },
                ),
            };
            if told.get(&claim.port) != Some(&news) {
                told.insert(claim.port, news);
                guests.event(event);
            }
        }
    }

    fn words(&self) -> String {
        let verb = match self.rules.mode {
            IncomingMode::Steal => "stolen",
            _ => "mirrored",
        };
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
