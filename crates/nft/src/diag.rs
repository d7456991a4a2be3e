//! Which connections a port has now, from sock_diag(7). Needs no privilege; sees the calling thread's network namespace.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

use crate::error::{Error, Step, meaning};
use crate::message::{Writer, replies};
use crate::uapi::nlm;

const DOING: &str = "listing the connections of a port";
/// `SOCK_DIAG_BY_FAMILY`, linux/sock_diag.h.
const BY_FAMILY: u16 = 20;
/// `TCP_ESTABLISHED` as a bit of `idiag_states`.
const ESTABLISHED: u32 = 1 << 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// `struct inet_diag_msg`.
const MESSAGE: usize = 72;
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
    let fail = |errno| meaning(DOING, Step::Whole, errno);
    let fd = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )
    .map_err(fail)?;
    let mut buffer = vec![0; BUFFER];
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        send(&fd, request(family, port).as_bytes(), SendFlags::empty()).map_err(fail)?;
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
                    None => found.extend(decode(reply.payload).filter(|it| it.local.port() == port)),
                }
            }
        }
    }
    Ok(found)
}

/// `struct inet_diag_req_v2`: family, protocol, extensions, padding, states, then `struct inet_diag_sockid`, of which
/// only the source port counts (zero matches everything).
fn request(family: u8, port: u16) -> Writer {
    let mut writer = Writer::default();
    writer.message(BY_FAMILY, nlm::REQUEST | nlm::DUMP, 1, |body| {
        body.raw(&[family, libc::IPPROTO_TCP as u8, 0, 0]);
        body.raw(&ESTABLISHED.to_ne_bytes());
        body.raw(&port.to_be_bytes());
        body.raw(&[0; 46]);
    });
    writer
}

/// `struct inet_diag_msg`: family, state, timer, retransmits; source and destination port, source and destination
/// address of 16 bytes each, the rest is of no use here.
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
