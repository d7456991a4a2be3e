//! Which connections a port has now, which ports listen, and which have a UDP socket, from sock_diag(7). To look needs no
//! privilege; sees the calling thread's network namespace.

use std::cmp::Ordering;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

use crate::error::{Error, Step, meaning};
use crate::message::{Writer, attribute, replies};
use crate::uapi::nlm;

const DOING: &str = "listing sockets";
/// `SOCK_DIAG_BY_FAMILY` and `SOCK_DESTROY`, linux/sock_diag.h.
const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
/// `TCP_ESTABLISHED` as a bit of `idiag_states`.
const ESTABLISHED: u32 = 1 << 1;
/// `TCP_LISTEN`, the same.
const LISTEN: u32 = 1 << 10;
const ANY: u32 = u32::MAX;
/// `INET_DIAG_INFO`, as an attribute and as a bit of `idiag_ext`.
const INFO: u16 = 2;
const WITH_INFO: u8 = 1 << (INFO - 1);
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// `struct inet_diag_msg`.
const MESSAGE: usize = 72;
/// `struct inet_diag_sockid` in it: its place and its size.
const ID: usize = 4;
const ID_LENGTH: usize = 48;
/// The kernel fills at most 32 KiB a read.
const BUFFER: usize = 64 * 1024;

/// An established TCP connection, as the side that has the port sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Connection {
    /// Its own address; the port is the one asked for.
    pub local: SocketAddr,
    /// The other side.
    pub remote: SocketAddr,
}

/// A [`Connection`] that can be told from a later one between the same addresses, and what has happened on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// Between whom.
    pub connection: Connection,
    /// For how long its side has sent and received nothing; zero while bytes are unread or not acknowledged.
    pub quiet: Duration,
    /// Who spoke last.
    pub last: Spoke,
    family: u8,
    id: [u8; ID_LENGTH],
}

/// Who sent the last bytes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoke {
    /// The side that has the port, or nobody yet.
    Local,
    /// The other one.
    Remote,
    /// Both within one tick of the kernel's clock (1 to 10 ms), so that nobody knows.
    Both,
}

impl Open {
    /// The socket's cookie (SO_COOKIE).
    #[must_use]
    pub fn cookie(&self) -> u64 {
        self.id.last_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes))
    }

    /// Ends the connection from outside of its process, as a reset to both sides (SOCK_DESTROY). One that is gone is no
    /// error.
    ///
    /// # Errors
    /// [`Error::Permission`] without NET_ADMIN, [`Error::Kernel`] also where the kernel is made without this
    /// (EOPNOTSUPP).
    pub fn close(&self) -> Result<(), Error> {
        let fail = |errno| meaning("closing an idle connection", Step::Whole, errno);
        let mut writer = Writer::default();
        writer.message(DESTROY, nlm::REQUEST | nlm::ACK, 1, |body| {
            body.raw(&[self.family, libc::IPPROTO_TCP as u8, 0, 0]);
            body.raw(&ESTABLISHED.to_ne_bytes());
            body.raw(&self.id);
        });
        let fd = open().map_err(fail)?;
        send(&fd, writer.as_bytes(), SendFlags::empty()).map_err(fail)?;
        let mut buffer = [0; 1024];
        let (length, _) = rustix::io::retry_on_intr(|| recv(&fd, &mut buffer[..], RecvFlags::empty())).map_err(fail)?;
        let answer = replies(&buffer[..length.min(buffer.len())]).find_map(|reply| reply.errno());
        match answer {
            None | Some(0 | libc::ENOENT) => Ok(()),
            Some(errno) => Err(fail(Errno::from_raw_os_error(errno))),
        }
    }
}

/// The number of established TCP connections to a local port, both families: at the start of a steal, those that are
/// older than it and stay with the real app.
///
/// # Errors
/// [`Error::Missing`] without inet_diag in the kernel, [`Error::Kernel`].
pub fn older_connections(port: u16) -> Result<usize, Error> {
    connections(port).map(|connections| connections.len())
}

/// The established TCP connections of a local port, both families. IPv4 connections of an IPv6 socket are given as IPv4.
///
/// # Errors
/// As [`older_connections`].
pub fn connections(port: u16) -> Result<Vec<Connection>, Error> {
    let mut found = list(&Wanted::of(port), decode)?;
    found.retain(|it| it.local.port() == port);
    Ok(found)
}

/// As [`connections`], with what tells whether they are in use.
///
/// # Errors
/// As [`older_connections`].
pub fn open_connections(port: u16) -> Result<Vec<Open>, Error> {
    let wanted = Wanted {
        extensions: WITH_INFO,
        ..Wanted::of(port)
    };
    let mut found = list(&wanted, decode_open)?;
    found.retain(|it| it.connection.local.port() == port);
    Ok(found)
}

/// The local port of the established connection whose other side this is, if there is one. Where packet rules of others
/// redirect, it is not the port that the other side wanted.
///
/// # Errors
/// As [`older_connections`].
pub fn local_port(remote: SocketAddr) -> Result<Option<u16>, Error> {
    let found = list(&Wanted::to(remote.port()), decode)?;
    let found = found.iter().find(|it| it.remote == remote);
    Ok(found.map(|it| it.local.port()))
}

/// The established TCP connections from here to a port of anybody's, both families.
///
/// # Errors
/// As [`older_connections`].
pub fn connections_to(port: u16) -> Result<Vec<Connection>, Error> {
    let mut found = list(&Wanted::to(port), decode)?;
    found.retain(|it| it.remote.port() == port);
    Ok(found)
}

/// Where something listens for TCP, both families.
///
/// # Errors
/// As [`older_connections`].
pub fn listening() -> Result<Vec<SocketAddr>, Error> {
    local_ends(&Wanted {
        states: LISTEN,
        ..Wanted::of(0)
    })
}

/// Where UDP sockets are bound, connected or not, both families. IPv4 addresses of IPv6 sockets are given as IPv4.
///
/// # Errors
/// [`Error::Missing`] without udp_diag in the kernel, [`Error::Kernel`].
pub fn datagram_sockets() -> Result<Vec<SocketAddr>, Error> {
    local_ends(&Wanted {
        protocol: libc::IPPROTO_UDP as u8,
        states: ANY,
        ..Wanted::of(0)
    })
}

fn local_ends(wanted: &Wanted) -> Result<Vec<SocketAddr>, Error> {
    let found = list(wanted, decode)?;
    Ok(found.into_iter().map(|socket| socket.local).collect())
}

/// Which sockets are listed, by state and port, and with what; port 0 is any.
struct Wanted {
    protocol: u8,
    states: u32,
    local: u16,
    remote: u16,
    extensions: u8,
}

impl Wanted {
    /// Established connections of a port.
    fn of(local: u16) -> Wanted {
        Wanted {
            protocol: libc::IPPROTO_TCP as u8,
            states: ESTABLISHED,
            local,
            remote: 0,
            extensions: 0,
        }
    }

    /// Established connections to a port.
    fn to(remote: u16) -> Wanted {
        Wanted {
            remote,
            ..Wanted::of(0)
        }
    }
}

fn open() -> Result<OwnedFd, Errno> {
    socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )
}

fn list<T>(wanted: &Wanted, decode: fn(&[u8]) -> Option<T>) -> Result<Vec<T>, Error> {
    let fail = |errno| meaning(DOING, Step::Whole, errno);
    let fd = open().map_err(fail)?;
    let mut buffer = vec![0; BUFFER];
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        send(&fd, request(family, wanted).as_bytes(), SendFlags::empty()).map_err(fail)?;
        'dump: loop {
            let (length, _) =
                rustix::io::retry_on_intr(|| recv(&fd, &mut buffer[..], RecvFlags::empty())).map_err(fail)?;
            for reply in replies(&buffer[..length.min(BUFFER)]) {
                match reply.errno() {
                    // The family is not in this kernel, or disabled: it has no connections.
                    Some(libc::ENOENT | libc::EAFNOSUPPORT) if family == AF_INET6 => break 'dump,
                    Some(0) => {}
                    Some(errno) => return Err(fail(Errno::from_raw_os_error(errno))),
                    None if reply.kind == nlm::TYPE_DONE => break 'dump,
                    None => found.extend(decode(reply.payload)),
                }
            }
        }
    }
    Ok(found)
}

/// `struct inet_diag_req_v2`: family, protocol, extensions, padding, states, then `struct inet_diag_sockid`, of which
/// only the ports count.
fn request(family: u8, wanted: &Wanted) -> Writer {
    let mut writer = Writer::default();
    writer.message(BY_FAMILY, nlm::REQUEST | nlm::DUMP, 1, |body| {
        body.raw(&[family, wanted.protocol, wanted.extensions, 0]);
        body.raw(&wanted.states.to_ne_bytes());
        body.raw(&wanted.local.to_be_bytes());
        body.raw(&wanted.remote.to_be_bytes());
        body.raw(&[0; ID_LENGTH - 4]);
    });
    writer
}

/// `struct inet_diag_msg`: family, state, timer, retransmits; source and destination port, source and destination
/// address of 16 bytes each, interface, cookie; expiry, bytes unread, bytes not acknowledged, user, inode.
pub(crate) fn decode(payload: &[u8]) -> Option<Connection> {
    let message: &[u8; MESSAGE] = payload.first_chunk()?;
    let port = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
    let address = |at: usize| -> Option<IpAddr> {
        match message[0] {
            AF_INET => Some(Ipv4Addr::from(*message[at..].first_chunk::<4>()?).into()),
            AF_INET6 => Some(Ipv6Addr::from(*message[at..].first_chunk::<16>()?).to_canonical()),
            _ => None,
        }
    };
    Some(Connection {
        local: SocketAddr::new(address(8)?, port(4)),
        remote: SocketAddr::new(address(24)?, port(6)),
    })
}

/// The same with `struct tcp_info` (linux/tcp.h) among the attributes behind it; times in it are milliseconds ago.
pub(crate) fn decode_open(payload: &[u8]) -> Option<Open> {
    let connection = decode(payload)?;
    let word = |from: &[u8], at: usize| Some(u32::from_ne_bytes(*from.get(at..)?.first_chunk()?));
    let (unread, not_acknowledged) = (word(payload, 56)?, word(payload, 60)?);
    let info = attribute(payload.get(MESSAGE..)?, INFO)?;
    let (sent, received) = (word(info, 44)?, word(info, 52)?);
    let quiet = if unread == 0 && not_acknowledged == 0 {
        Duration::from_millis(sent.min(received).into())
    } else {
        Duration::ZERO
    };
    Some(Open {
        connection,
        quiet,
        last: match sent.cmp(&received) {
            Ordering::Less => Spoke::Local,
            Ordering::Equal => Spoke::Both,
            Ordering::Greater => Spoke::Remote,
        },
        family: payload[0],
        id: *payload.get(ID..)?.first_chunk()?,
    })
}
