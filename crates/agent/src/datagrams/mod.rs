//! Datagrams: UDP of claimed ports, as a copy, or instead of the real app.
//!
//! One packet socket reads both. While a port is stolen, a packet rule drops what comes for it before the real app's
//! socket, which is behind the place where packet sockets read; answers leave by raw sockets. Nothing is redirected and
//! nothing is tracked: with the rule's end, or the agent's, the next datagram is the real app's.

mod answers;
mod claims;
mod reader;
mod stream;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use capture::Arrival;
use wire::message::{Bytes, Claim, ClaimMode, ClaimState, Datagram};

use crate::session::Session;
use answers::Answers;
use claims::Held;
use reader::Reader;

/// Ports of one session.
const MAX_PORTS: usize = 256;

pub(crate) struct Datagrams {
    netlink: Option<nft::Socket>,
    /// The namespace may route for others: only what is for an address of its own is its own.
    machine: bool,
    answers: Arc<Answers>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    claimants: HashMap<u64, BTreeMap<u16, Held>>,
    reader: Option<Reader>,
    rules: Option<nft::DatagramTable>,
}

impl Datagrams {
    pub(crate) fn new(netlink: Option<nft::Socket>, machine: bool) -> Arc<Self> {
        Arc::new(Self {
            netlink,
            machine,
            answers: Arc::default(),
            state: Mutex::default(),
        })
    }

    /// The session's claims from now on; one state for each.
    pub(crate) fn claim(self: &Arc<Self>, session: &Arc<Session>, wanted: &[Claim]) -> Vec<ClaimState> {
        let mut state = self.lock();
        let mut old = state.claimants.remove(&session.id).unwrap_or_default();
        let mut ports = BTreeMap::new();
        let mut states = Vec::with_capacity(wanted.len());
        for claim in wanted {
            let refused = if session.standing.is_over() {
                // It must not come back to life here.
                Some(ClaimState::Refused("the session has ended".to_owned()))
            } else if ports.len() >= MAX_PORTS {
                Some(ClaimState::Refused(format!(
                    "at most {MAX_PORTS} UDP ports can be claimed"
                )))
            } else {
                state.in_the_way(claim)
            };
            states.push(refused.unwrap_or_else(|| {
                let kept = old.remove(&claim.port).filter(|held| held.mode == claim.mode);
                let held = kept.unwrap_or_else(|| Held::begin(session, claim, &self.answers));
                ports.insert(claim.port, held);
                ClaimState::Active { older: 0 }
            }));
        }
        if !ports.is_empty() {
            state.claimants.insert(session.id, ports);
        }
        if let Err(why) = self.apply(&mut state) {
            state.claimants.remove(&session.id);
            let _ = self.apply(&mut state);
            states = states.into_iter().map(|state| state.undone(&why)).collect();
        }
        states
    }

    /// The session's claims end: its ports are the real app's at once.
    pub(crate) fn release(self: &Arc<Self>, session: u64) {
        let mut state = self.lock();
        if state.claimants.remove(&session).is_some() {
            self.end(&mut state);
        }
    }

    /// All claims end.
    pub(crate) fn stop_all(self: &Arc<Self>) {
        let mut state = self.lock();
        state.claimants.clear();
        self.end(&mut state);
    }

    fn end(self: &Arc<Self>, state: &mut State) {
        if let Err(error) = self.apply(state) {
            tracing::error!(error, "ending a claim of datagrams");
        }
    }

    /// Whether somebody claims the port: an own socket there would lose its answers.
    pub(crate) fn is_claimed(&self, port: u16) -> bool {
        self.lock().claimants.values().any(|ports| ports.contains_key(&port))
    }

    /// Makes the packet rule and what is read what the claims say.
    fn apply(self: &Arc<Self>, state: &mut State) -> Result<(), String> {
        let (ports, stolen) = (state.ports(|_| true), state.ports(ClaimMode::steals));
        // A port is read before it is kept from the app, and not the other way round: rather twice than never.
        match &state.reader {
            _ if ports.is_empty() => state.reader = None,
            Some(reader) => reader.set_ports(&ports).map_err(|error| error.to_string())?,
            None => state.reader = Some(Reader::start(self, &ports).map_err(|error| error.to_string())?),
        }
        if stolen.is_empty() {
            state.rules = None;
            return Ok(());
        }
        let rules = match &mut state.rules {
            Some(rules) => rules,
            rules => {
                let netlink = self.netlink.as_ref().ok_or("the kernel has no netfilter netlink")?;
                rules.insert(nft::DatagramTable::create(netlink).map_err(|error| error.to_string())?)
            }
        };
        rules.set_ports(&stolen).map_err(|error| error.to_string())
    }

    /// What came, to each session that wants it.
    fn take(&self, arrival: &Arrival<'_>) {
        let state = self.lock();
        let held = state
            .claimants
            .values()
            .filter_map(|ports| ports.get(&arrival.server.port()));
        for held in held {
            if !arrival.whole {
                held.lost();
                continue;
            }
            for data in arrival.datagrams() {
                held.deliver(Datagram {
                    client: arrival.client,
                    server: arrival.server,
                    data: Bytes(data.to_vec()),
                });
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn ports(&self, of: impl Fn(ClaimMode) -> bool) -> BTreeSet<u16> {
        let all = self.claimants.values().flatten();
        all.filter(|(_, held)| of(held.mode)).map(|(port, _)| *port).collect()
    }

    /// Why the claim cannot be in force.
    fn in_the_way(&self, claim: &Claim) -> Option<ClaimState> {
        if claim.port == 0 {
            return Some(ClaimState::Refused("port 0 cannot be claimed".to_owned()));
        }
        if !claim.filter.is_empty() {
            return Some(ClaimState::Refused("filters do not look into datagrams".to_owned()));
        }
        let others = self.claimants.values().filter_map(|ports| ports.get(&claim.port));
        let mut thieves = others.filter(|held| claim.mode.steals() && held.mode.steals());
        thieves.find_map(|held| held.taken(claim.port))
    }
}
