//! Incoming: bind and listen stay local and real, accept says who the client really is.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use guest::event::Event;
use guest::protocol::{Answer, Call, Notice, Peer, SocketCookie, Transport};
use rules::{IncomingMode, Protocol};
use rustix::event::epoll::EventFlags;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::connect::address;
use crate::context::{Context, loopback};
use crate::names;
use crate::notification::{Gone, Pending, UNSEEN};
use crate::reactor::{Waiting, Wake};
use crate::sockaddr::{Address, Encoded, dressed, plain};
use crate::socket::{Kind, Socket};
use crate::sys::message;
use crate::table::{Bound, Shared, Tracked, lock};
use crate::unix;

/// `bind(fd, address, length)`.
pub(crate) fn bind(context: &Arc<Context>, pending: Pending) {
    let Some((pending, address)) = address(context, pending, 1) else {
        return;
    };
    let asked = match address {
        Address::Inet(asked) => asked,
        Address::UnixPath(path) => return unix::bind(context, pending, path),
        _ => return pending.proceed(),
    };
    let Some((pending, socket)) = context.socket(pending, 0) else {
        return;
    };
    let protocol = match socket.kind() {
        Some(Kind::Tcp) => Protocol::Tcp,
        Some(Kind::Udp) => Protocol::Udp,
        None => return pending.proceed(),
    };
    let cookie = match socket.cookie() {
        Ok(cookie) => cookie,
        Err(errno) => return pending.fail(errno),
    };
    let shared = context.table.get_or_new(cookie);
    // Held until it is delivered or not: the restart of a call that a signal ended waits here for what became of it.
    let mut tracked = lock(&shared);
    if let Some(done) = tracked.bound.take()
        && (done.tid, done.asked) == (pending.tid(), asked)
        && done.until.is_none_or(|until| Instant::now() < until)
    {
        return deliver_bind(&mut tracked, pending, asked, Ok(()));
    }
    let bound = bind_here(context, &socket, &mut tracked, protocol, asked);
    deliver_bind(&mut tracked, pending, asked, bound);
}

fn deliver_bind(tracked: &mut Tracked, pending: Pending, asked: SocketAddr, bound: Result<(), Errno>) {
    let (tid, done) = (pending.tid(), bound.is_ok());
    let until = match pending.deliver(bound.map(|()| 0)) {
        Ok(()) => Some(Instant::now() + UNSEEN),
        Err(Gone) => None,
    };
    tracked.bound = done.then_some(Bound { tid, asked, until });
}

fn bind_here(
    context: &Context,
    socket: &Socket,
    tracked: &mut Tracked,
    protocol: Protocol,
    asked: SocketAddr,
) -> Result<(), Errno> {
    let cookie = socket.cookie()?;
    // The pod's own address does not exist here.
    let here = if context.ready.addresses.contains(&plain(asked).ip()) {
        dressed(
            SocketAddr::new(loopback(plain(asked).is_ipv4()), asked.port()),
            socket.is_v6(),
        )
    } else {
        asked
    };
    let moved = match socket.bind(here) {
        Ok(()) => false,
        // Another program of this machine has the port, or it is privileged. The app's own second bind fails truthfully.
        Err(Errno::ADDRINUSE | Errno::ACCESS)
            if asked.port() != 0 && context.table.own_port(protocol, asked.port()).is_none() =>
        {
            socket.bind(SocketAddr::new(here.ip(), 0))?;
            true
        }
        Err(errno) => return Err(errno),
    };
    let actual = socket.local()?;
    tracked.named_port = asked.port() != 0;
    tracked.asked = (moved || here != asked).then_some(asked);
    if protocol == Protocol::Udp {
        let port = if moved { asked.port() } else { actual.port() };
        context.table.add_port(protocol, cookie, port, actual);
        if tracked.named_port && context.plan.incoming.mode != IncomingMode::Off {
            tracked.listening = true;
            tracked.remote_datagrams = true;
            said(context, cookie, Transport::Udp, port, actual);
        }
    }
    if moved {
        context.event(Event::PortMoved {
            asked: asked.port(),
            actual: plain(actual),
        });
    }
    Ok(())
}

/// `listen(fd, backlog)`.
pub(crate) fn listen(context: &Arc<Context>, pending: Pending) {
    let Some((pending, socket)) = context.socket(pending, 0) else {
        return;
    };
    if socket.kind() != Some(Kind::Tcp) {
        return pending.proceed();
    }
    let listening = listen_here(context, &socket, pending.int(1));
    pending.finish(listening.map(|()| 0));
}

fn listen_here(context: &Context, socket: &Socket, backlog: i32) -> Result<(), Errno> {
    rustix::net::listen(socket, backlog)?;
    let (cookie, actual) = (socket.cookie()?, socket.local()?);
    let shared = context.table.get_or_new(cookie);
    let mut tracked = lock(&shared);
    if std::mem::replace(&mut tracked.listening, true) {
        return Ok(());
    }
    let asked = tracked.asked.map_or(actual.port(), |asked| {
        if asked.port() == 0 { actual.port() } else { asked.port() }
    });
    let named = tracked.named_port;
    drop(tracked);
    context.table.add_port(Protocol::Tcp, cookie, asked, actual);
    // A port that the kernel chose is nobody's in the pod.
    if named {
        said(context, cookie, Transport::Tcp, asked, actual);
    }
    Ok(())
}

/// The server hears of a port.
fn said(context: &Context, socket: SocketCookie, transport: Transport, asked: u16, actual: SocketAddr) {
    let notice = Notice::Listen {
        socket,
        transport,
        asked,
        actual: plain(actual),
    };
    context.server.notice(notice, &[]);
}

/// `accept(fd, address, length)` and `accept4(fd, address, length, flags)`, with an address wanted.
pub(crate) fn accept(context: &Arc<Context>, pending: Pending) {
    if context.plan.incoming.mode == IncomingMode::Off || context.table.is_empty() {
        return pending.proceed();
    }
    let Some((pending, socket)) = context.socket(pending, 0) else {
        return;
    };
    let Some(shared) = context.tracked(&socket).filter(|shared| lock(shared).listening) else {
        return pending.proceed();
    };
    let Some(pending) = attempt(context, &socket, &shared, pending, Wake::Ready) else {
        return;
    };
    let Ok(duplicate) = socket.duplicate() else {
        return pending.fail(Errno::NOBUFS);
    };
    let then = context.clone();
    context.reactor.wait(Waiting {
        pending,
        deadline: socket.receive_timeout().map(|timeout| Instant::now() + timeout),
        interest: EventFlags::IN,
        socket: duplicate,
        attempt: Box::new(move |pending, wake| attempt(&then, &socket, &shared, pending, wake)),
    });
}

/// Tries once; gives the call back when it must wait.
fn attempt(context: &Arc<Context>, socket: &Socket, shared: &Shared, pending: Pending, wake: Wake) -> Option<Pending> {
    let accepted = {
        let mut tracked = lock(shared);
        match tracked.accepted.pop_front() {
            Some(kept) => Ok(kept),
            None => socket.without_blocking(|| message::accept(socket.as_fd(), false)),
        }
    };
    match accepted {
        Ok(connection) => identify(context, shared.clone(), pending, connection),
        Err(Errno::AGAIN) if wake == Wake::Ready && !socket.is_nonblocking() => return Some(pending),
        Err(errno) => pending.fail(errno),
    }
    None
}

/// Finds out whose connection it is. Only connections from loopback can be the session's.
fn identify(context: &Arc<Context>, listener: Shared, pending: Pending, connection: OwnedFd) {
    let connection = Socket::new(connection);
    let from = match connection.peer() {
        Ok(from) => from,
        // The client is gone already; accept(2) says so.
        Err(_) => return pending.fail(Errno::CONNABORTED),
    };
    if !plain(from).ip().is_loopback() {
        return complete(context, &listener, pending, connection, from, None);
    }
    let then = context.clone();
    context.server.call(Call::Peer { address: plain(from) }, move |answer| {
        let peer = match answer {
            Some(Answer::Peer(peer)) => peer,
            _ => None,
        };
        complete(&then, &listener, pending, connection, from, peer);
    });
}

/// Delivers the connection, or keeps it for the next accept when the call is over.
fn complete(
    context: &Arc<Context>,
    listener: &Shared,
    pending: Pending,
    connection: Socket,
    from: SocketAddr,
    peer: Option<Peer>,
) {
    const ACCEPT4: i64 = libc::SYS_accept4;
    let flags = if pending.number() == ACCEPT4 { pending.int(3) } else { 0 };
    let file_flags = if flags & libc::SOCK_NONBLOCK != 0 {
        OFlags::NONBLOCK
    } else {
        OFlags::empty()
    };
    let v6 = connection.is_v6();
    if let Ok(cookie) = connection.cookie() {
        lock(&context.table.get_or_new(cookie)).peer = Some(peer);
    }
    let shown = Encoded::inet(peer.map_or(from, |peer| peer.client), v6);
    let prepared = rustix::fs::fcntl_setfl(&connection, file_flags);
    let connection = connection.into_inner();
    let alive = pending.is_alive();
    let delivered = match prepared.and_then(|()| {
        if alive {
            names::write(&pending, 1, 2, &shown)
        } else {
            Ok(())
        }
    }) {
        Ok(()) => pending.descriptor(&connection, flags & libc::SOCK_CLOEXEC != 0),
        Err(errno) => {
            pending.fail(errno);
            return;
        }
    };
    if let Err(Gone) = delivered {
        lock(listener).accepted.push_back(connection);
        context.reactor.retry_all();
    }
}
