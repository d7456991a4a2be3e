//! Calls that no safe wrapper has: namespaces, interface addresses, waiting for a descriptor.
#![allow(unsafe_code)]

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::io::unix::AsyncFd;

/// Moves the calling thread into the network and UTS namespaces of `pid`; where that needs it, into its user namespace
/// first. The process must still have one thread only.
///
/// # Errors
/// When the kernel refuses (setns(2)).
pub(crate) fn enter_namespaces(pid: u32) -> io::Result<()> {
    let open = |name: &str| -> io::Result<Option<OwnedFd>> {
        let same = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/{name}"));
        if same("self").ok() == Some(same(&pid.to_string())?) {
            return Ok(None);
        }
        Ok(Some(rustix::fs::open(
            format!("/proc/{pid}/ns/{name}"),
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?))
    };
    let (user, network, uts) = (open("user")?, open("net")?, open("uts")?);
    let enter = |fd: &OwnedFd, kind| move_into_link_name_space(fd.as_fd(), Some(kind));
    if let Some(network) = &network
        && let Err(errno) = enter(network, LinkNameSpaceType::Network)
    {
        let Some(user) = user else { return Err(errno.into()) };
        enter(&user, LinkNameSpaceType::User)?;
        enter(network, LinkNameSpaceType::Network)?;
    }
    // Only the host name hangs on it, and that can be read elsewhere.
    if let Some(uts) = &uts {
        let _ = enter(uts, LinkNameSpaceType::HostNameAndNISDomainName);
    }
    Ok(())
}

/// Lets the runtime wait for the descriptor.
///
/// # Errors
/// When it is of a kind that cannot be waited for, as a regular file.
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is the same open descriptor until it is dropped, which deregisters it first.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// The addresses of this network namespace's interfaces, without loopback and link-local ones (getifaddrs(3)).
pub(crate) fn addresses() -> Vec<IpAddr> {
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: `list` is a valid place for the result.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut next = list;
    while !next.is_null() {
        // SAFETY: not null, and the list lives until freeifaddrs below.
        let entry = unsafe { &*next };
        next = entry.ifa_next;
        if entry.ifa_addr.is_null() {
            continue;
        }
        // SAFETY: not null; every socket address begins with its family.
        let family = i32::from(unsafe { (*entry.ifa_addr).sa_family });
        let address = match family {
            libc::AF_INET => {
                // SAFETY: the family says that it is a sockaddr_in.
                let v4 = unsafe { &*entry.ifa_addr.cast::<libc::sockaddr_in>() };
                IpAddr::from(v4.sin_addr.s_addr.to_ne_bytes())
            }
            libc::AF_INET6 => {
                // SAFETY: the family says that it is a sockaddr_in6.
                let v6 = unsafe { &*entry.ifa_addr.cast::<libc::sockaddr_in6>() };
                IpAddr::from(v6.sin6_addr.s6_addr)
            }
            _ => continue,
        };
        let local = match address {
            IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local(),
        };
        if !local && !found.contains(&address) {
            found.push(address);
        }
    }
    // SAFETY: `list` came from getifaddrs and is not used any more.
    unsafe { libc::freeifaddrs(list) };
    found
}
