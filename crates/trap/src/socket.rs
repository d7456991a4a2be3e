//! A duplicate of one of the app's sockets, and the questions asked of it.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use guest::protocol::SocketCookie;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, socket_timeout};

use crate::sockaddr::{Address, Encoded};
use crate::sys::message;

/// What kind of internet socket it is; anything else is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Tcp,
    Udp,
}

/// A duplicate: the same open file description as the app's, so flags and options are shared.
#[derive(Debug)]
pub(crate) struct Socket {
    descriptor: OwnedFd,
}

impl Socket {
    pub(crate) fn new(descriptor: OwnedFd) -> Self {
        Self { descriptor }
    }

    pub(crate) fn into_inner(self) -> OwnedFd {
        self.descriptor
    }

    /// # Errors
    /// ENOTSOCK.
    pub(crate) fn cookie(&self) -> Result<SocketCookie, Errno> {
        match rustix::net::sockopt::socket_cookie(&self.descriptor) {
            // gVisor has none, but gives no inode twice.
            Err(Errno::NOPROTOOPT) => Ok(SocketCookie(rustix::fs::fstat(&self.descriptor)?.st_ino)),
            cookie => cookie.map(SocketCookie),
        }
    }

    /// `None` for sockets that are neither TCP nor UDP over IP.
    pub(crate) fn kind(&self) -> Option<Kind> {
        let option = |option| message::option(self.as_fd(), libc::SOL_SOCKET, option).unwrap_or(-1);
        if !matches!(option(libc::SO_DOMAIN), libc::AF_INET | libc::AF_INET6) {
            return None;
        }
        match option(libc::SO_PROTOCOL) {
            libc::IPPROTO_TCP => Some(Kind::Tcp),
            libc::IPPROTO_UDP => Some(Kind::Udp),
            _ => None,
        }
    }

    pub(crate) fn is_v6(&self) -> bool {
        message::option(self.as_fd(), libc::SOL_SOCKET, libc::SO_DOMAIN) == Ok(libc::AF_INET6)
    }

    /// An IPv6 socket that cannot carry IPv4.
    pub(crate) fn is_v6_only(&self) -> bool {
        rustix::net::sockopt::ipv6_v6only(&self.descriptor).unwrap_or(false)
    }

    pub(crate) fn is_nonblocking(&self) -> bool {
        rustix::fs::fcntl_getfl(&self.descriptor).is_ok_and(|flags| flags.contains(OFlags::NONBLOCK))
    }

    /// Runs `action` with O_NONBLOCK set. The flag is the app's too, so this is for moments when no other call can be on
    /// its way on this socket, or none that could mind.
    pub(crate) fn without_blocking<T>(&self, action: impl FnOnce() -> T) -> T {
        let before = rustix::fs::fcntl_getfl(&self.descriptor)
            .ok()
            .filter(|flags| !flags.contains(OFlags::NONBLOCK));
        if let Some(before) = before {
            let _ = rustix::fs::fcntl_setfl(&self.descriptor, before | OFlags::NONBLOCK);
        }
        let result = action();
        if let Some(before) = before {
            let _ = rustix::fs::fcntl_setfl(&self.descriptor, before);
        }
        result
    }

    /// SO_RCVTIMEO, `None` for ever.
    pub(crate) fn receive_timeout(&self) -> Option<Duration> {
        socket_timeout(&self.descriptor, Timeout::Recv).ok().flatten()
    }

    /// SO_SNDTIMEO, `None` for ever.
    pub(crate) fn send_timeout(&self) -> Option<Duration> {
        socket_timeout(&self.descriptor, Timeout::Send).ok().flatten()
    }

    /// Reads and clears SO_ERROR.
    pub(crate) fn take_error(&self) -> i32 {
        message::option(self.as_fd(), libc::SOL_SOCKET, libc::SO_ERROR).unwrap_or(0)
    }

    /// # Errors
    /// As `getsockname(2)`; EAFNOSUPPORT for an address that is not IP.
    pub(crate) fn local(&self) -> Result<SocketAddr, Errno> {
        Address::inet(&message::local_name(self.as_fd())?).ok_or(Errno::AFNOSUPPORT)
    }

    /// # Errors
    /// As `getpeername(2)`: ENOTCONN until connected.
    pub(crate) fn peer(&self) -> Result<SocketAddr, Errno> {
        Address::inet(&message::peer_name(self.as_fd())?).ok_or(Errno::AFNOSUPPORT)
    }

    pub(crate) fn connect(&self, to: SocketAddr) -> Result<(), Errno> {
        message::connect(self.as_fd(), &Encoded::inet(to, self.is_v6()))
    }

    pub(crate) fn bind(&self, to: SocketAddr) -> Result<(), Errno> {
        message::bind(self.as_fd(), &Encoded::inet(to, self.is_v6()))
    }

    /// Another descriptor of the same.
    pub(crate) fn duplicate(&self) -> Result<OwnedFd, Errno> {
        rustix::io::fcntl_dupfd_cloexec(&self.descriptor, 0)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
