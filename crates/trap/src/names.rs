//! What sockets say about themselves: the pod's addresses, not the relay's.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

use guest::protocol::{Answer, Call, Peer};
use rules::{IncomingMode, Protocol};
use rustix::io::Errno;

use crate::context::Context;
use crate::notification::Pending;
use crate::sockaddr::{Encoded, plain};
use crate::socket::{Kind, Socket};
use crate::sys::message;
use crate::table::{OutgoingState, Shared, lock};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Local,
    Peer,
}

/// `getsockname(fd, address, length)` and `getpeername(fd, address, length)`.
pub(crate) fn name(context: &Arc<Context>, pending: Pending, end: End) {
    if context.table.is_empty() {
        return pending.proceed();
    }
    let Some((pending, socket)) = context.socket(pending, 0) else {
        return;
    };
    match known(context, &socket, end) {
        Known::Address(address) => {
            // Before the answer: see `Pending::answering`.
            drop(socket);
            answer(pending, &address);
        }
        Known::Accepted(from) => {
            let then = context.clone();
            context.server.call(Call::Peer { address: plain(from) }, move |reply| {
                let peer = match reply {
                    Some(Answer::Peer(peer)) => peer,
                    _ => None,
                };
                if let Ok(cookie) = socket.cookie() {
                    lock(&then.table.get_or_new(cookie)).peer = Some(peer);
                }
                match peer {
                    Some(peer) => answer(pending, &of_peer(peer, end, socket.is_v6())),
                    None => pending.proceed(),
                }
            });
        }
        Known::Soon(shared) => {
            drop(socket);
            let mut tracked = lock(&shared);
            match &mut tracked.outgoing {
                Some(outgoing) if outgoing.is_connecting() => outgoing.asking.push(pending),
                _ => {
                    drop(tracked);
                    name(context, pending, end);
                }
            }
        }
        Known::Nothing => pending.proceed(),
    }
}

enum Known {
    Address(Encoded),
    /// A connection from this loopback address that nobody has asked about.
    Accepted(SocketAddr),
    /// Connected, and the server is about to say from where.
    Soon(Shared),
    Nothing,
}

fn known(context: &Context, socket: &Socket, end: End) -> Known {
    // What is not connected says so by itself.
    let connected = message::peer_name(socket.as_fd()).is_ok();
    if end == End::Peer && !connected {
        return Known::Nothing;
    }
    let v6 = socket.is_v6();
    let dressed = |address| Known::Address(Encoded::inet(address, v6));
    let tracked = context.tracked(socket);
    if let Some(shared) = tracked {
        let tracked = lock(&shared);
        let own_port = || socket.local().map_or(0, |local| local.port());
        match end {
            End::Peer => {
                if let Some(path) = &tracked.unix_peer {
                    return Encoded::unix(path).map_or(Known::Nothing, Known::Address);
                }
                if let Some(peer) = tracked
                    .outgoing
                    .as_ref()
                    .map(|outgoing| outgoing.destination)
                    .or(tracked.datagram_peer)
                {
                    return dressed(peer);
                }
            }
            End::Local => {
                if let Some(path) = &tracked.unix_local {
                    return Encoded::unix(path).map_or(Known::Nothing, Known::Address);
                }
                if let Some(outgoing) = &tracked.outgoing {
                    if connected && outgoing.is_connecting() {
                        return Known::Soon(shared.clone());
                    }
                    return match outgoing.state {
                        OutgoingState::Connected { local } => dressed(local),
                        _ => pod_address(context, v6, outgoing.destination, own_port()).map_or(Known::Nothing, dressed),
                    };
                }
                if let Some(mut asked) = tracked.asked {
                    if asked.port() == 0 {
                        asked.set_port(own_port());
                    }
                    return dressed(asked);
                }
                if let Some(peer) = tracked.datagram_peer {
                    return pod_address(context, v6, peer, own_port()).map_or(Known::Nothing, dressed);
                }
            }
        }
        match tracked.peer {
            Some(Some(peer)) => return Known::Address(of_peer(peer, end, v6)),
            Some(None) => return Known::Nothing,
            None => {}
        }
    }
    accepted(context, socket, connected)
}

/// Whether it may be a remote client's connection to a listener of the app, accepted without asking for the address.
fn accepted(context: &Context, socket: &Socket, connected: bool) -> Known {
    if !connected || context.plan.incoming.mode == IncomingMode::Off || socket.kind() != Some(Kind::Tcp) {
        return Known::Nothing;
    }
    match (socket.peer(), socket.local()) {
        (Ok(peer), Ok(local))
            if plain(peer).ip().is_loopback() && context.table.own_port(Protocol::Tcp, local.port()).is_some() =>
        {
            Known::Accepted(peer)
        }
        _ => Known::Nothing,
    }
}

fn of_peer(peer: Peer, end: End, v6: bool) -> Encoded {
    Encoded::inet(if end == End::Peer { peer.client } else { peer.server }, v6)
}

/// The pod's address from which `destination` would be reached.
fn pod_address(context: &Context, v6: bool, destination: SocketAddr, port: u16) -> Option<SocketAddr> {
    if plain(destination).ip().is_loopback() {
        return Some(SocketAddr::new(plain(destination).ip(), port));
    }
    let same_family = |ip: &&std::net::IpAddr| ip.is_ipv4() == destination.is_ipv4() && (v6 || ip.is_ipv4());
    context
        .ready
        .addresses
        .iter()
        .find(same_family)
        .map(|ip| SocketAddr::new(*ip, port))
}

fn answer(pending: Pending, address: &Encoded) {
    let written = pending
        .memory()
        .write_address(pending.pointer(1), pending.pointer(2), address.bytes());
    pending.finish(written.map(|()| 0));
}

/// Writes an address for a call that may have passed null.
pub(crate) fn write(pending: &Pending, address: usize, length: usize, value: &Encoded) -> Result<(), Errno> {
    if pending.pointer(address).is_null() {
        return Ok(());
    }
    pending
        .memory()
        .write_address(pending.pointer(address), pending.pointer(length), value.bytes())
}
