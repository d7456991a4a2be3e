//! Receiving: whose a datagram is, by the address on this machine that it came from.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use guest::protocol::{Answer, Call};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::{MAX_DATAGRAM, headers, udp};
use crate::context::Context;
use crate::message::Header;
use crate::notification::Pending;
use crate::reactor::{Waiting, Wake};
use crate::sockaddr::{Address, Encoded, plain};
use crate::socket::Socket;
use crate::sys::message::{self, Datagram};
use crate::table::{Shared, lock};

/// Where a receive call wants its parts.
enum Target {
    /// `recvfrom`: data 1, length 2, address 4, address length 5.
    Plain { room: usize },
    /// `recvmsg` and `recvmmsg`.
    Headers { headers: Vec<Header>, batch: bool },
}

/// `recvfrom(fd, data, length, flags, address, address length)`.
pub(crate) fn receive_from(context: &Arc<Context>, pending: Pending) {
    let room = (pending.argument(2) as usize).min(MAX_DATAGRAM + 1);
    let flags = pending.int(3);
    receive(context, pending, flags, None, Target::Plain { room });
}

/// `recvmsg(fd, header, flags)` and `recvmmsg(fd, headers, count, flags, timeout)`.
pub(crate) fn receive_message(context: &Arc<Context>, pending: Pending, batch: bool) {
    let Some((pending, headers, flags)) = headers(context, pending, batch) else {
        return;
    };
    if headers.iter().all(|header| !header.wants_name()) {
        return pending.proceed();
    }
    let timeout = if batch && !pending.pointer(4).is_null() {
        read_timeout(&pending)
    } else {
        None
    };
    receive(context, pending, flags, timeout, Target::Headers { headers, batch });
}

fn read_timeout(pending: &Pending) -> Option<Duration> {
    let mut bytes = [0; 16];
    pending.memory().read(pending.pointer(4), &mut bytes).ok()?;
    let (seconds, nanoseconds) = bytes.split_at(8);
    let seconds = i64::from_ne_bytes(seconds.try_into().ok()?);
    let nanoseconds = i64::from_ne_bytes(nanoseconds.try_into().ok()?);
    // Beyond a year is for ever, and keeps the deadline's arithmetic safe.
    let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds < 32_000_000)?;
    Some(Duration::new(
        seconds,
        u32::try_from(nanoseconds).ok().filter(|it| *it < 1_000_000_000)?,
    ))
}

fn receive(context: &Arc<Context>, pending: Pending, flags: i32, timeout: Option<Duration>, target: Target) {
    if flags & libc::MSG_ERRQUEUE != 0 {
        return pending.proceed();
    }
    let Some((pending, socket)) = udp(context, pending, 0) else {
        return;
    };
    let Ok(cookie) = socket.cookie() else {
        return pending.proceed();
    };
    let may_wait = flags & libc::MSG_DONTWAIT == 0 && !socket.is_nonblocking();
    let remote = context
        .table
        .get(cookie)
        .is_some_and(|shared| lock(&shared).remote_datagrams);
    // A socket that may still send to the pod while this call waits is served from here; others need no help.
    if !remote && !may_wait {
        return pending.proceed();
    }
    let shared = context.table.get_or_new(cookie);
    let receiving = Arc::new(Receiving {
        socket,
        shared,
        flags,
        target,
    });
    let Some(pending) = receiving.attempt(context, pending, Wake::Ready, may_wait) else {
        return;
    };
    let Ok(duplicate) = receiving.socket.duplicate() else {
        return pending.fail(Errno::NOBUFS);
    };
    let then = context.clone();
    context.reactor.wait(Waiting {
        pending,
        socket: duplicate,
        interest: EventFlags::IN,
        deadline: timeout
            .or(receiving.socket.receive_timeout())
            .map(|timeout| Instant::now() + timeout),
        attempt: Box::new(move |pending, wake| receiving.attempt(&then, pending, wake, true)),
    });
}

struct Receiving {
    socket: Socket,
    shared: Shared,
    flags: i32,
    target: Target,
}

impl Receiving {
    fn attempt(
        self: &Arc<Self>,
        context: &Arc<Context>,
        pending: Pending,
        wake: Wake,
        may_wait: bool,
    ) -> Option<Pending> {
        let wanted = match &self.target {
            Target::Plain { .. } => 1,
            Target::Headers { headers, .. } => headers.len(),
        };
        let mut datagrams = Vec::new();
        while datagrams.len() < wanted {
            let (room, control_room) = match &self.target {
                Target::Plain { room } => (*room, 0),
                Target::Headers { headers, .. } => {
                    let header = &headers[datagrams.len()];
                    match header.room(pending.memory(), MAX_DATAGRAM + 1) {
                        Ok(rooms) => rooms,
                        Err(errno) => {
                            pending.fail(errno);
                            return None;
                        }
                    }
                }
            };
            match self.one(room, control_room) {
                Ok(datagram) => datagrams.push(datagram),
                Err(Errno::AGAIN) if datagrams.is_empty() && may_wait && wake == Wake::Ready => return Some(pending),
                Err(errno) if datagrams.is_empty() => {
                    pending.fail(errno);
                    return None;
                }
                Err(_) => break,
            }
        }
        self.identify(context, pending, datagrams);
        None
    }

    /// Finds out whose datagrams they are, then delivers them. Only what comes from loopback can be the session's.
    fn identify(self: &Arc<Self>, context: &Arc<Context>, pending: Pending, datagrams: Vec<Datagram>) {
        let stranger = |datagram: &Datagram| {
            let from = plain(Address::inet(&datagram.address)?);
            let known = context.relays.destination(from).is_some() || context.arrivals.of(from).is_some();
            (from.ip().is_loopback() && !known).then_some(from)
        };
        let listening = lock(&self.shared).listening;
        let Some(address) = datagrams.iter().find_map(stranger).filter(|_| listening) else {
            return self.deliver(context, pending, datagrams);
        };
        let (receiving, then) = (self.clone(), context.clone());
        context.server.call(Call::DatagramPeer { address }, move |answer| {
            let peer = match answer {
                Some(Answer::Peer(peer)) => peer,
                _ => None,
            };
            then.arrivals.add(address, peer);
            receiving.identify(&then, pending, datagrams);
        });
    }

    fn one(&self, room: usize, control_room: usize) -> Result<Datagram, Errno> {
        let kept = {
            let mut tracked = lock(&self.shared);
            if self.flags & libc::MSG_PEEK != 0 {
                tracked.received.front().cloned()
            } else {
                tracked.received.pop_front()
            }
        };
        match kept {
            Some(mut kept) => {
                if kept.data.len() > room {
                    kept.data.truncate(room);
                    kept.flags |= libc::MSG_TRUNC;
                    kept.length = if self.flags & libc::MSG_TRUNC == 0 {
                        room
                    } else {
                        kept.length
                    };
                }
                kept.control.truncate(control_room);
                Ok(kept)
            }
            None => message::receive(
                self.socket.as_fd(),
                room,
                control_room,
                self.flags & !libc::MSG_WAITFORONE,
            ),
        }
    }

    /// Writes everything back and ends the call; what could not be delivered is kept for the next one.
    fn deliver(&self, context: &Arc<Context>, pending: Pending, datagrams: Vec<Datagram>) {
        let v6 = self.socket.is_v6();
        let written = if pending.is_alive() {
            self.write(context, &pending, &datagrams, v6)
        } else {
            Ok(0)
        };
        let lost = pending.deliver(written).is_err();
        if lost && self.flags & libc::MSG_PEEK == 0 {
            let mut tracked = lock(&self.shared);
            for datagram in datagrams.into_iter().rev() {
                tracked.received.push_front(datagram);
            }
            drop(tracked);
            context.reactor.retry_all();
        }
    }

    /// Who the app is told it is that `from` stands for.
    fn sender(&self, context: &Context, from: SocketAddr) -> SocketAddr {
        if let Some(destination) = context.relays.destination(from) {
            return destination;
        }
        let mut tracked = lock(&self.shared);
        match context.arrivals.lately(plain(from)) {
            Some(peer) if tracked.listening => {
                tracked.clients.add(peer.client, plain(from));
                peer.client
            }
            _ => from,
        }
    }

    fn write(&self, context: &Context, pending: &Pending, datagrams: &[Datagram], v6: bool) -> Result<i64, Errno> {
        let memory = pending.memory();
        let shown = |datagram: &Datagram| match Address::inet(&datagram.address) {
            Some(from) => Encoded::inet(self.sender(context, from), v6).bytes().to_vec(),
            None => datagram.address.clone(),
        };
        match &self.target {
            Target::Plain { .. } => {
                let Some(datagram) = datagrams.first() else {
                    return Ok(0);
                };
                memory.write(pending.pointer(1), &datagram.data)?;
                if !pending.pointer(5).is_null() {
                    memory.write_address(pending.pointer(4), pending.pointer(5), &shown(datagram))?;
                }
                Ok(datagram.length as i64)
            }
            Target::Headers { headers, batch } => {
                for (header, datagram) in headers.iter().zip(datagrams) {
                    header.scatter(memory, datagram, &shown(datagram))?;
                }
                let lengths: Vec<usize> = datagrams.iter().map(|datagram| datagram.length).collect();
                if *batch {
                    Header::write_lengths(pending, 1, &lengths)?;
                    return Ok(lengths.len() as i64);
                }
                Ok(lengths.first().map_or(0, |length| *length as i64))
            }
        }
    }
}
