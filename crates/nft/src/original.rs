//! Where a redirected connection was going.

use std::net::{SocketAddr, SocketAddrV6};
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{getsockname, sockopt};

use crate::error::Error;

const DOING: &str = "reading a connection's original destination";

/// The address that the client connected to (SO_ORIGINAL_DST, net/netfilter/nf_conntrack_proto.c `getorigdst`), of an
/// accepted TCP connection of either family or of a dual-stack listener. IPv4-mapped addresses are given as IPv4.
///
/// Conntrack answers as long as it knows the connection: ask right after accept. The caller refuses a destination that
/// is its own listener.
///
/// # Errors
/// [`Error::NotRedirected`] when conntrack knows nothing of it or the destination was not rewritten,
/// [`Error::Kernel`].
pub fn original_destination(connection: impl AsFd) -> Result<SocketAddr, Error> {
    let fail = |errno| match errno {
        Errno::NOENT | Errno::NOPROTOOPT => Error::NotRedirected,
        errno => Error::Kernel {
            doing: DOING.to_owned(),
            errno,
        },
    };
    let connection = connection.as_fd();
    let local = SocketAddr::try_from(getsockname(connection).map_err(fail)?).map_err(fail)?;
    let local = SocketAddr::new(local.ip().to_canonical(), local.port());
    let original = match local {
        SocketAddr::V4(_) => SocketAddr::V4(sockopt::ip_original_dst(connection).map_err(fail)?),
        SocketAddr::V6(own) => {
            let found = sockopt::ipv6_original_dst(connection).map_err(fail)?;
            SocketAddr::V6(SocketAddrV6::new(*found.ip(), found.port(), 0, own.scope_id()))
        }
    };
    // Every connection that conntrack follows has an original destination; only a redirected one has another port.
    if original.port() == local.port() {
        return Err(Error::NotRedirected);
    }
    Ok(original)
}
