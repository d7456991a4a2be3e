//! Mirroring: a copy of what clients send to claimed ports, each connection a stream to its session.
//!
//! One thread reads the capture and hands pieces to one task for each copied connection. Nothing waits for a session: what
//! it cannot take in time is dropped as a whole connection, counted and told.

mod budget;
mod feed;
mod inside;
mod reader;
mod sidecars;

pub(crate) use reader::OWN_MARKS;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rules::Filter;
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::mpsc;
use wire::message::{Claim, ClaimMode, ClaimState, Event, ToSession};

use crate::check::{Checks, Mss};
use crate::counters::Counters;
use crate::intercept::{self, Followed, Intercept};
use crate::limit::Tried;
use crate::probes::Probes;
use crate::session::Session;
use budget::{Budget, Share};
use feed::Feed;

/// Ports of one session.
const MAX_PORTS: usize = 256;

pub(crate) struct Mirror {
    tried: Tried,
    state: Mutex<State>,
    checks: Arc<Checks>,
    budget: Budget,
    intercept: Arc<Intercept>,
}

#[derive(Default)]
struct State {
    claimants: HashMap<u64, Claimant>,
    reader: Option<Reader>,
}

struct Claimant {
    session: Weak<Session>,
    events: mpsc::Sender<ToSession>,
    ports: BTreeMap<u16, Arc<Wanted>>,
    share: Share,
    /// Connections that were not delivered whole, by port, and whether the session knows.
    dropped: BTreeMap<u16, (u64, bool)>,
}

/// Which requests of a port are wanted.
#[derive(Debug)]
struct Wanted {
    filter: Filter,
    probes: Probes,
    older: u32,
    counters: Arc<Counters>,
}

/// The thread that reads; it looks at the claims again when woken, and ends when there are none.
struct Reader {
    wake: Arc<OwnedFd>,
    _followed: Followed,
}

impl Mirror {
    pub(crate) fn new(intercept: Arc<Intercept>, checks: Arc<Checks>) -> Arc<Self> {
        Arc::new(Self {
            tried: Tried::default(),
            state: Mutex::default(),
            checks,
            budget: Budget::default(),
            intercept,
        })
    }

    /// Why nothing can be mirrored here; `None` when it can.
    pub(crate) fn limit(&self) -> Option<String> {
        if self.lock().reader.is_some() {
            return None;
        }
        let smallest = capture::Config {
            ring_bytes: 0,
            ..capture::Config::default()
        };
        self.tried
            .limit(|| capture::Capture::open(&smallest).err().map(|error| error.to_string()))
    }

    /// The session's claims from now on; one state for each.
    pub(crate) fn claim(
        self: &Arc<Self>,
        session: &Arc<Session>,
        wanted: &[Claim],
        events: &mpsc::Sender<ToSession>,
    ) -> Vec<ClaimState> {
        let mut state = self.lock();
        let old = state.claimants.remove(&session.id);
        let known = |port| old.as_ref().and_then(|old| Some(old.ports.get(port)?.older));
        let mut ports = BTreeMap::new();
        let mut states = Vec::with_capacity(wanted.len());
        for claim in wanted {
            let older = known(&claim.port).unwrap_or_else(|| intercept::older(claim.port));
            let counters = session.standing.counters(claim.port, ClaimMode::Mirror);
            states.push(match Wanted::new(claim, older, counters) {
                Ok(wanted) if ports.len() < MAX_PORTS => {
                    ports.insert(claim.port, Arc::new(wanted));
                    ClaimState::Active { older }
                }
                Ok(_) => ClaimState::Refused(format!("at most {MAX_PORTS} ports can be mirrored")),
                Err(why) => ClaimState::Refused(why),
            });
        }
        // A session that has ended meanwhile must not come back to life here.
        if !ports.is_empty() && !session.standing.is_over() {
            let (share, dropped) = match old {
                Some(old) => (old.share, old.dropped),
                None => (self.budget.share(), BTreeMap::new()),
            };
            let claimant = Claimant {
                session: Arc::downgrade(session),
                events: events.clone(),
                ports,
                share,
                dropped,
            };
            state.claimants.insert(session.id, claimant);
        }
        if let Err(why) = self.apply(&mut state) {
            state.claimants.remove(&session.id);
            states = states.into_iter().map(|state| state.undone(&why)).collect();
        }
        states
    }

    pub(crate) fn release(self: &Arc<Self>, session: u64) {
        let mut state = self.lock();
        if state.claimants.remove(&session).is_some()
            && let Err(error) = self.apply(&mut state)
        {
            tracing::error!(error, "ending a mirror");
        }
    }

    /// Lets the reader know, or starts it.
    fn apply(self: &Arc<Self>, state: &mut State) -> Result<(), String> {
        if let Some(reader) = &state.reader {
            reader::wake(&reader.wake);
            return Ok(());
        }
        let ports = state.ports();
        if ports.is_empty() {
            return Ok(());
        }
        let listener = self.intercept.port()?;
        let capture = reader::open(ports, listener).map_err(|error| error.to_string())?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|error| error.to_string())?;
        let wake = Arc::new(wake);
        let followed = self.intercept.follow();
        let started = reader::start(Arc::clone(self), capture, listener, Arc::clone(&wake));
        started.map_err(|error| error.to_string())?;
        state.reader = Some(Reader {
            wake,
            _followed: followed,
        });
        Ok(())
    }

    /// A new connection: one feed for each session that wants its port.
    fn feeds(self: &Arc<Self>, client: SocketAddr, server: SocketAddr, mss: Option<u16>) -> Vec<Feed> {
        let mss = || mss.map(Mss::Said);
        if self.checks.arrived(client, server.port(), mss, ClaimMode::Mirror) {
            return Vec::new();
        }
        let state = self.lock();
        let wanting = state.claimants.iter().filter_map(|(id, claimant)| {
            let wanted = claimant.ports.get(&server.port())?;
            Some(Feed::new(
                *id,
                claimant.session.clone(),
                Arc::clone(wanted),
                claimant.share.clone(),
                client,
                server,
            ))
        });
        wanting.collect()
    }

    fn wants(&self, session: u64, port: u16) -> bool {
        self.lock()
            .claimants
            .get(&session)
            .is_some_and(|claimant| claimant.ports.contains_key(&port))
    }

    fn dropped(&self, session: u64, port: u16) {
        if let Some(claimant) = self.lock().claimants.get_mut(&session) {
            let (count, told) = claimant.dropped.entry(port).or_default();
            *count += 1;
            *told = false;
            if let Some(wanted) = claimant.ports.get(&port) {
                wanted.counters.dropped();
            }
        }
    }

    /// Tells sessions what they have missed.
    fn tell(&self) {
        for claimant in self.lock().claimants.values_mut() {
            for (&port, (connections, told)) in &mut claimant.dropped {
                let event = Event::MirrorDropped {
                    port,
                    connections: *connections,
                };
                if !*told && claimant.events.try_send(ToSession::Event(event)).is_ok() {
                    *told = true;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn ports(&self) -> BTreeSet<u16> {
        self.claimants
            .values()
            .flat_map(|claimant| claimant.ports.keys().copied())
            .collect()
    }
}

impl Wanted {
    /// Requests are wanted or not; else connections are, but for probes.
    fn by_request(&self) -> bool {
        !self.filter.is_empty()
    }

    fn new(claim: &Claim, older: u32, counters: Arc<Counters>) -> Result<Self, String> {
        if claim.port == 0 {
            return Err("port 0 cannot be mirrored".to_owned());
        }
        let filter = Filter::new(claim.filter.clone()).map_err(|error| error.to_string())?;
        Ok(Self {
            filter,
            probes: Probes::of(claim)?,
            older,
            counters,
        })
    }
}
