//! What every handler of a trapped call needs.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use guest::event::Event;
use guest::protocol::{Answer, Call, Ready};
use rules::{AddressContext, Endpoints, Place, Plan, Protocol, Verdict};
use rustix::io::Errno;

use crate::arrivals::Arrivals;
use crate::engine::Engine;
use crate::enterable::Looked;
use crate::files::Files;
use crate::notification::Pending;
use crate::reactor::Reactor;
use crate::server::Server;
use crate::skip::Skipped;
use crate::sockaddr::plain;
use crate::socket::Socket;
use crate::table::{Shared, Table};
use crate::task::Task;
use crate::undelivered::Undelivered;
use crate::workers::Workers;

/// One session's supervisor.
pub(crate) struct Context {
    pub(crate) engine: Engine,
    pub(crate) plan: Arc<Plan>,
    pub(crate) ready: Ready,
    pub(crate) files: Files,
    pub(crate) server: Server,
    pub(crate) table: Table,
    pub(crate) reactor: Reactor,
    pub(crate) workers: Workers,
    pub(crate) undelivered: Undelivered,
    pub(crate) skipped: Skipped,
    pub(crate) looked: Looked,
    /// Some program was refused.
    pub(crate) refused: AtomicBool,
    pub(crate) relays: Relays,
    pub(crate) arrivals: Arrivals,
    pub(crate) named_routes: NamedRoutes,
    pub(crate) events: Box<dyn Fn(Event) + Send + Sync>,
    /// Decisions are said (`-vv`); otherwise their words are not made.
    pub(crate) say_decisions: bool,
    /// Some rule names hosts, so decisions need the names of addresses.
    pub(crate) rules_by_name: bool,
}

/// Where datagrams go on this machine instead of their destination, both ways.
#[derive(Default)]
pub(crate) struct Relays(Mutex<(HashMap<SocketAddr, SocketAddr>, HashMap<SocketAddr, SocketAddr>)>);

impl Relays {
    pub(crate) fn of(&self, destination: SocketAddr) -> Option<SocketAddr> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .get(&destination)
            .copied()
    }

    /// Whose datagrams come from this relay.
    pub(crate) fn destination(&self, relay: SocketAddr) -> Option<SocketAddr> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .1
            .get(&plain(relay))
            .copied()
    }

    pub(crate) fn add(&self, destination: SocketAddr, relay: SocketAddr) {
        let mut maps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        maps.0.insert(destination, relay);
        maps.1.insert(plain(relay), destination);
    }
}

/// How long a datagram's route that was found by name is good, as names may be looked up meanwhile.
const NAMED_ROUTE: Duration = Duration::from_secs(1);

/// Recent routes of datagrams, where rules are by name.
#[derive(Default)]
pub(crate) struct NamedRoutes(Mutex<HashMap<SocketAddr, (Instant, Route)>>);

impl NamedRoutes {
    fn recent(&self, destination: SocketAddr) -> Option<Route> {
        let routes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        routes
            .get(&destination)
            .filter(|(since, _)| since.elapsed() < NAMED_ROUTE)
            .map(|(_, route)| *route)
    }

    fn add(&self, destination: SocketAddr, route: Route) {
        let mut routes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        routes.retain(|_, (since, _)| since.elapsed() < NAMED_ROUTE);
        routes.insert(destination, (Instant::now(), route));
    }
}

/// Where a destination is, and how to get there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// As the app wrote it.
    Untouched,
    /// On this machine, but at another address than the app wrote.
    Moved(SocketAddr),
    /// From the pod. IPv4 addresses are plain.
    Remote(SocketAddr),
}

impl Context {
    pub(crate) fn event(&self, event: Event) {
        (self.events)(event);
    }

    /// A duplicate of the descriptor that `pending` names in `argument`. On failure the call is answered: with EBADF as the
    /// kernel would, or refused with an event when the process hides, since going on would be silently local.
    pub(crate) fn socket(&self, pending: Pending, argument: usize) -> Option<(Pending, Socket)> {
        let descriptor = pending.descriptor_of(argument);
        if !pending.is_alive() {
            return None;
        }
        match descriptor {
            Ok(descriptor) => Some((pending, Socket::new(descriptor))),
            Err(Errno::BADF) => {
                pending.fail(Errno::BADF);
                None
            }
            Err(errno) => {
                self.refuse(pending, errno);
                None
            }
        }
    }

    /// The process cannot be served: said with its name, and the call fails.
    pub(crate) fn refuse(&self, pending: Pending, errno: Errno) {
        let task = Task::of(pending.tid());
        let call = crate::calls::of(pending.number()).map_or("a call", |call| call.name);
        let reason = match errno {
            Errno::PERM | Errno::ACCESS => format!(
                "its {call} cannot be served: it hides its memory and descriptors (not dumpable, or ptrace is restricted here)"
            ),
            other => format!("its {call} cannot be served: {other}"),
        };
        self.event(Event::ProgramRefused {
            pid: task.group().unwrap_or(pending.tid()),
            executable: task.executable().display().to_string(),
            reason,
        });
        pending.fail(errno);
    }

    /// What is remembered about a socket, if anything.
    pub(crate) fn tracked(&self, socket: &Socket) -> Option<Shared> {
        self.table.get(socket.cookie().ok()?)
    }

    /// Finds the route to `destination` and passes it to `then`, now or, when names must be asked for, later.
    pub(crate) fn route(
        self: &Arc<Self>,
        protocol: Protocol,
        destination: SocketAddr,
        then: impl FnOnce(&Arc<Self>, Route) + Send + 'static,
    ) {
        if !self.rules_by_name {
            let route = self.decide(protocol, destination, &[]);
            return then(self, route);
        }
        // Datagrams must not ask for each packet.
        if protocol == Protocol::Udp
            && let Some(route) = self.named_routes.recent(destination)
        {
            return then(self, route);
        }
        let context = self.clone();
        self.server.call(
            Call::Names {
                address: plain(destination).ip(),
            },
            move |answer| {
                let names = match answer {
                    Some(Answer::Names(names)) => names,
                    _ => Vec::new(),
                };
                let route = context.decide(protocol, destination, &names);
                if protocol == Protocol::Udp && !plain(destination).ip().is_loopback() {
                    context.named_routes.add(destination, route);
                }
                then(&context, route);
            },
        );
    }

    fn decide(&self, protocol: Protocol, destination: SocketAddr, names: &[String]) -> Route {
        let ip = plain(destination).ip();
        let here = ip.is_loopback() || ip.is_unspecified() || self.ready.addresses.contains(&ip);
        let own = if here {
            self.table.own_port(protocol, destination.port())
        } else {
            None
        };
        let asked = match own {
            // The pod's own address, where the app's own tree listens in its place.
            Some(_) if !ip.is_loopback() => SocketAddr::new(loopback(destination.is_ipv4()), destination.port()),
            _ => destination,
        };
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let verdict = self.plan.outgoing.decide(
            protocol,
            asked,
            AddressContext {
                names: &names,
                own_listener: own.is_some(),
            },
        );
        self.decided(|| format!("{protocol:?} {destination}"), &verdict);
        match (verdict.place, own) {
            (Place::Remote, _) => Route::Remote(plain(destination)),
            (_, Some(own)) if own.port() != destination.port() || self.ready.addresses.contains(&ip) => {
                let ip = if own.ip().is_unspecified() {
                    loopback(plain(own).is_ipv4() || destination.is_ipv4())
                } else {
                    own.ip()
                };
                Route::Moved(SocketAddr::new(ip, own.port()))
            }
            _ => Route::Untouched,
        }
    }

    pub(crate) fn decided(&self, what: impl FnOnce() -> String, verdict: &Verdict) {
        if self.say_decisions {
            let place = format!("{:?}", verdict.place).to_lowercase();
            self.event(Event::Decision {
                what: what(),
                place,
                why: verdict.why.to_string(),
            });
        }
    }
}

/// Whether some outgoing rule is by name.
pub(crate) fn has_names(plan: &Plan) -> bool {
    let outgoing = &plan.outgoing;
    outgoing
        .local
        .iter()
        .chain(&outgoing.remote)
        .any(|rule| matches!(rule.endpoints, Endpoints::Name(_)))
}

/// This machine's loopback address of a family.
pub(crate) fn loopback(v4: bool) -> std::net::IpAddr {
    if v4 {
        std::net::Ipv4Addr::LOCALHOST.into()
    } else {
        std::net::Ipv6Addr::LOCALHOST.into()
    }
}
