//! Datagrams: each destination in the pod has a relay address on this machine; the app's socket sends there, and what
//! comes from there is shown as coming from the destination. The server is asked once for each destination.

mod receive;

pub(crate) use receive::{receive_from, receive_message};

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use guest::protocol::{Answer, Call, Notice};
use rules::Protocol;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use crate::connect::address;
use crate::context::{Context, Route};
use crate::message::{Header, MAX_BATCH};
use crate::notification::Pending;
use crate::reactor::{Waiting, Wake};
use crate::sockaddr::{Address, Encoded, plain};
use crate::socket::{Kind, Socket};
use crate::sys::message;
use crate::table::lock;

/// The longest datagram, in bytes.
const MAX_DATAGRAM: usize = 65_535;

/// `connect` on a UDP socket. One that is bound to a port and connects to somebody it has not heard of is a client.
pub(crate) fn connect(context: &Arc<Context>, pending: Pending, socket: Socket, destination: SocketAddr) {
    if client(context, &socket, destination).is_none()
        && let (Some(shared), Ok(cookie)) = (context.tracked(&socket), socket.cookie())
        && std::mem::take(&mut lock(&shared).listening)
    {
        context.server.notice(Notice::Unlisten { socket: cookie }, &[]);
    }
    target(context, socket, destination, move |context, socket, target| {
        let to = match target {
            Ok(Some(to)) => to,
            Ok(None) => {
                if let Some(shared) = context.tracked(&socket) {
                    lock(&shared).datagram_peer = None;
                }
                return pending.proceed();
            }
            Err(errno) => return pending.fail(errno),
        };
        let connected = socket.connect(to);
        if let (Ok(()), Ok(cookie)) = (connected, socket.cookie()) {
            lock(&context.table.get_or_new(cookie)).datagram_peer = Some(destination);
        }
        pending.finish(connected.map(|()| 0));
    });
}

/// What stands for a client of the pod that this socket has heard of.
fn client(context: &Context, socket: &Socket, client: SocketAddr) -> Option<SocketAddr> {
    let shared = context.tracked(socket)?;
    lock(&shared).clients.here(plain(client))
}

/// Where on this machine a datagram for `destination` goes; `None`: where the app says.
fn target(
    context: &Arc<Context>,
    socket: Socket,
    destination: SocketAddr,
    then: impl FnOnce(&Arc<Context>, Socket, Result<Option<SocketAddr>, Errno>) + Send + 'static,
) {
    if let Some(here) = client(context, &socket, destination) {
        return then(context, socket, Ok(Some(here)));
    }
    context.route(Protocol::Udp, destination, move |context, route| {
        let destination = match route {
            Route::Untouched => {
                remember_source(context, &socket, destination);
                return then(context, socket, Ok(None));
            }
            Route::Moved(to) => {
                context.relays.add(plain(destination), to);
                mark_remote(context, &socket);
                return then(context, socket, Ok(Some(to)));
            }
            Route::Remote(destination) => destination,
        };
        mark_remote(context, &socket);
        if let Some(relay) = context.relays.of(destination) {
            return then(context, socket, Ok(Some(relay)));
        }
        let context_then = context.clone();
        context.server.call(Call::UdpRelay { destination }, move |answer| {
            let relay = match answer {
                Some(Answer::Relay(Ok(relay))) => {
                    context_then.relays.add(destination, relay);
                    Ok(Some(relay))
                }
                Some(Answer::Relay(Err(errno))) => Err(Errno::from_raw_os_error(errno.0)),
                _ => Err(Errno::NETDOWN),
            };
            then(&context_then, socket, relay);
        });
    });
}

fn mark_remote(context: &Context, socket: &Socket) {
    if let Ok(cookie) = socket.cookie() {
        lock(&context.table.get_or_new(cookie)).remote_datagrams = true;
    }
}

/// An unbound socket that sends to this machine: it gets its port now, so that the answer to it is known to be local.
fn remember_source(context: &Context, socket: &Socket, destination: SocketAddr) {
    if !plain(destination).ip().is_loopback() || socket.local().map_or(true, |local| local.port() != 0) {
        return;
    }
    let any = if socket.is_v6() {
        SocketAddr::from(([0_u16; 8], 0))
    } else {
        SocketAddr::from(([0_u8; 4], 0))
    };
    if socket.bind(any).is_ok()
        && let (Ok(cookie), Ok(actual)) = (socket.cookie(), socket.local())
    {
        context.table.get_or_new(cookie);
        context.table.add_port(Protocol::Udp, cookie, actual.port(), actual);
    }
}

/// One datagram to send.
struct Outbound {
    destination: Option<SocketAddr>,
    data: Vec<u8>,
    control: Vec<u8>,
}

/// A send call on its way.
struct Sending {
    pending: Pending,
    socket: Socket,
    left: VecDeque<Outbound>,
    flags: i32,
    /// Results so far: bytes of each.
    sent: Vec<usize>,
    /// `sendmmsg`: the count is returned and each length written back.
    batch: bool,
}

/// `sendto(fd, data, length, flags, address, address length)`.
pub(crate) fn send_to(context: &Arc<Context>, pending: Pending) {
    let Some((pending, Address::Inet(destination))) = inet_or_proceed(context, pending, 4) else {
        return;
    };
    let flags = pending.int(3);
    let Some((pending, socket)) = udp(context, pending, flags) else {
        return;
    };
    let length = pending.argument(2) as usize;
    if length > MAX_DATAGRAM {
        return pending.fail(Errno::MSGSIZE);
    }
    match pending.memory().read_vec(pending.pointer(1), length) {
        Ok(data) => {
            let left = VecDeque::from([Outbound {
                destination: Some(destination),
                data,
                control: Vec::new(),
            }]);
            send_next(
                context,
                Sending {
                    pending,
                    socket,
                    left,
                    flags,
                    sent: Vec::new(),
                    batch: false,
                },
                None,
            );
        }
        Err(errno) => pending.fail(errno),
    }
}

fn inet_or_proceed(context: &Context, pending: Pending, at: usize) -> Option<(Pending, Address)> {
    match address(context, pending, at)? {
        (pending, address @ Address::Inet(_)) => Some((pending, address)),
        (pending, _) => {
            pending.proceed();
            None
        }
    }
}

/// The socket when it is UDP; other calls are answered.
fn udp(context: &Context, pending: Pending, flags: i32) -> Option<(Pending, Socket)> {
    let (pending, socket) = context.socket(pending, 0)?;
    match socket.kind() {
        Some(Kind::Udp) => return Some((pending, socket)),
        // Data in a SYN has nowhere to wait for the remote end: programs fall back to connect, as where it is off.
        Some(Kind::Tcp) if flags & libc::MSG_FASTOPEN != 0 => pending.fail(Errno::OPNOTSUPP),
        _ => pending.proceed(),
    }
    None
}

/// The headers and flags of a `*msg` call, which has them in the same places for sending and receiving; a call whose headers
/// cannot be read is answered.
fn headers(context: &Context, pending: Pending, batch: bool) -> Option<(Pending, Vec<Header>, i32)> {
    let (count, flags) = if batch {
        (pending.argument(2) as usize, pending.int(3))
    } else {
        (1, pending.int(2))
    };
    let headers = match Header::read(&pending, 1, count.min(MAX_BATCH), batch) {
        Ok(headers) => headers,
        Err(Errno::FAULT) => {
            pending.fail(Errno::FAULT);
            return None;
        }
        Err(errno) => {
            context.refuse(pending, errno);
            return None;
        }
    };
    Some((pending, headers, flags))
}

/// `sendmsg(fd, header, flags)` and `sendmmsg(fd, headers, count, flags)`.
pub(crate) fn send_message(context: &Arc<Context>, pending: Pending, batch: bool) {
    let Some((pending, headers, flags)) = headers(context, pending, batch) else {
        return;
    };
    let memory = pending.memory();
    let named: Vec<Option<SocketAddr>> = headers
        .iter()
        .map(|header| Address::inet(&header.name(memory).unwrap_or_default()))
        .collect();
    if named.iter().all(Option::is_none) {
        return pending.proceed();
    }
    let Some((pending, socket)) = udp(context, pending, flags) else {
        return;
    };
    let (memory, mut left) = (pending.memory(), VecDeque::new());
    for (header, destination) in headers.iter().zip(named) {
        match header.gather(memory, MAX_DATAGRAM) {
            Ok((data, control)) => left.push_back(Outbound {
                destination,
                data,
                control,
            }),
            Err(errno) => return pending.fail(errno),
        }
    }
    send_next(
        context,
        Sending {
            pending,
            socket,
            left,
            flags,
            sent: Vec::new(),
            batch,
        },
        None,
    );
}

/// Sends the next of the call's datagrams; `resolved` says where to, once that is known.
fn send_next(context: &Arc<Context>, sending: Sending, resolved: Option<Option<SocketAddr>>) {
    let Some(next) = sending.left.front() else {
        return sending.end(Ok(()));
    };
    let Some(destination) = next.destination else {
        return transmit(context, sending, None);
    };
    match resolved {
        Some(to) => transmit(context, sending, Some(to.unwrap_or(destination))),
        None => {
            let Ok(duplicate) = sending.socket.duplicate() else {
                return sending.pending.fail(Errno::NOBUFS);
            };
            target(
                context,
                Socket::new(duplicate),
                destination,
                move |context, _, target| match target {
                    // The kernel does it best where nothing has been sent and nothing else is to be.
                    Ok(None) if sending.left.len() == 1 && sending.sent.is_empty() => sending.pending.proceed(),
                    Ok(to) => send_next(context, sending, Some(to)),
                    Err(errno) => sending.end(Err(errno)),
                },
            );
        }
    }
}

fn transmit(context: &Arc<Context>, mut sending: Sending, to: Option<SocketAddr>) {
    match sending.try_one(to) {
        Ok(()) => send_next(context, sending, None),
        Err(Errno::AGAIN) if sending.sent.is_empty() && !sending.may_not_wait() => {
            let Ok(socket) = sending.socket.duplicate() else {
                return sending.pending.fail(Errno::NOBUFS);
            };
            let deadline = sending.socket.send_timeout().map(|timeout| Instant::now() + timeout);
            let then = context.clone();
            let Sending {
                pending,
                socket: own,
                left,
                flags,
                sent,
                batch,
            } = sending;
            let mut parts = Some((own, left, sent));
            context.reactor.wait(Waiting {
                pending,
                socket,
                interest: EventFlags::OUT,
                deadline,
                attempt: Box::new(move |pending, wake| {
                    let (socket, left, sent) = parts.take()?;
                    let mut sending = Sending {
                        pending,
                        socket,
                        left,
                        flags,
                        sent,
                        batch,
                    };
                    match sending.try_one(to) {
                        Err(Errno::AGAIN) if wake == Wake::Ready => {
                            parts = Some((sending.socket, sending.left, sending.sent));
                            return Some(sending.pending);
                        }
                        Ok(()) => send_next(&then, sending, None),
                        Err(errno) => sending.end(Err(errno)),
                    }
                    None
                }),
            });
        }
        Err(errno) => sending.end(Err(errno)),
    }
}

impl Sending {
    fn may_not_wait(&self) -> bool {
        self.flags & libc::MSG_DONTWAIT != 0 || self.socket.is_nonblocking()
    }

    fn try_one(&mut self, to: Option<SocketAddr>) -> Result<(), Errno> {
        let Some(next) = self.left.front() else { return Ok(()) };
        let to = to.map(|to| Encoded::inet(to, self.socket.is_v6()));
        let sent = message::send(self.socket.as_fd(), &next.data, to.as_ref(), &next.control, self.flags)?;
        self.left.pop_front();
        self.sent.push(sent);
        Ok(())
    }

    /// As sendmmsg does it: an error counts only before the first datagram.
    fn end(self, result: Result<(), Errno>) {
        let value = match (result, self.sent.first()) {
            (Err(errno), None) => Err(errno),
            (_, _) if self.batch => {
                Header::write_lengths(&self.pending, 1, &self.sent).map(|()| self.sent.len() as i64)
            }
            (_, Some(sent)) => Ok(*sent as i64),
            (Ok(()), None) => Ok(0),
        };
        self.pending.finish(value);
    }
}
