//! Outgoing TCP: the app's socket truly waits in SYN_SENT towards the relay until the remote end is there.
//!
//! The kernel answers whatever the app asks in the meantime (not writable, EALREADY, ENOTCONN). When the dial succeeds the
//! server connects back and the socket is connected; when it fails, the socket is failed through a duplicate, and is never
//! writable without an error before.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use guest::event::Event;
use guest::protocol::{Answer, Call, FlowId, Notice};
use rules::Protocol;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use crate::context::{Context, Route};
use crate::names::{self, End};
use crate::notification::Pending;
use crate::reactor::{Waiting, Wake};
use crate::sockaddr::{Address, MAX_ADDRESS, plain};
use crate::socket::{Kind, Socket};
use crate::sys::message;
use crate::table::{Outgoing, OutgoingState, Shared, Tracked, lock};
use crate::{datagram, unix};

/// `TCP_FASTOPEN_CONNECT`: connect returns at once and the SYN waits for the first write.
const TCP_FASTOPEN_CONNECT: i32 = 30;

/// Reads the address in arguments `at` and `at + 1`. Answers the call itself when that cannot be done.
pub(crate) fn address(context: &Context, pending: Pending, at: usize) -> Option<(Pending, Address)> {
    let length = pending.int(at + 1);
    if length < 2 || pending.pointer(at).is_null() {
        pending.proceed();
        return None;
    }
    let length = (length as usize).min(MAX_ADDRESS);
    match pending.memory().read_vec(pending.pointer(at), length) {
        Ok(bytes) => Some((pending, Address::parse(&bytes))),
        Err(Errno::FAULT) => {
            pending.fail(Errno::FAULT);
            None
        }
        Err(errno) => {
            context.refuse(pending, errno);
            None
        }
    }
}

/// `connect(fd, address, length)`.
pub(crate) fn connect(context: &Arc<Context>, pending: Pending) {
    let Some((pending, address)) = address(context, pending, 1) else {
        return;
    };
    if address == Address::Other {
        return pending.proceed();
    }
    let Some((pending, socket)) = context.socket(pending, 0) else {
        return;
    };
    match address {
        Address::UnixPath(path) => unix::connect(context, pending, socket, path),
        Address::Unspecified => {
            dissolve(context, &socket);
            pending.proceed();
        }
        Address::Inet(destination) => match socket.kind() {
            Some(Kind::Tcp) => tcp(context, pending, socket, destination),
            Some(Kind::Udp) => datagram::connect(context, pending, socket, destination),
            None => pending.proceed(),
        },
        Address::Other => pending.proceed(),
    }
}

/// The app takes the association back.
fn dissolve(context: &Context, socket: &Socket) {
    let Some(shared) = context.tracked(socket) else { return };
    let mut tracked = lock(&shared);
    tracked.datagram_peer = None;
    if let Some(Outgoing {
        flow,
        state: OutgoingState::Connecting { .. },
        ..
    }) = tracked.outgoing.take()
    {
        context.server.notice(Notice::Abandon { flow }, &[]);
    }
}

fn tcp(context: &Arc<Context>, pending: Pending, socket: Socket, destination: SocketAddr) {
    let (pending, socket) = match context.tracked(&socket) {
        Some(shared) => match again(context, pending, socket, shared) {
            Some(first) => first,
            None => return,
        },
        None => (pending, socket),
    };
    context.route(Protocol::Tcp, destination, move |context, route| match route {
        Route::Untouched => pending.proceed(),
        Route::Moved(to) => moved(context, pending, socket, to),
        Route::Remote(destination) => begin(context, pending, socket, destination),
    });
}

/// A listener of the app's own tree at another address than the app knows.
fn moved(context: &Arc<Context>, pending: Pending, socket: Socket, to: SocketAddr) {
    match socket.without_blocking(|| socket.connect(to)) {
        Err(Errno::INPROGRESS) if !socket.is_nonblocking() => {
            let Ok(duplicate) = socket.duplicate() else {
                return pending.fail(Errno::NOBUFS);
            };
            context.reactor.wait(Waiting {
                pending,
                deadline: socket.send_timeout().map(|timeout| Instant::now() + timeout),
                interest: EventFlags::OUT,
                socket: duplicate,
                attempt: Box::new(move |pending, _| {
                    pending.finish(socket.without_blocking(|| socket.connect(to)).map(|()| 0));
                    None
                }),
            });
        }
        other => pending.finish(other.map(|()| 0)),
    }
}

/// Where a socket of this family waits for its remote end.
fn relay(context: &Context, socket: &Socket, destination: SocketAddr) -> Option<SocketAddr> {
    match (destination.is_ipv4(), context.ready.relay_v6) {
        (true, _) => Some(context.ready.relay_v4),
        (false, Some(relay)) => Some(relay),
        // No IPv6 on this machine: the IPv4 relay, as far as the socket may.
        (false, None) => (!socket.is_v6_only()).then_some(context.ready.relay_v4),
    }
}

fn begin(context: &Arc<Context>, pending: Pending, socket: Socket, destination: SocketAddr) {
    let Some(relay) = relay(context, &socket, destination) else {
        return pending.fail(Errno::NETUNREACH);
    };
    if message::option(socket.as_fd(), libc::IPPROTO_TCP, TCP_FASTOPEN_CONNECT) == Ok(1) {
        let _ = message::set_option(socket.as_fd(), libc::IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 0);
    }
    let (Ok(cookie), Ok(duplicate)) = (socket.cookie(), socket.duplicate()) else {
        return pending.fail(Errno::NOBUFS);
    };
    let shared = context.table.get_or_new(cookie);
    let flow = context.server.new_flow();
    let nonblocking = socket.is_nonblocking();
    let source = {
        let mut tracked = lock(&shared);
        if tracked.outgoing.is_some() {
            // Another thread was faster.
            drop(tracked);
            if let Some((pending, _)) = again(context, pending, socket, shared) {
                pending.fail(Errno::CONNABORTED);
            }
            return;
        }
        let attempt = || socket.without_blocking(|| socket.connect(relay));
        let begun = match attempt() {
            // A connect before this one failed, and the kernel had not yet said so to a connect (inet_stream_connect).
            Err(Errno::CONNABORTED) => attempt(),
            other => other,
        };
        match begun {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(errno) => return pending.fail(errno),
        }
        let source = match socket.local() {
            Ok(source) => plain(source),
            Err(errno) => return pending.fail(errno),
        };
        let state = OutgoingState::Connecting {
            socket: duplicate,
            told: true,
        };
        tracked.outgoing = Some(Outgoing {
            flow,
            destination,
            state,
            untold: false,
            asking: Vec::new(),
        });
        source
    };
    context.server.notice(Notice::Attach { flow, source }, &[]);
    let finished = (context.clone(), shared.clone());
    context.server.call(Call::Dial { flow, destination }, move |answer| {
        finish(&finished.0, &finished.1, flow, answer.as_ref());
    });
    if !nonblocking {
        return wait(context, pending, socket, shared);
    }
    let mut tracked = lock(&shared);
    if pending.deliver(Err(Errno::INPROGRESS)).is_err()
        && let Some(Outgoing {
            state: OutgoingState::Connecting { told, .. },
            ..
        }) = &mut tracked.outgoing
    {
        *told = false;
    }
}

/// The remote end is there, or will not be.
fn finish(context: &Arc<Context>, shared: &Shared, flow: FlowId, answer: Option<&Answer>) {
    let asking = {
        let mut tracked = lock(shared);
        let Some(outgoing) = tracked.outgoing.as_mut().filter(|outgoing| outgoing.flow == flow) else {
            return context.server.notice(Notice::Abandon { flow }, &[]);
        };
        decide(context, outgoing, answer);
        std::mem::take(&mut outgoing.asking)
    };
    for pending in asking {
        names::name(context, pending, End::Local);
    }
}

fn decide(context: &Context, outgoing: &mut Outgoing, answer: Option<&Answer>) {
    let errno = match answer {
        Some(Answer::Dialed(Ok(local))) => {
            outgoing.state = OutgoingState::Connected { local: *local };
            return;
        }
        Some(Answer::Dialed(Err(errno))) => Errno::from_raw_os_error(errno.0),
        _ => Errno::NETDOWN,
    };
    // The errno first: whoever is woken by what follows finds it.
    let before = std::mem::replace(&mut outgoing.state, OutgoingState::Failed(errno));
    let destination = outgoing.destination;
    if let OutgoingState::Connecting { socket, .. } = before {
        let socket = Socket::new(socket);
        fail(context, &socket, destination, errno);
    }
    if context.say_decisions {
        context.event(Event::Decision {
            what: format!("connect to {destination}"),
            place: "remote".to_owned(),
            why: format!("the pod says: {errno}"),
        });
    }
}

/// Ends a socket in SYN_SENT with an error: it becomes ready and failed in one step, measured on Linux 6.18.
fn fail(context: &Context, socket: &Socket, destination: SocketAddr, errno: Errno) {
    if socket.peer().is_ok() {
        return;
    }
    let _ = message::disconnect(socket.as_fd());
    // A refusal can be made real, so that read and write say it too: nothing ever listens on port 0. A program that was
    // woken by the line above and reads, without asking for SO_ERROR, before the line below, sees ECONNRESET instead.
    if let (Errno::CONNREFUSED, Some(mut nowhere)) = (errno, relay(context, socket, destination)) {
        nowhere.set_port(0);
        let _ = socket.without_blocking(|| socket.connect(nowhere));
    }
}

/// A further connect on a socket that has a flow: the kernel knows the answer (EALREADY, 0 once, EISCONN). The call comes back
/// where there is no flow, or its end has been told.
fn again(context: &Arc<Context>, pending: Pending, socket: Socket, shared: Shared) -> Option<(Pending, Socket)> {
    let mut tracked = lock(&shared);
    match progress(context, &socket, &mut tracked) {
        None => return Some((pending, socket)),
        Some(Err(Errno::ALREADY | Errno::INPROGRESS)) if !socket.is_nonblocking() => {
            drop(tracked);
            wait(context, pending, socket, shared);
        }
        Some(other) => tell(pending, &mut tracked, other),
    }
    None
}

/// Answers a connect. What a signal keeps from being delivered is there for the next one, or for SO_ERROR. `tracked` is locked
/// since the kernel was asked, which says 0 once: or the restarted call could come in between and be told EISCONN.
fn tell(pending: Pending, tracked: &mut Tracked, result: Result<(), Errno>) {
    let delivered = pending.deliver(result.map(|()| 0)).is_ok();
    match (&mut tracked.outgoing, result) {
        (Some(outgoing), Ok(())) => outgoing.untold = !delivered,
        (
            Some(Outgoing {
                state: OutgoingState::Failed(_),
                ..
            }),
            Err(_),
        ) if delivered => tracked.outgoing = None,
        _ => {}
    }
}

/// How far the connection is, as connect would say; `None`: there is none, or its end has been told.
fn progress(context: &Context, socket: &Socket, tracked: &mut Tracked) -> Option<Result<(), Errno>> {
    let (flow, connecting) = match &mut tracked.outgoing {
        Some(outgoing) if outgoing.untold => {
            outgoing.untold = false;
            return Some(Ok(()));
        }
        Some(Outgoing {
            state: OutgoingState::Connecting { told, .. },
            ..
        }) if !*told => {
            *told = true;
            return Some(Err(Errno::INPROGRESS));
        }
        Some(Outgoing {
            state: OutgoingState::Failed(errno),
            ..
        }) => {
            socket.take_error();
            return Some(Err(*errno));
        }
        Some(Outgoing { flow, state, .. }) => (*flow, matches!(state, OutgoingState::Connecting { .. })),
        None => return None,
    };
    let result = socket.without_blocking(|| socket.connect(context.ready.relay_v4));
    if !matches!(result, Ok(()) | Err(Errno::ALREADY | Errno::INPROGRESS | Errno::ISCONN)) {
        // The kernel gave up by itself (its own timeout), or the server closed the connection at once.
        tracked.outgoing = None;
        if connecting {
            context.server.notice(Notice::Abandon { flow }, &[]);
        }
    }
    Some(result)
}

/// Blocks the app's thread until the connection is there, as long as SO_SNDTIMEO allows.
fn wait(context: &Arc<Context>, pending: Pending, socket: Socket, shared: Shared) {
    let Ok(duplicate) = socket.duplicate() else {
        return pending.fail(Errno::NOBUFS);
    };
    let context_then = context.clone();
    context.reactor.wait(Waiting {
        pending,
        deadline: socket.send_timeout().map(|timeout| Instant::now() + timeout),
        interest: EventFlags::OUT,
        socket: duplicate,
        attempt: Box::new(move |pending, wake| {
            let mut tracked = lock(&shared);
            match progress(&context_then, &socket, &mut tracked).unwrap_or(Err(Errno::CONNABORTED)) {
                Err(Errno::ALREADY | Errno::INPROGRESS) if wake == Wake::Ready => return Some(pending),
                // connect(2): with SO_SNDTIMEO, a timeout says EINPROGRESS.
                Err(Errno::ALREADY | Errno::INPROGRESS) => pending.fail(Errno::INPROGRESS),
                other => tell(pending, &mut tracked, other),
            }
            None
        }),
    });
}

/// `getsockopt(fd, SOL_SOCKET, SO_ERROR, value, length)`: the pod's reason instead of how the socket was failed here.
pub(crate) fn pending_error(context: &Arc<Context>, pending: Pending) {
    if context.table.is_empty() {
        return pending.proceed();
    }
    let Some((pending, socket)) = context.socket(pending, 0) else {
        return;
    };
    let Some(shared) = context.tracked(&socket) else {
        return pending.proceed();
    };
    let failed = || match lock(&shared).outgoing {
        Some(Outgoing {
            state: OutgoingState::Failed(errno),
            ..
        }) => Some(errno),
        _ => None,
    };
    let Some(errno) = failed() else {
        return pending.proceed();
    };
    socket.take_error();
    // Before the answer: see `Pending::answering`.
    drop(socket);
    let (memory, value, length_at) = (pending.memory(), pending.pointer(3), pending.pointer(4));
    let written = memory.read_u32(length_at).and_then(|room| {
        let room = (room as usize).min(4);
        memory.write(value, &errno.raw_os_error().to_ne_bytes()[..room])?;
        memory.write(length_at, &(room as u32).to_ne_bytes())
    });
    // It is told once, and only what was delivered is told.
    let mut tracked = lock(&shared);
    if pending.deliver(written.map(|()| 0)).is_ok() && written.is_ok() {
        tracked.outgoing = None;
    }
}
