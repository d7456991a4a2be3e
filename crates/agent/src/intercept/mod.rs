//! Stealing: new connections to claimed ports come to a listener of ours; each request goes to its session or on to the
//! real app.
//!
//! Packet rules exist only while something is claimed or a redirected connection is open. Ending a claim empties the port
//! set at once; connections that are open go on, with new requests going to the real app. HTTP clients are led away from
//! them: what is idle is closed, and what is not is told with its next response.

mod around;
mod claims;
mod connection;
mod count;
mod first;
mod handshake;
mod lanes;
mod refuse;
mod session_stream;
mod socket;
mod terminator;
mod upstreams;
mod wanted;

pub(crate) use claims::request;
pub(crate) use first::fuzz;
pub(crate) use terminator::terminators;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wire::message::{Claim, ClaimMode, ClaimState};

use crate::check::Checks;
use crate::limit::Tried;
use crate::session::Session;
use claims::{Claims, Held, InTheWay, Port};
use lanes::Lanes;
use terminator::Terminator;
use wanted::Wanted;

/// How long the rules stay after the last connection: one whose first packet was redirected may not be accepted yet.
const GRACE: Duration = Duration::from_millis(500);
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Whoever holds it asks where clients wanted to go; see [`Intercept::follow`].
pub(crate) struct Followed(Arc<Intercept>);

impl Drop for Followed {
    fn drop(&mut self) {
        self.0.followed.store(false, Ordering::Relaxed);
        *self.0.wanted() = Wanted::default();
    }
}

pub(crate) struct Intercept {
    netlink: Option<nft::Socket>,
    /// Redirect only what is for an address of this namespace: it may route for others.
    machine: bool,
    tried: Tried,
    state: Mutex<State>,
    checks: Arc<Checks>,
    /// Redirected connections that are open.
    open: watch::Sender<usize>,
    /// Ports that somebody claims.
    claimed: watch::Sender<BTreeSet<u16>>,
    /// Of the listener, from the first one to the agent's end: a capture that knows it has not to be told of later ones.
    port: OnceLock<io::Result<Reserved>>,
    wanted: Mutex<Wanted>,
    /// Somebody asks for what is in `wanted`.
    followed: AtomicBool,
}

#[derive(Default)]
struct State {
    claims: Claims,
    sessions: HashMap<u64, Weak<Session>>,
    active: Option<Active>,
    /// Cookies of the connections that were open before a port was claimed; kept while there are packet rules, since our own
    /// connections to the real app could not be told from them later.
    older: HashMap<u16, BTreeSet<u64>>,
}

/// The packet rules and their listener.
struct Active {
    table: nft::Table,
    stop: CancellationToken,
}

impl State {
    /// How many connections of a port no claim has ever reached.
    fn older(&mut self, port: u16) -> u32 {
        let open = open_now(port);
        let older = self.older.entry(port).or_insert_with(|| open.clone());
        count(older.intersection(&open).count())
    }

    fn refused(&self, in_the_way: InTheWay) -> ClaimState {
        let holder = in_the_way
            .holder
            .and_then(|holder| self.sessions.get(&holder)?.upgrade());
        match holder {
            Some(holder) => ClaimState::Taken {
                session: holder.standing.name(),
                why: in_the_way.why,
            },
            None => ClaimState::Refused(in_the_way.why),
        }
    }
}

impl Intercept {
    pub(crate) fn new(netlink: Option<nft::Socket>, machine: bool, checks: Arc<Checks>) -> Arc<Self> {
        Arc::new(Self {
            netlink,
            machine,
            tried: Tried::default(),
            state: Mutex::default(),
            checks,
            open: watch::Sender::new(0),
            claimed: watch::Sender::default(),
            port: OnceLock::new(),
            wanted: Mutex::default(),
            followed: AtomicBool::new(false),
        })
    }

    /// Why nothing can be stolen here; `None` when it can.
    pub(crate) fn limit(&self) -> Option<String> {
        let Some(netlink) = &self.netlink else {
            return Some("the kernel has no netfilter netlink".to_owned());
        };
        if self.lock().active.is_some() {
            return None;
        }
        self.tried.limit(|| {
            nft::Table::probe(netlink, &self.config(nft::Config::default().listener))
                .err()
                .map(|error| error.to_string())
        })
    }

    /// The session's claims from now on, each with its of `terminators`; one state for each.
    pub(crate) fn claim(
        self: &Arc<Self>,
        session: &Arc<Session>,
        wanted: &[Claim],
        terminators: Vec<Result<Option<Arc<Terminator>>, String>>,
    ) -> Vec<ClaimState> {
        let mut state = self.lock();
        let keep: BTreeSet<u16> = wanted.iter().map(|claim| claim.port).collect();
        state.claims.retain(session.id, &keep);
        // A session that has ended meanwhile must not come back to life here.
        if session.standing.is_over() {
            state.claims.retain(session.id, &BTreeSet::new());
            return wanted
                .iter()
                .map(|_| ClaimState::Refused("the session has ended".to_owned()))
                .collect();
        }
        state.sessions.insert(session.id, Arc::downgrade(session));
        let mut states: Vec<ClaimState> = Vec::with_capacity(wanted.len());
        for (claim, terminator) in wanted.iter().zip(terminators) {
            let older = state
                .claims
                .of(session.id, claim.port)
                .unwrap_or_else(|| state.older(claim.port));
            let counters = session.standing.counters(claim.port, ClaimMode::Steal);
            let added = terminator
                .and_then(|tls| Ok(Held::new(session.id, &session.owner, claim, older, counters)?.with_tls(tls)))
                .map_err(InTheWay::from)
                .and_then(|held| state.claims.add(claim.port, held));
            if let Some(other) = state.claims.at(claim.port).overrules(session.id) {
                session.standing.warn(format!(
                    "port {}: TLS is terminated with the certificate that {other} has given, who was here first",
                    claim.port
                ));
            }
            states.push(match added {
                Ok(()) => ClaimState::Active { older },
                Err(in_the_way) => state.refused(in_the_way),
            });
        }
        if let Err(why) = self.apply(&mut state) {
            state.claims.retain(session.id, &BTreeSet::new());
            let _ = self.apply(&mut state);
            states = states.into_iter().map(|state| state.undone(&why)).collect();
        }
        states
    }

    /// The session's claims end: its ports are the real app's at once.
    pub(crate) fn release(self: &Arc<Self>, session: u64) {
        let mut state = self.lock();
        state.claims.retain(session, &BTreeSet::new());
        state.sessions.remove(&session);
        if let Err(error) = self.apply(&mut state) {
            tracing::error!(error, "ending a steal");
        }
    }

    /// All claims end.
    pub(crate) fn stop_all(self: &Arc<Self>) {
        let mut state = self.lock();
        state.claims.clear();
        if let Err(error) = self.apply(&mut state) {
            tracing::error!(error, "ending all steals");
        }
    }

    /// Where redirected connections are accepted whenever there are any.
    pub(crate) fn port(&self) -> Result<u16, String> {
        let reserved = self.port.get_or_init(Reserved::new).as_ref();
        let reserved = reserved.map_err(|error| format!("a port for the intercept listener: {error}"))?;
        Ok(reserved.port)
    }

    /// [`Self::wanted_by`] is asked from now on, until what this gives is dropped. One at a time.
    pub(crate) fn follow(self: &Arc<Self>) -> Followed {
        self.followed.store(true, Ordering::Relaxed);
        Followed(Arc::clone(self))
    }

    /// Where a client that our listener has accepted wanted to go; each can be asked for once.
    pub(crate) fn wanted_by(&self, client: SocketAddr) -> Option<SocketAddr> {
        self.wanted().take(client)
    }

    fn accepted(&self, client: SocketAddr, server: SocketAddr) {
        if self.followed.load(Ordering::Relaxed) {
            self.wanted().add(client, server);
        }
    }

    /// Waits until nobody claims the port.
    async fn unclaimed(&self, port: u16) {
        let _ = self.claimed.subscribe().wait_for(|ports| !ports.contains(&port)).await;
    }

    /// Waits until no redirected connection is open.
    pub(crate) async fn drained(&self) {
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }

    /// Makes the packet rules what the claims say.
    fn apply(self: &Arc<Self>, state: &mut State) -> Result<(), String> {
        let ports = state.claims.ports();
        self.claimed.send_if_modified(|claimed| {
            let changed = *claimed != ports;
            claimed.clone_from(&ports);
            changed
        });
        if state.active.is_none() && !ports.is_empty() {
            state.active = Some(self.start()?);
        }
        let Some(active) = &mut state.active else {
            state.older.clear();
            return Ok(());
        };
        let own = self.port()?;
        if ports.contains(&own) {
            return Err(format!("port {own} is the agent's own"));
        }
        active.table.set_ports(&ports).map_err(|error| error.to_string())?;
        state.refuse().map_err(|error| error.to_string())?;
        if ports.is_empty() && *self.open.borrow() == 0 {
            self.end_soon();
        }
        Ok(())
    }

    fn start(self: &Arc<Self>) -> Result<Active, String> {
        let netlink = self.netlink.as_ref().ok_or("the kernel has no netfilter netlink")?;
        let port = self.port()?;
        let listener = listen(port).map_err(|error| format!("the intercept listener: {error}"))?;
        // The threads end again if the rules cannot be made.
        let stop = CancellationToken::new().drop_guard();
        let lanes = Lanes::start(stop.token()).map_err(|error| format!("the intercept's threads: {error}"))?;
        let table = nft::Table::create(netlink, &self.config(port)).map_err(|error| error.to_string())?;
        let stop = stop.disarm();
        tokio::spawn(connection::accept(
            Arc::clone(self),
            listener,
            lanes,
            port,
            stop.clone(),
        ));
        tokio::spawn(around::watch(Arc::clone(self), stop.clone()));
        tokio::spawn(refuse::watch(Arc::clone(self), stop.clone()));
        Ok(Active { table, stop })
    }

    fn config(&self, listener: u16) -> nft::Config {
        nft::Config {
            listener,
            own_addresses_only: self.machine,
            ..nft::Config::default()
        }
    }

    /// Takes the rules away, unless they are needed again within the grace time.
    fn end_soon(self: &Arc<Self>) {
        let intercept = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(GRACE).await;
            let mut state = intercept.lock();
            if !state.claims.ports().is_empty() || *intercept.open.borrow() > 0 {
                return;
            }
            state.older.clear();
            if let Some(active) = state.active.take() {
                active.stop.cancel();
                if let Err(error) = active.table.remove() {
                    tracing::error!(%error, "removing the packet rules");
                }
            }
        });
    }

    fn opened(&self) {
        self.open.send_modify(|open| *open += 1);
    }

    fn closed(self: &Arc<Self>) {
        self.open.send_modify(|open| *open -= 1);
        if *self.open.borrow() == 0 && self.lock().claims.ports().is_empty() {
            self.end_soon();
        }
    }

    /// Cookies of the connections of a port that nobody's claim has ever reached.
    pub(crate) fn older(&self, port: u16) -> BTreeSet<u64> {
        let known = self.lock().older.get(&port).cloned();
        known.unwrap_or_else(|| open_now(port))
    }

    /// The ports that something listens on, but for the listener of ours.
    pub(crate) fn listening(&self) -> Result<Vec<u16>, nft::Error> {
        let own = self.port().ok();
        let ports: BTreeSet<u16> = nft::listening()?.iter().map(SocketAddr::port).collect();
        Ok(ports.into_iter().filter(|port| Some(*port) != own).collect())
    }

    /// Says it, once, to all who steal from the port.
    fn tell(&self, port: u16, text: &str) {
        let claims = self.claims(port);
        for session in claims.0.iter().filter_map(|held| self.session(held.session)) {
            session.standing.warn(text.to_owned());
        }
    }

    /// What the session terminates TLS of the port with.
    fn terminator(&self, session: u64, port: u16) -> Option<Arc<Terminator>> {
        self.claims(port).of(session)?.tls.clone()
    }

    /// The claims of a port as they are now.
    fn claims(&self, port: u16) -> Arc<Port> {
        self.lock().claims.at(port)
    }

    fn session(&self, id: u64) -> Option<Arc<Session>> {
        self.lock().sessions.get(&id)?.upgrade()
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connections that are older than a claim stay with the real app. Only a number for a person: no reason to fail.
pub(crate) fn older(port: u16) -> u32 {
    nft::older_connections(port).map_or(0, count)
}

fn open_now(port: u16) -> BTreeSet<u64> {
    let open = nft::open_connections(port).unwrap_or_default();
    open.iter().map(nft::Open::cookie).collect()
}

fn count(connections: usize) -> u32 {
    u32::try_from(connections).unwrap_or(u32::MAX)
}

/// A port that is bound as long as this lives; whoever listens on it binds it as well.
struct Reserved {
    port: u16,
    _socket: OwnedFd,
}

impl Reserved {
    fn new() -> io::Result<Self> {
        let socket = bound(0)?;
        let address = rustix::net::getsockname(&socket)?;
        let address = SocketAddr::try_from(address)?;
        Ok(Self {
            port: address.port(),
            _socket: socket,
        })
    }
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = bound(port)?;
    rustix::net::listen(&socket, BACKLOG)?;
    TcpListener::from_std(std::net::TcpListener::from(socket))
}

/// On every address of both families, since redirected connections arrive at the receiving interface's; the packet rules
/// keep everything else away.
fn bound(port: u16) -> io::Result<OwnedFd> {
    let bind = |family, address: SocketAddr| -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        if family == AddressFamily::INET6 {
            rustix::net::sockopt::set_ipv6_v6only(&socket, false)?;
        }
        rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
        rustix::net::bind(&socket, &address)?;
        Ok(socket)
    };
    bind(AddressFamily::INET6, (Ipv6Addr::UNSPECIFIED, port).into())
        .or_else(|_| bind(AddressFamily::INET, (Ipv4Addr::UNSPECIFIED, port).into()))
}
