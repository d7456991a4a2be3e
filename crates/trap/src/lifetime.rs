//! When a socket is gone: the kernel's destroy events (sock_diag(7)), which carry the cookie.

use std::os::fd::AsFd;
use std::sync::Arc;

use guest::protocol::{Notice, SocketCookie};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::context::Context;

/// `struct nlmsghdr`, then in `struct inet_diag_msg` the four bytes and the id up to its cookie.
const HEADER: usize = 16;
const COOKIE: usize = HEADER + 4 + 4 + 16 + 16 + 4;

/// The cookies in one netlink message of any origin.
pub(crate) fn cookies(mut bytes: &[u8]) -> Vec<SocketCookie> {
    let mut cookies = Vec::new();
    while let Some(length) = bytes.first_chunk().map(|length| u32::from_ne_bytes(*length) as usize) {
        if length < HEADER || length > bytes.len() {
            break;
        }
        if let Some(cookie) = bytes[..length]
            .get(COOKIE..COOKIE + 8)
            .and_then(|it| it.try_into().ok())
        {
            cookies.push(SocketCookie(u64::from_ne_bytes(cookie)));
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    cookies
}

/// Forgets sockets as they go; never returns while the kernel tells.
pub(crate) fn watch(context: &Arc<Context>, events: impl AsFd) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match rustix::net::recv(&events, &mut buffer[..], RecvFlags::empty()) {
            Ok((length, _)) => {
                for cookie in cookies(&buffer[..length]) {
                    if context.table.remove(cookie) {
                        context.server.notice(Notice::Unlisten { socket: cookie }, &[]);
                    }
                }
            }
            Err(Errno::INTR) => {}
            // Some events were lost: the entries of those sockets stay until the session ends.
            Err(Errno::NOBUFS) => tracing::warn!("too many sockets ended at once, some are not forgotten"),
            Err(error) => return tracing::error!(%error, "the end of sockets is no longer seen"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_messages_yield_nothing() {
        assert!(cookies(&[]).is_empty());
        assert!(cookies(&[0; 200]).is_empty());
        assert!(cookies(&[255; 200]).is_empty());
        let mut message = vec![0; 72];
        message[0] = 72;
        message[COOKIE] = 9;
        assert_eq!(cookies(&message), [SocketCookie(9)]);
        assert!(cookies(&message[..60]).is_empty());
    }
}
