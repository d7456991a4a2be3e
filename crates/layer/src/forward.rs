//! Calls that could not be decided here. Under the filter they are issued as they are, and trap answers. Without one they
//! go to the supervisor over its socket (`guest::forward`), where the same code answers.

use core::ffi::c_int;

use guest::forward::{MAX_MOVE, REPLY, Reply, Request};
use libc::{iovec, msghdr, sockaddr_un};

use crate::image::{is_alone, session};
use crate::sys::{Arguments, Raw, marked, raw};

/// The descriptors of a forwarded call live here, out of the way of an app that counts on low numbers.
const HIGH: u64 = 500;
const fn error(errno: c_int) -> Raw {
    -(errno as isize)
}

/// Issues a call that somebody else decides. `socket` is what it is about, if anything.
///
/// # Safety
/// As the call demands of its arguments.
pub(crate) unsafe fn undecided(number: i64, arguments: Arguments, socket: Option<c_int>) -> Raw {
    // SAFETY: the caller's.
    unsafe {
        if !is_alone() {
            return raw(number, arguments);
        }
        match ask(number, arguments, socket) {
            Answer::Proceed => raw(number, arguments),
            Answer::Result(result) => result,
        }
    }
}

/// What the supervisor says of a call.
pub(crate) enum Answer {
    Proceed,
    Result(Raw),
}

/// Asks the supervisor.
///
/// # Safety
/// The arguments are what the supervisor takes them for: it reads and writes the app's memory through them.
pub(crate) unsafe fn ask(number: i64, arguments: Arguments, socket: Option<c_int>) -> Answer {
    let Some(connection) = connect() else {
        // Nobody is left who could tell what is the pod's: going on would be silently local.
        return Answer::Result(error(libc::EIO));
    };
    // SAFETY: no pointers.
    let tid = unsafe { raw(libc::SYS_gettid, [0; 6]) } as u32;
    let request = Request { number, tid, arguments };
    // SAFETY: the caller's.
    let answer = unsafe {
        match connection.send(&request.encode(), socket) {
            sent if sent < 0 => Answer::Result(sent),
            _ => converse(&connection),
        }
    };
    connection.close();
    answer
}

/// One call's connection; closed by [`Connection::close`], since nothing here unwinds.
struct Connection(u64);

fn connect() -> Option<Connection> {
    let image = session()?;
    let path = image.socket();
    // SAFETY: plain data.
    let mut address: sockaddr_un = unsafe { core::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as u16;
    for (to, from) in address.sun_path.iter_mut().zip(path) {
        *to = *from as core::ffi::c_char;
    }
    // SAFETY: the address lives through the call; the descriptors are this call's own.
    unsafe {
        let kind = (libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC) as u64;
        let low = raw(libc::SYS_socket, [libc::AF_UNIX as u64, kind, 0, 0, 0, 0]);
        if low < 0 {
            return None;
        }
        let high = raw(
            libc::SYS_fcntl,
            [low as u64, libc::F_DUPFD_CLOEXEC as u64, HIGH, 0, 0, 0],
        );
        let connection = if high < 0 {
            Connection(low as u64)
        } else {
            Connection(low as u64).close();
            Connection(high as u64)
        };
        let length = size_of::<sockaddr_un>() as u64;
        let arguments = [connection.0, (&raw const address) as u64, length, 0, 0, 0];
        loop {
            match marked(libc::SYS_connect, arguments) {
                0 => return Some(connection),
                interrupted if interrupted == error(libc::EINTR) => {}
                _ => {
                    connection.close();
                    return None;
                }
            }
        }
    }
}

impl Connection {
    fn close(&self) {
        // SAFETY: this call's own descriptor.
        unsafe { raw(libc::SYS_close, [self.0, 0, 0, 0, 0, 0]) };
    }

    unsafe fn send(&self, bytes: &[u8], descriptor: Option<c_int>) -> Raw {
        let mut part = iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        // A header of 16 bytes, one descriptor, and what aligns the next.
        let mut control = [0_u64; 3];
        // SAFETY: the header describes buffers that live through the call.
        unsafe {
            let mut header: msghdr = core::mem::zeroed();
            header.msg_iov = &raw mut part;
            header.msg_iovlen = 1;
            if let Some(descriptor) = descriptor {
                control[0] = 20;
                control[1] = (libc::SOL_SOCKET as u64) | (libc::SCM_RIGHTS as u64) << 32;
                control[2] = u64::from(descriptor as u32);
                header.msg_control = control.as_mut_ptr().cast();
                header.msg_controllen = 24;
            }
            self.send_header(&header)
        }
    }

    unsafe fn send_header(&self, header: &msghdr) -> Raw {
        let arguments = [
            self.0,
            core::ptr::from_ref(header) as u64,
            libc::MSG_NOSIGNAL as u64,
            0,
            0,
            0,
        ];
        loop {
            // SAFETY: the caller's header.
            let sent = unsafe { marked(libc::SYS_sendmsg, arguments) };
            if sent != error(libc::EINTR) {
                return sent;
            }
        }
    }

    /// One reply, and the descriptor that came with it.
    unsafe fn receive(&self) -> Result<(Reply, Option<c_int>), Raw> {
        let mut bytes = [0_u8; REPLY];
        let mut part = iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: REPLY,
        };
        let mut control = [0_u64; 3];
        // SAFETY: the header describes buffers that live through the call.
        let (received, length) = unsafe {
            let mut header: msghdr = core::mem::zeroed();
            header.msg_iov = &raw mut part;
            header.msg_iovlen = 1;
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = 24;
            let arguments = [self.0, (&raw mut header) as u64, libc::MSG_CMSG_CLOEXEC as u64, 0, 0, 0];
            (marked(libc::SYS_recvmsg, arguments), header.msg_controllen)
        };
        if received < 0 {
            return Err(received);
        }
        let descriptor = (length >= 20).then_some(control[2] as u32 as c_int);
        match Reply::decode(bytes.get(..received as usize).unwrap_or(&[])) {
            Some(reply) => Ok((reply, descriptor)),
            // The supervisor has ended.
            None => Err(error(libc::EIO)),
        }
    }
}

unsafe fn converse(connection: &Connection) -> Answer {
    loop {
        // SAFETY: the supervisor asks for what the call's own arguments point to.
        unsafe {
            match connection.receive() {
                // A signal whose handler does not restart calls ends this one; closing gives it up.
                Err(errno) => return Answer::Result(errno),
                Ok((Reply::Done(value), _)) => return Answer::Result(value as isize),
                Ok((Reply::Proceed, _)) => return Answer::Proceed,
                Ok((Reply::Descriptor { close_on_exec }, Some(descriptor))) => {
                    if !close_on_exec {
                        raw(libc::SYS_fcntl, [descriptor as u64, libc::F_SETFD as u64, 0, 0, 0, 0]);
                    }
                    return Answer::Result(descriptor as isize);
                }
                Ok((Reply::Descriptor { .. }, None)) => return Answer::Result(error(libc::EMFILE)),
                Ok((Reply::Peek { address, length }, _)) => peek(connection, address, length),
                Ok((Reply::Poke { address, length }, _)) => poke(connection, address, length),
            }
        }
    }
}

/// Sends the bytes straight from where they lie: where nothing is mapped, the kernel says EFAULT and nobody crashes.
unsafe fn peek(connection: &Connection, address: u64, length: u64) {
    let status = [0_u8];
    let mut parts = [
        iovec {
            iov_base: status.as_ptr().cast_mut().cast(),
            iov_len: 1,
        },
        iovec {
            iov_base: address as *mut _,
            iov_len: (length as usize).min(MAX_MOVE),
        },
    ];
    // SAFETY: the kernel checks the address.
    unsafe {
        let mut header: msghdr = core::mem::zeroed();
        header.msg_iov = parts.as_mut_ptr();
        header.msg_iovlen = 2;
        if connection.send_header(&header) < 0 {
            connection.send(&[1], None);
        }
    }
}

/// Receives straight to where the bytes go.
unsafe fn poke(connection: &Connection, address: u64, length: u64) {
    let arguments = [connection.0, address, length, 0, 0, 0];
    // SAFETY: the kernel checks the address.
    unsafe {
        let received = loop {
            match raw(libc::SYS_recvfrom, arguments) {
                interrupted if interrupted == error(libc::EINTR) => {}
                other => break other,
            }
        };
        connection.send(&[u8::from(received < 0)], None);
    }
}
