//! Socket calls with addresses and control data as bytes.

use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use crate::sockaddr::{Encoded, MAX_ADDRESS};

/// One datagram as it came.
#[derive(Debug, Clone)]
pub(crate) struct Datagram {
    pub(crate) data: Vec<u8>,
    pub(crate) address: Vec<u8>,
    pub(crate) control: Vec<u8>,
    /// `msg_flags`, MSG_TRUNC included.
    pub(crate) flags: i32,
    /// What the call returns: with MSG_TRUNC asked for, the real length.
    pub(crate) length: usize,
}

/// `recvmsg(2)` that never waits.
pub(crate) fn receive(socket: BorrowedFd<'_>, room: usize, control_room: usize, flags: i32) -> Result<Datagram, Errno> {
    let mut data = vec![0_u8; room];
    let mut address = vec![0_u8; MAX_ADDRESS];
    // u64s, so that the kernel's headers in it are aligned.
    let mut control = vec![0_u64; control_room.div_ceil(8)];
    let mut part = libc::iovec {
        iov_base: data.as_mut_ptr().cast(),
        iov_len: room,
    };
    // SAFETY: the header describes the vectors above, which live through the call.
    let (header, received) = unsafe {
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_name = address.as_mut_ptr().cast();
        header.msg_namelen = MAX_ADDRESS as u32;
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = control_room;
        let received = libc::recvmsg(
            socket.as_raw_fd(),
            &raw mut header,
            flags | libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC,
        );
        (header, received)
    };
    let length = usize::try_from(received).map_err(|_| super::process::last_errno())?;
    data.truncate(length);
    address.truncate(header.msg_namelen as usize);
    let mut control: Vec<u8> = control.iter().flat_map(|word| word.to_ne_bytes()).collect();
    control.truncate(header.msg_controllen.min(control_room));
    Ok(Datagram {
        data,
        address,
        control,
        flags: header.msg_flags,
        length,
    })
}

/// `sendmsg(2)` that never waits and never raises SIGPIPE.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    data: &[u8],
    to: Option<&Encoded>,
    control: &[u8],
    flags: i32,
) -> Result<usize, Errno> {
    let mut aligned = vec![0_u64; control.len().div_ceil(8)];
    for (word, bytes) in aligned.iter_mut().zip(control.chunks(8)) {
        let mut whole = [0; 8];
        whole[..bytes.len()].copy_from_slice(bytes);
        *word = u64::from_ne_bytes(whole);
    }
    let mut part = libc::iovec {
        iov_base: data.as_ptr().cast_mut().cast(),
        iov_len: data.len(),
    };
    // SAFETY: the header describes borrowed buffers that live through the call; the kernel only reads them.
    let sent = unsafe {
        let mut header: libc::msghdr = std::mem::zeroed();
        if let Some(to) = to {
            header.msg_name = to.bytes().as_ptr().cast_mut().cast();
            header.msg_namelen = to.bytes().len() as u32;
        }
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        if !control.is_empty() {
            header.msg_control = aligned.as_mut_ptr().cast();
            header.msg_controllen = control.len();
        }
        libc::sendmsg(
            socket.as_raw_fd(),
            &raw const header,
            flags | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    usize::try_from(sent).map_err(|_| super::process::last_errno())
}

fn checked(result: i32) -> Result<(), Errno> {
    if result < 0 {
        Err(super::process::last_errno())
    } else {
        Ok(())
    }
}

pub(crate) fn connect(socket: BorrowedFd<'_>, to: &Encoded) -> Result<(), Errno> {
    // SAFETY: the kernel reads the address, whose length is given.
    checked(unsafe { libc::connect(socket.as_raw_fd(), to.bytes().as_ptr().cast(), to.bytes().len() as u32) })
}

/// Dissolves an association (`AF_UNSPEC`): a TCP socket in SYN_SENT fails with ECONNRESET at once.
pub(crate) fn disconnect(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    let unspecified = [0_u8; 16];
    // SAFETY: as above.
    checked(unsafe { libc::connect(socket.as_raw_fd(), unspecified.as_ptr().cast(), 16) })
}

pub(crate) fn bind(socket: BorrowedFd<'_>, to: &Encoded) -> Result<(), Errno> {
    // SAFETY: the kernel reads the address, whose length is given.
    checked(unsafe { libc::bind(socket.as_raw_fd(), to.bytes().as_ptr().cast(), to.bytes().len() as u32) })
}

fn name(
    socket: BorrowedFd<'_>,
    call: unsafe extern "C" fn(i32, *mut libc::sockaddr, *mut libc::socklen_t) -> i32,
) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0_u8; MAX_ADDRESS];
    let mut length = MAX_ADDRESS as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes and says how many.
    checked(unsafe { call(socket.as_raw_fd(), bytes.as_mut_ptr().cast(), &raw mut length) })?;
    bytes.truncate(length as usize);
    Ok(bytes)
}

pub(crate) fn local_name(socket: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    name(socket, libc::getsockname)
}

pub(crate) fn peer_name(socket: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    name(socket, libc::getpeername)
}

/// `accept4(2)`, close-on-exec on this side; `nonblocking` is the app's SOCK_NONBLOCK. The listener must be known to have a
/// connection or be non-blocking (see [`is_readable`]).
pub(crate) fn accept(socket: BorrowedFd<'_>, nonblocking: bool) -> Result<OwnedFd, Errno> {
    let flags = libc::SOCK_CLOEXEC | if nonblocking { libc::SOCK_NONBLOCK } else { 0 };
    // SAFETY: no address is asked for; a fresh descriptor is returned.
    unsafe {
        match libc::accept4(socket.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), flags) {
            -1 => Err(super::process::last_errno()),
            descriptor => Ok(OwnedFd::from_raw_fd(descriptor)),
        }
    }
}

/// An integer option.
pub(crate) fn option(socket: BorrowedFd<'_>, level: i32, option: i32) -> Result<i32, Errno> {
    let mut value = MaybeUninit::<i32>::zeroed();
    let mut length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the kernel writes at most four bytes.
    checked(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    })?;
    // SAFETY: zeroed before, and any bits are an i32.
    Ok(unsafe { value.assume_init() })
}

pub(crate) fn set_option(socket: BorrowedFd<'_>, level: i32, option: i32, value: i32) -> Result<(), Errno> {
    // SAFETY: the kernel reads four bytes.
    checked(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<i32>() as u32,
        )
    })
}

/// A netlink socket that hears of every TCP and UDP socket's end (sock_diag destroy groups, unprivileged).
pub(crate) fn destroy_groups() -> Result<OwnedFd, Errno> {
    /// SKNLGRP_INET_TCP_DESTROY, .._UDP_.., .._INET6_TCP_.., .._INET6_UDP_.. (linux/sock_diag.h), one bit each.
    const GROUPS: u32 = 0b1111;
    // SAFETY: a fresh descriptor; the address is initialised in full and its size given.
    unsafe {
        let raw = libc::socket(
            libc::AF_NETLINK,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            libc::NETLINK_SOCK_DIAG,
        );
        if raw < 0 {
            return Err(super::process::last_errno());
        }
        let socket = OwnedFd::from_raw_fd(raw);
        let mut address: libc::sockaddr_nl = std::mem::zeroed();
        address.nl_family = libc::AF_NETLINK as u16;
        address.nl_groups = GROUPS;
        checked(libc::bind(
            raw,
            (&raw const address).cast(),
            size_of::<libc::sockaddr_nl>() as u32,
        ))?;
        let room: i32 = 8 << 20;
        let length = size_of::<i32>() as u32;
        if libc::setsockopt(
            raw,
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const room).cast(),
            length,
        ) != 0
        {
            libc::setsockopt(raw, libc::SOL_SOCKET, libc::SO_RCVBUF, (&raw const room).cast(), length);
        }
        Ok(socket)
    }
}
