//! What the session remembers about the app's sockets, under their cookies. Nothing is kept about any other socket, and
//! what is kept goes when the kernel says that the socket is gone.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use guest::protocol::{FlowId, Peer, SocketCookie};
use rules::Protocol;
use rustix::io::Errno;

use crate::arrivals::Clients;
use crate::notification::Pending;
use crate::sys::message::Datagram;

/// One socket of the app.
#[derive(Default)]
pub(crate) struct Tracked {
    pub(crate) outgoing: Option<Outgoing>,
    /// What the app asked to be bound to, where that is not what it got.
    pub(crate) asked: Option<SocketAddr>,
    pub(crate) bound: Option<Bound>,
    /// A port was named in bind, not left to the kernel.
    pub(crate) named_port: bool,
    /// It takes connections, or clients' datagrams, and the server knows.
    pub(crate) listening: bool,
    /// Whose connection an accepted socket is; the inner `None`: this machine's.
    pub(crate) peer: Option<Option<Peer>>,
    /// Connections that were accepted for a call that a signal ended: for the next one.
    pub(crate) accepted: VecDeque<OwnedFd>,
    /// The same for datagrams.
    pub(crate) received: VecDeque<Datagram>,
    /// Where the app believes to be connected by UDP.
    pub(crate) datagram_peer: Option<SocketAddr>,
    /// Some datagram of this socket went to the pod, or may have come from it, so sources may need translation.
    pub(crate) remote_datagrams: bool,
    /// The pod's clients whose datagrams it has received.
    pub(crate) clients: Clients,
    /// The unix path the app believes to be connected to.
    pub(crate) unix_peer: Option<Vec<u8>>,
    /// The path that a unix socket was bound to, where it lies elsewhere on this machine.
    pub(crate) unix_local: Option<Vec<u8>>,
}

/// A bind that was done. When a signal took its caller away before it was told, its repetition succeeds.
pub(crate) struct Bound {
    pub(crate) tid: u32,
    pub(crate) asked: SocketAddr,
    /// How long its repetition succeeds; `None`: it is known not to be delivered.
    pub(crate) until: Option<std::time::Instant>,
}

/// A TCP connection out of the pod.
pub(crate) struct Outgoing {
    pub(crate) flow: FlowId,
    pub(crate) destination: SocketAddr,
    pub(crate) state: OutgoingState,
    /// A connect succeeded and a signal kept its caller from being told: the next one succeeds too.
    pub(crate) untold: bool,
    /// Calls of getsockname on a socket that is connected already, while the pod's end is not yet known.
    pub(crate) asking: Vec<Pending>,
}

pub(crate) enum OutgoingState {
    /// In SYN_SENT towards the relay. The duplicate is what a failed dial is reported through. `told`: the app knows that
    /// it is under way (a signal may have ended the call that should have said so).
    Connecting { socket: OwnedFd, told: bool },
    /// `local` is the pod's end.
    Connected { local: SocketAddr },
    /// The dial failed and the app has not been told yet.
    Failed(Errno),
}

impl Outgoing {
    pub(crate) fn is_connecting(&self) -> bool {
        matches!(self.state, OutgoingState::Connecting { .. })
    }
}

/// A socket's state, shared between the calls on it; the lock orders them.
pub(crate) type Shared = Arc<Mutex<Tracked>>;

/// Locks a socket's state; a panic elsewhere does not make it unusable.
pub(crate) fn lock(shared: &Shared) -> MutexGuard<'_, Tracked> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The app's sockets that are not plain ones.
#[derive(Default)]
pub(crate) struct Table {
    sockets: Mutex<HashMap<SocketCookie, Shared>>,
    ports: Mutex<Ports>,
}

/// The ports of this machine that the app's own tree has, as it asked for them and as they are.
#[derive(Default)]
struct Ports(Vec<OwnPort>);

#[derive(Debug, Clone, Copy)]
struct OwnPort {
    protocol: Protocol,
    socket: SocketCookie,
    asked: u16,
    actual: SocketAddr,
}

impl Table {
    pub(crate) fn get(&self, cookie: SocketCookie) -> Option<Shared> {
        self.sockets().get(&cookie).cloned()
    }

    pub(crate) fn get_or_new(&self, cookie: SocketCookie) -> Shared {
        self.sockets().entry(cookie).or_default().clone()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sockets().is_empty()
    }

    /// Every socket of which something is remembered.
    pub(crate) fn cookies(&self) -> Vec<SocketCookie> {
        self.sockets().keys().copied().collect()
    }

    /// Forgets a socket; whether it was listening.
    pub(crate) fn remove(&self, cookie: SocketCookie) -> bool {
        let Some(gone) = self.sockets().remove(&cookie) else {
            return false;
        };
        self.ports().0.retain(|port| port.socket != cookie);
        lock(&gone).listening
    }

    /// The sockets that are in a state in which the kernel lists them (sock_diag(7)): listening, connected, and all of UDP
    /// that have a port. A TCP socket that does nothing is in no list.
    pub(crate) fn listed(&self) -> Vec<SocketCookie> {
        let datagrams = self.ports().0.clone();
        let datagrams = datagrams.iter().filter(|port| port.protocol == Protocol::Udp);
        let streams = self.sockets().clone();
        let streams = streams.into_iter().filter(|(_, shared)| {
            let tracked = lock(shared);
            let connected = matches!(&tracked.outgoing, Some(outgoing) if matches!(outgoing.state, OutgoingState::Connected { .. }));
            tracked.listening || connected
        });
        streams
            .map(|(cookie, _)| cookie)
            .chain(datagrams.map(|port| port.socket))
            .collect()
    }

    pub(crate) fn add_port(&self, protocol: Protocol, socket: SocketCookie, asked: u16, actual: SocketAddr) {
        let mut ports = self.ports();
        ports.0.retain(|port| port.socket != socket);
        ports.0.push(OwnPort {
            protocol,
            socket,
            asked,
            actual,
        });
    }

    /// Where the app's own tree has this port.
    pub(crate) fn own_port(&self, protocol: Protocol, port: u16) -> Option<SocketAddr> {
        let ports = self.ports();
        let of = |wanted: fn(&OwnPort) -> u16| {
            ports
                .0
                .iter()
                .find(|own| own.protocol == protocol && wanted(own) == port)
                .map(|own| own.actual)
        };
        of(|own| own.asked).or_else(|| of(|own| own.actual.port()))
    }

    fn sockets(&self) -> MutexGuard<'_, HashMap<SocketCookie, Shared>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ports(&self) -> MutexGuard<'_, Ports> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_ports_are_found_as_asked_and_as_they_are() {
        let table = Table::default();
        let actual: SocketAddr = "127.0.0.1:40000".parse().unwrap();
        let socket = SocketCookie(7);
        table.get_or_new(socket);
        table.add_port(Protocol::Tcp, socket, 80, actual);
        assert_eq!(table.own_port(Protocol::Tcp, 80), Some(actual));
        assert_eq!(table.own_port(Protocol::Tcp, 40000), Some(actual));
        assert_eq!(table.own_port(Protocol::Udp, 80), None);
        table.remove(socket);
        assert_eq!(table.own_port(Protocol::Tcp, 80), None);
    }
}
