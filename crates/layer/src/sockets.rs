//! Socket calls. Those without an address, and on sockets that are not TCP or UDP over IP, are this machine's for sure.

use core::ffi::{c_int, c_void};
use core::mem::{MaybeUninit, size_of};

use guest::image::{Known, PATHS, UNIX_SOCKETS};
use libc::{mmsghdr, msghdr, sockaddr, socklen_t};

use crate::forward;
use crate::image::{has, image, is_alone};
use crate::sys::{Arguments, Raw, cancellable, is_null, marked, raw, returned, uninterrupted};

/// `struct sockaddr_storage`.
const MAX_ADDRESS: usize = 128;

/// An address of the kernel's, with its true length.
struct Name {
    bytes: [MaybeUninit<u8>; MAX_ADDRESS],
    length: socklen_t,
}

impl Name {
    const fn new() -> Self {
        Self {
            bytes: [MaybeUninit::uninit(); MAX_ADDRESS],
            length: MAX_ADDRESS as socklen_t,
        }
    }

    fn known(&self) -> &[u8] {
        let length = (self.length as usize).min(MAX_ADDRESS);
        // SAFETY: the kernel wrote that many bytes.
        unsafe { core::slice::from_raw_parts(self.bytes.as_ptr().cast(), length) }
    }

    fn family(&self) -> c_int {
        family(self.known())
    }

    /// Where the session's own ends are: who is there needs its answer.
    fn is_loopback(&self) -> bool {
        match (self.family(), self.known()) {
            (libc::AF_INET, bytes) => bytes.get(4) == Some(&127),
            (libc::AF_INET6, bytes) => {
                let ip = bytes.get(8..24).unwrap_or(&[]);
                ip == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
                    || (ip.starts_with(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]) && ip.get(12) == Some(&127))
            }
            (libc::AF_UNIX, _) => has(UNIX_SOCKETS) || has(PATHS),
            _ => false,
        }
    }

    /// As the kernel gives an address: cut to the room there is, the true length said.
    unsafe fn give(&self, address: *mut sockaddr, length: *mut socklen_t) -> Raw {
        if address.is_null() {
            return 0;
        }
        if is_null(address) || is_null(length) {
            return -(libc::EFAULT as isize);
        }
        // SAFETY: the caller's room, as long as it says.
        unsafe {
            let room = *length as usize;
            if (*length as i32) < 0 {
                return -(libc::EINVAL as isize);
            }
            let known = self.known();
            core::ptr::copy_nonoverlapping(known.as_ptr(), address.cast(), known.len().min(room));
            *length = self.length;
        }
        0
    }
}

fn family(bytes: &[u8]) -> c_int {
    match bytes {
        [low, high, ..] => c_int::from(u16::from_ne_bytes([*low, *high])),
        _ => libc::AF_UNSPEC,
    }
}

/// # Safety
/// `address` is null or has `length` readable bytes.
unsafe fn bytes<'a>(address: *const sockaddr, length: socklen_t) -> &'a [u8] {
    if is_null(address) {
        return &[];
    }
    // SAFETY: the caller's.
    unsafe { core::slice::from_raw_parts(address.cast(), (length as usize).min(MAX_ADDRESS)) }
}

fn is_inet(family: c_int) -> bool {
    matches!(family, libc::AF_INET | libc::AF_INET6)
}

/// One of the socket's own options.
fn option(socket: c_int, option: c_int) -> c_int {
    let (mut value, mut length) = (0_i32, size_of::<i32>() as socklen_t);
    let arguments = [
        socket as u64,
        libc::SOL_SOCKET as u64,
        option as u64,
        (&raw mut value) as u64,
        (&raw mut length) as u64,
        0,
    ];
    // SAFETY: room for an integer and its length; this option is never one that the filter stops.
    if unsafe { raw(libc::SYS_getsockopt, arguments) } == 0 {
        value
    } else {
        -1
    }
}

fn is_inet_socket(socket: c_int) -> bool {
    is_inet(option(socket, libc::SO_DOMAIN))
}

fn is_udp(socket: c_int) -> bool {
    option(socket, libc::SO_PROTOCOL) == libc::IPPROTO_UDP && is_inet_socket(socket)
}

/// Somebody else answers; this call never waits, so no signal ends it.
unsafe fn ask(number: i64, arguments: Arguments) -> Raw {
    // SAFETY: the caller's.
    uninterrupted(|| unsafe { ask_once(number, arguments) })
}

/// Somebody else answers, and a signal may end it.
unsafe fn ask_once(number: i64, arguments: Arguments) -> Raw {
    // SAFETY: the caller's; the first argument of every socket call is the socket.
    unsafe { forward::undecided(number, arguments, Some(arguments[0] as c_int)) }
}

/// `socket(2)`. Multipath TCP does not exist: the kernel would not say when such a socket is gone, and programs that prefer
/// it take plain TCP where it is missing. Under the filter it says so.
pub(crate) unsafe fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    if protocol == libc::IPPROTO_MPTCP && is_alone() {
        return returned(-(libc::EPROTONOSUPPORT as isize)) as c_int;
    }
    // SAFETY: no pointers.
    returned(unsafe { raw(libc::SYS_socket, [domain as u64, kind as u64, protocol as u64, 0, 0, 0]) }) as c_int
}

/// `connect(2)`.
pub(crate) unsafe fn connect(socket: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    let arguments = [socket as u64, address as u64, u64::from(length), 0, 0, 0];
    // SAFETY: the caller's.
    let result = unsafe {
        let bytes = bytes(address, length);
        cancellable(|| match family(bytes) {
            libc::AF_UNSPEC | libc::AF_INET | libc::AF_INET6 => ask_once(libc::SYS_connect, arguments),
            libc::AF_UNIX if !is_plain_unix(bytes) => ask_once(libc::SYS_connect, arguments),
            _ => marked(libc::SYS_connect, arguments),
        })
    };
    returned(result) as c_int
}

/// A unix socket of this machine: without a path, or with one that is neither the pod's nor hidden.
fn is_plain_unix(address: &[u8]) -> bool {
    let path = address.get(2..).unwrap_or(&[]);
    let path = &path[..path.iter().position(|byte| *byte == 0).unwrap_or(path.len())];
    if path.is_empty() {
        return true;
    }
    image().is_some_and(|image| !image.has(UNIX_SOCKETS) && image.path(path) != Known::Ask)
}

/// `bind(2)`.
pub(crate) unsafe fn bind(socket: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    let arguments = [socket as u64, address as u64, u64::from(length), 0, 0, 0];
    // SAFETY: the caller's.
    let result = unsafe {
        let bytes = bytes(address, length);
        match family(bytes) {
            libc::AF_UNSPEC | libc::AF_INET | libc::AF_INET6 => ask(libc::SYS_bind, arguments),
            libc::AF_UNIX if !is_plain_unix(bytes) => ask(libc::SYS_bind, arguments),
            _ => marked(libc::SYS_bind, arguments),
        }
    };
    returned(result) as c_int
}

/// `listen(2)`.
pub(crate) unsafe fn listen(socket: c_int, backlog: c_int) -> c_int {
    let arguments = [socket as u64, backlog as u64, 0, 0, 0, 0];
    // SAFETY: no pointers.
    let result = unsafe {
        if is_inet_socket(socket) {
            ask(libc::SYS_listen, arguments)
        } else {
            marked(libc::SYS_listen, arguments)
        }
    };
    returned(result) as c_int
}

/// `accept4(2)`: taken here, and only a connection that may be the session's is asked about.
pub(crate) unsafe fn accept4(socket: c_int, address: *mut sockaddr, length: *mut socklen_t, flags: c_int) -> c_int {
    let mut peer = Name::new();
    let arguments = [
        socket as u64,
        peer.bytes.as_mut_ptr() as u64,
        (&raw mut peer.length) as u64,
        flags as u64,
        0,
        0,
    ];
    // SAFETY: the kernel writes the name and its length.
    let accepted = unsafe { cancellable(|| marked(libc::SYS_accept4, arguments)) };
    if accepted < 0 || address.is_null() {
        return returned(accepted) as c_int;
    }
    // SAFETY: the caller's room.
    let named = unsafe {
        let asked = [accepted as u64, address as u64, length as u64, 0, 0, 0];
        // A client that is gone already has no name any more; what accept said stays.
        if peer.is_loopback() && ask(libc::SYS_getpeername, asked) == 0 {
            0
        } else {
            peer.give(address, length)
        }
    };
    if named < 0 {
        // SAFETY: nobody else knows this descriptor.
        unsafe { raw(libc::SYS_close, [accepted as u64, 0, 0, 0, 0, 0]) };
        return returned(named) as c_int;
    }
    accepted as c_int
}

/// `accept(2)`.
pub(crate) unsafe fn accept(socket: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int {
    // SAFETY: the caller's.
    unsafe { accept4(socket, address, length, 0) }
}

/// `getpeername(2)`: a peer on loopback may stand for one of the pod's.
pub(crate) unsafe fn getpeername(socket: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int {
    let mut peer = Name::new();
    let own = [
        socket as u64,
        peer.bytes.as_mut_ptr() as u64,
        (&raw mut peer.length) as u64,
        0,
        0,
        0,
    ];
    // SAFETY: the kernel writes the name and its length; the caller's room.
    let result = unsafe {
        match marked(libc::SYS_getpeername, own) {
            0 if peer.is_loopback() => ask(
                libc::SYS_getpeername,
                [socket as u64, address as u64, length as u64, 0, 0, 0],
            ),
            0 if address.is_null() => -(libc::EFAULT as isize),
            0 => peer.give(address, length),
            error => error,
        }
    };
    returned(result) as c_int
}

/// `getsockname(2)`.
pub(crate) unsafe fn getsockname(socket: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int {
    let arguments = [socket as u64, address as u64, length as u64, 0, 0, 0];
    // SAFETY: the caller's.
    let result = unsafe {
        // A unix socket's name may lie in the view.
        if is_inet_socket(socket) || has(PATHS) {
            ask(libc::SYS_getsockname, arguments)
        } else {
            marked(libc::SYS_getsockname, arguments)
        }
    };
    returned(result) as c_int
}

/// `getsockopt(2)`: only the pending error of a connection has another answer than the kernel's.
pub(crate) unsafe fn getsockopt(
    socket: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    length: *mut socklen_t,
) -> c_int {
    let arguments = [socket as u64, level as u64, name as u64, value as u64, length as u64, 0];
    let asks = level == libc::SOL_SOCKET && name == libc::SO_ERROR && is_inet_socket(socket);
    // SAFETY: the caller's.
    let result = unsafe {
        if asks {
            ask(libc::SYS_getsockopt, arguments)
        } else {
            marked(libc::SYS_getsockopt, arguments)
        }
    };
    returned(result) as c_int
}

/// `sendto(2)`. With an address it has no room for a marker; `sendmsg` says the same and has.
pub(crate) unsafe fn sendto(
    socket: c_int,
    data: *const c_void,
    size: usize,
    flags: c_int,
    address: *const sockaddr,
    length: socklen_t,
) -> isize {
    let arguments = [
        socket as u64,
        data as u64,
        size as u64,
        flags as u64,
        address as u64,
        u64::from(length),
    ];
    // SAFETY: the caller's; the header lives through the call.
    returned(unsafe {
        cancellable(|| {
            if address.is_null() {
                raw(libc::SYS_sendto, arguments)
            } else if is_mine(socket, family(bytes(address, length)), flags) {
                let mut part = libc::iovec {
                    iov_base: data.cast_mut(),
                    iov_len: size,
                };
                let header = header(address.cast_mut().cast(), length, &raw mut part);
                marked(
                    libc::SYS_sendmsg,
                    [socket as u64, (&raw const header) as u64, flags as u64, 0, 0, 0],
                )
            } else {
                ask_once(libc::SYS_sendto, arguments)
            }
        })
    })
}

/// Whether a call that names an address is this machine's for sure: it is not UDP, and no data in a SYN.
fn is_mine(socket: c_int, family: c_int, flags: c_int) -> bool {
    !is_inet(family) || (flags & libc::MSG_FASTOPEN == 0 && !is_udp(socket))
}

unsafe fn header(name: *mut c_void, length: socklen_t, part: *mut libc::iovec) -> msghdr {
    // SAFETY: plain data.
    let mut header: msghdr = unsafe { core::mem::zeroed() };
    header.msg_name = name;
    header.msg_namelen = length;
    header.msg_iov = part;
    header.msg_iovlen = 1;
    header
}

/// `recvfrom(2)`; as [`sendto`].
pub(crate) unsafe fn recvfrom(
    socket: c_int,
    data: *mut c_void,
    size: usize,
    flags: c_int,
    address: *mut sockaddr,
    length: *mut socklen_t,
) -> isize {
    let arguments = [
        socket as u64,
        data as u64,
        size as u64,
        flags as u64,
        address as u64,
        length as u64,
    ];
    // SAFETY: the caller's; the header lives through the call.
    returned(unsafe {
        cancellable(|| {
            if address.is_null() {
                return raw(libc::SYS_recvfrom, arguments);
            }
            if is_null(length) || is_udp(socket) {
                return ask_once(libc::SYS_recvfrom, arguments);
            }
            let mut part = libc::iovec {
                iov_base: data,
                iov_len: size,
            };
            let mut header = header(address.cast(), *length, &raw mut part);
            let received = marked(
                libc::SYS_recvmsg,
                [socket as u64, (&raw mut header) as u64, flags as u64, 0, 0, 0],
            );
            if received >= 0 {
                *length = header.msg_namelen;
            }
            received
        })
    })
}

/// # Safety
/// `header` is null or points to a message header.
unsafe fn names_nobody(header: *const msghdr) -> bool {
    // SAFETY: the caller's.
    !is_null(header) && unsafe { (*header).msg_name.is_null() }
}

/// `sendmsg(2)`.
pub(crate) unsafe fn sendmsg(socket: c_int, message: *const msghdr, flags: c_int) -> isize {
    let arguments = [socket as u64, message as u64, flags as u64, 0, 0, 0];
    // SAFETY: the caller's.
    returned(unsafe {
        cancellable(|| {
            let mine = names_nobody(message)
                || (!is_null(message)
                    && is_mine(
                        socket,
                        family(bytes((*message).msg_name.cast(), (*message).msg_namelen)),
                        flags,
                    ));
            if mine {
                marked(libc::SYS_sendmsg, arguments)
            } else {
                ask_once(libc::SYS_sendmsg, arguments)
            }
        })
    })
}

/// `recvmsg(2)`.
pub(crate) unsafe fn recvmsg(socket: c_int, message: *mut msghdr, flags: c_int) -> isize {
    let arguments = [socket as u64, message as u64, flags as u64, 0, 0, 0];
    // SAFETY: the caller's.
    returned(unsafe {
        cancellable(|| {
            if names_nobody(message) || !is_udp(socket) {
                marked(libc::SYS_recvmsg, arguments)
            } else {
                ask_once(libc::SYS_recvmsg, arguments)
            }
        })
    })
}

/// `sendmmsg(2)`.
pub(crate) unsafe fn sendmmsg(socket: c_int, messages: *mut mmsghdr, count: u32, flags: c_int) -> c_int {
    let arguments = [socket as u64, messages as u64, u64::from(count), flags as u64, 0, 0];
    // SAFETY: the caller's.
    let result = unsafe {
        cancellable(|| {
            if is_udp(socket) && !all_nobody(messages, count) {
                ask_once(libc::SYS_sendmmsg, arguments)
            } else {
                marked(libc::SYS_sendmmsg, arguments)
            }
        })
    };
    returned(result) as c_int
}

/// # Safety
/// `messages` is null or points to `count` headers.
unsafe fn all_nobody(messages: *const mmsghdr, count: u32) -> bool {
    // SAFETY: the caller's.
    !is_null(messages)
        && (0..count as usize).all(|index| unsafe { names_nobody(&raw const (*messages.add(index)).msg_hdr) })
}

/// `recvmmsg(2)`.
pub(crate) unsafe fn recvmmsg(
    socket: c_int,
    messages: *mut mmsghdr,
    count: u32,
    flags: c_int,
    timeout: *mut libc::timespec,
) -> c_int {
    let arguments = [
        socket as u64,
        messages as u64,
        u64::from(count),
        flags as u64,
        timeout as u64,
        0,
    ];
    // SAFETY: the caller's.
    let result = unsafe {
        cancellable(|| {
            if is_udp(socket) && !all_nobody(messages, count) {
                ask_once(libc::SYS_recvmmsg, arguments)
            } else {
                marked(libc::SYS_recvmmsg, arguments)
            }
        })
    };
    returned(result) as c_int
}

/// What `__recvfrom_chk` does when the app's buffer is smaller than it says: the program ends.
pub(crate) fn checked(size: usize, room: usize) {
    if size > room {
        crate::sys::kill_self();
    }
}
