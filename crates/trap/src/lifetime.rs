//! When a socket is gone: the kernel's destroy events (sock_diag(7)), which carry the cookie.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use guest::protocol::{Notice, SocketCookie};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, socket_with};

use crate::context::Context;
use crate::tree;

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
        match recv(&events, &mut buffer[..], RecvFlags::empty()) {
            Ok((length, _)) => {
                cookies(&buffer[..length])
                    .into_iter()
                    .for_each(|cookie| forget(context, cookie));
            }
            Err(Errno::INTR) => {}
            // Some events were lost.
            Err(Errno::NOBUFS) => resync(context),
            Err(error) => return tracing::error!(%error, "the end of sockets is no longer seen"),
        }
    }
}

/// How often it is looked where nothing is told.
const LOOK: Duration = Duration::from_secs(1);

/// The same where the kernel tells nothing and a socket's cookie is its inode (gVisor): forgets what no process of the tree
/// has had open for two looks. Never returns.
pub(crate) fn look(context: &Arc<Context>) {
    let mut missed = HashSet::new();
    loop {
        std::thread::sleep(LOOK);
        // In this order: what is opened in between is not taken for gone.
        let known = context.table.cookies();
        let open = if known.is_empty() {
            HashSet::new()
        } else {
            open_inodes()
        };
        let gone: HashSet<SocketCookie> = known.into_iter().filter(|cookie| !open.contains(cookie)).collect();
        // One that is on its way from process to process is open nowhere.
        for cookie in gone.intersection(&missed) {
            forget(context, *cookie);
        }
        missed = gone;
    }
}

/// The inodes of the sockets that the descendants of this process have open (proc_pid_fd(5)).
fn open_inodes() -> HashSet<SocketCookie> {
    let processes = tree::descendants(None).into_iter();
    let descriptors = processes.flat_map(|pid| std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten());
    let links = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    links
        .filter_map(|link| {
            let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            inode.parse().ok().map(SocketCookie)
        })
        .collect()
}

fn forget(context: &Context, cookie: SocketCookie) {
    if context.table.remove(cookie) {
        context.server.notice(Notice::Unlisten { socket: cookie }, &[]);
    }
}

/// Forgets the sockets that are gone, of those which the kernel would list: a port that nobody has any more must not stay
/// claimed. The others' entries are small and stay.
fn resync(context: &Context) {
    // In this order: what begins to be listed in between is not taken for gone.
    let listed = context.table.listed();
    match alive() {
        Ok(alive) => listed
            .into_iter()
            .filter(|cookie| !alive.contains(cookie))
            .for_each(|cookie| forget(context, cookie)),
        Err(error) => tracing::warn!(%error, "too many sockets ended at once, some are not forgotten"),
    }
}

/// `NLMSG_ERROR` and `NLMSG_DONE` (linux/netlink.h).
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// All TCP and UDP sockets of this network namespace, bound ones that do nothing excepted.
fn alive() -> Result<HashSet<SocketCookie>, Errno> {
    let mut alive = HashSet::new();
    for protocol in [libc::IPPROTO_TCP, libc::IPPROTO_UDP] {
        for family in [libc::AF_INET, libc::AF_INET6] {
            dump(family as u8, protocol as u8, &mut alive)?;
        }
    }
    Ok(alive)
}

fn dump(family: u8, protocol: u8, into: &mut HashSet<SocketCookie>) -> Result<(), Errno> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        flags,
        Some(netlink::SOCK_DIAG),
    )?;
    rustix::net::send(&socket, &dump_request(family, protocol), SendFlags::empty())?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let (length, _) = rustix::io::retry_on_intr(|| recv(&socket, &mut buffer[..], RecvFlags::empty()))?;
        let kind = buffer[..length].get(4..6).and_then(|kind| kind.try_into().ok());
        match kind.map(u16::from_ne_bytes) {
            Some(DONE) => return Ok(()),
            Some(ERROR) | None => return Err(Errno::IO),
            // Datagrams end with whole messages; the last one has DONE alone.
            Some(_) => into.extend(cookies(&buffer[..length])),
        }
    }
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2` (linux/inet_diag.h), for sockets in every state.
fn dump_request(family: u8, protocol: u8) -> Vec<u8> {
    const LENGTH: u32 = HEADER as u32 + 8 + 48;
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const REQUEST_DUMP: u16 = 1 | 0x300;
    let mut request = Vec::new();
    request.extend(LENGTH.to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend(REQUEST_DUMP.to_ne_bytes());
    request.extend([0; 8]);
    request.extend([family, protocol, 0, 0]);
    request.extend(u32::MAX.to_ne_bytes());
    request.extend([0; 48]);
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn living_sockets_are_found_in_all_families() {
        let tcp = ["127.0.0.1:0", "[::1]:0"].map(|address| std::net::TcpListener::bind(address).unwrap());
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(tcp[0].local_addr().unwrap()).unwrap();
        let cookie = |socket: &dyn AsFd| SocketCookie(rustix::net::sockopt::socket_cookie(socket.as_fd()).unwrap());
        let cookies = [cookie(&tcp[0]), cookie(&tcp[1]), cookie(&udp), cookie(&client)];
        let living = alive().unwrap();
        for (index, cookie) in cookies.iter().enumerate() {
            assert!(living.contains(cookie), "{index}");
        }
        drop((tcp, udp));
        // A child that another test is about to execute may hold them for a moment.
        let begun = std::time::Instant::now();
        while cookies[..3].iter().any(|cookie| alive().unwrap().contains(cookie)) {
            assert!(begun.elapsed().as_secs() < 60, "closed sockets are still listed");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    #[test]
    fn open_sockets_of_the_tree_are_found_by_their_inodes() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let inode = SocketCookie(rustix::fs::fstat(&socket).unwrap().st_ino);
        assert!(!open_inodes().contains(&inode), "it is this process's own");
        let mut child = std::process::Command::new("cat")
            .stdin(std::os::fd::OwnedFd::from(socket))
            .spawn()
            .unwrap();
        assert!(open_inodes().contains(&inode));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!open_inodes().contains(&inode));
    }

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
