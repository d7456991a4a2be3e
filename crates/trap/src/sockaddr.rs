//! Socket addresses between the kernel's bytes and Rust's types.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Room for any address, in bytes (`struct sockaddr_storage`).
pub(crate) const MAX_ADDRESS: usize = 128;

/// What a guest's address bytes say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Inet(SocketAddr),
    /// A path in the file system, as the guest wrote it.
    UnixPath(Vec<u8>),
    /// `AF_UNSPEC`: dissolve the association.
    Unspecified,
    /// Abstract or unnamed unix, netlink, packet, anything else, or too short: the kernel's own business.
    Other,
}

impl Address {
    /// Reads `struct sockaddr` bytes of any origin.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let Some((family, rest)) = bytes.split_first_chunk::<2>() else {
            return Self::Other;
        };
        match i32::from(u16::from_ne_bytes(*family)) {
            libc::AF_UNSPEC => Self::Unspecified,
            libc::AF_INET => inet(rest, false).map_or(Self::Other, Self::Inet),
            libc::AF_INET6 => inet(rest, true).map_or(Self::Other, Self::Inet),
            libc::AF_UNIX if rest.first().is_some_and(|first| *first != 0) => {
                let length = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
                Self::UnixPath(rest[..length].to_vec())
            }
            _ => Self::Other,
        }
    }

    /// The IP address and port, if it is one; an IPv4 address in IPv6 clothes stays dressed.
    pub(crate) fn inet(bytes: &[u8]) -> Option<SocketAddr> {
        match Self::parse(bytes) {
            Self::Inet(address) => Some(address),
            _ => None,
        }
    }
}

fn inet(rest: &[u8], v6: bool) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(*rest.first_chunk()?);
    if !v6 {
        let ip: [u8; 4] = rest.get(2..6)?.try_into().ok()?;
        // The kernel wants the whole structure (16 bytes) although the last 8 are padding.
        return (rest.len() >= 14).then_some(SocketAddr::from((Ipv4Addr::from(ip), port)));
    }
    let flow = u32::from_be_bytes(rest.get(2..6)?.try_into().ok()?);
    let ip: [u8; 16] = rest.get(6..22)?.try_into().ok()?;
    // SIN6_LEN_RFC2133: the scope may be missing.
    let scope = rest
        .get(22..26)
        .and_then(|scope| scope.try_into().ok())
        .map_or(0, u32::from_ne_bytes);
    Some(SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(ip), port, flow, scope)))
}

/// Address bytes ready for the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Encoded(Vec<u8>);

impl Encoded {
    /// For a socket of family `v6` or not: an IPv4 address on an IPv6 socket is written as `::ffff:a.b.c.d`, and the
    /// other way round where that is possible.
    pub(crate) fn inet(address: SocketAddr, v6: bool) -> Self {
        let mut bytes = Vec::with_capacity(28);
        match (dressed(address, v6), v6) {
            (SocketAddr::V6(address), _) => {
                bytes.extend((libc::AF_INET6 as u16).to_ne_bytes());
                bytes.extend(address.port().to_be_bytes());
                bytes.extend(address.flowinfo().to_be_bytes());
                bytes.extend(address.ip().octets());
                bytes.extend(address.scope_id().to_ne_bytes());
            }
            (SocketAddr::V4(address), _) => {
                bytes.extend((libc::AF_INET as u16).to_ne_bytes());
                bytes.extend(address.port().to_be_bytes());
                bytes.extend(address.ip().octets());
                bytes.extend([0; 8]);
            }
        }
        Self(bytes)
    }

    /// A unix socket's path; `None` when it does not fit (107 bytes and a NUL).
    pub(crate) fn unix(path: &[u8]) -> Option<Self> {
        if path.len() > 107 {
            return None;
        }
        let mut bytes = (libc::AF_UNIX as u16).to_ne_bytes().to_vec();
        bytes.extend(path);
        bytes.push(0);
        Some(Self(bytes))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The address as a socket of that family writes it.
pub(crate) fn dressed(address: SocketAddr, v6: bool) -> SocketAddr {
    match (address, v6) {
        (SocketAddr::V4(v4), true) => SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port())),
        (SocketAddr::V6(_), false) => plain(address),
        (same, _) => same,
    }
}

/// `::ffff:a.b.c.d` undressed to `a.b.c.d`; everything else as it is.
pub(crate) fn plain(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(v4) => SocketAddr::from((v4, address.port())),
            None => address,
        },
        IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_round_trip() {
        for text in ["1.2.3.4:80", "[::1]:443", "[fe80::1%3]:9", "[::ffff:1.2.3.4]:80"] {
            let address: SocketAddr = text.parse().unwrap();
            let encoded = Encoded::inet(address, address.is_ipv6());
            assert_eq!(Address::parse(encoded.bytes()), Address::Inet(address), "{text}");
        }
    }

    #[test]
    fn ipv4_is_dressed_for_ipv6_sockets() {
        let encoded = Encoded::inet("127.0.0.1:1".parse().unwrap(), true);
        assert_eq!(
            Address::inet(encoded.bytes()).map(|it| it.to_string()).as_deref(),
            Some("[::ffff:127.0.0.1]:1")
        );
        assert_eq!(
            plain(Address::inet(encoded.bytes()).unwrap()).to_string(),
            "127.0.0.1:1"
        );
    }

    #[test]
    fn short_foreign_and_unix_addresses() {
        assert_eq!(Address::parse(&[]), Address::Other);
        assert_eq!(Address::parse(&[2, 0, 0, 80, 1, 2, 3, 4]), Address::Other);
        assert_eq!(Address::parse(&[0, 0]), Address::Unspecified);
        assert_eq!(
            Address::parse(b"\x01\x00/run/x\0junk"),
            Address::UnixPath(b"/run/x".to_vec())
        );
        assert_eq!(Address::parse(b"\x01\x00\0abstract"), Address::Other);
    }
}
