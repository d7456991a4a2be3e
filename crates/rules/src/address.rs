//! Outgoing connections and datagrams: which destinations are reached from the pod.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

use crate::{NamePattern, NamePatternError, Place, Verdict};

/// Transport of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
}

/// The address part of a rule; a port of `None` means every port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoints {
    Any,
    Net(IpNet),
    /// Matched against the names under which the app looked the address up.
    Name(NamePattern),
}

/// One entry of the `local` or `remote` list: `10.0.0.0/8`, `db.internal:5432`, `*.corp:443`, `:8125`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressRule {
    pub endpoints: Endpoints,
    pub port: Option<u16>,
    /// As the person wrote it.
    pub source: String,
}

/// An entry of an address list that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressRuleError {
    #[error("it is empty")]
    Empty,
    #[error("`{0}` is not a port; ports are 1 to 65535")]
    Port(String),
    #[error("`{0}` is not an IP address or a network such as `10.0.0.0/8`")]
    Net(String),
    #[error("`{written}` has bits set beyond its prefix; write `{meant}`")]
    HostBits { written: String, meant: IpNet },
    #[error("`[` is not closed by `]`")]
    Bracket,
    #[error(transparent)]
    Name(#[from] NamePatternError),
}

impl FromStr for AddressRule {
    type Err = AddressRuleError;

    /// Reads `10.0.0.0/8`, `10.0.0.1`, `fd00::/8`, `db.internal`, `*.corp`, each with an optional `:port`, or `:port` alone.
    /// An IPv6 address that has a port stands in brackets: `[fd00::1]:5432`.
    fn from_str(source: &str) -> Result<Self, Self::Err> {
        let (host, port) = split_port(source.trim())?;
        let endpoints = match host {
            "" | "*" if port.is_some() => Endpoints::Any,
            "" => return Err(AddressRuleError::Empty),
            host if host.contains('/') || host.contains(':') || host.parse::<IpAddr>().is_ok() => {
                Endpoints::Net(net(host)?)
            }
            host => Endpoints::Name(NamePattern::parse(host)?),
        };
        Ok(Self {
            endpoints,
            port,
            source: source.trim().to_owned(),
        })
    }
}

fn split_port(source: &str) -> Result<(&str, Option<u16>), AddressRuleError> {
    if let Some(rest) = source.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(AddressRuleError::Bracket)?;
        return match rest.strip_prefix(':') {
            Some(digits) => Ok((host, Some(port(digits)?))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(AddressRuleError::Port(rest.to_owned())),
        };
    }
    match source.split_once(':') {
        // Two colons or more without brackets: an IPv6 address.
        Some((_, rest)) if rest.contains(':') => Ok((source, None)),
        Some((host, digits)) => Ok((host, Some(port(digits)?))),
        None => Ok((source, None)),
    }
}

fn port(digits: &str) -> Result<u16, AddressRuleError> {
    let number = digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok())
        .flatten();
    number
        .filter(|port| *port != 0)
        .ok_or_else(|| AddressRuleError::Port(digits.to_owned()))
}

/// A network as the kernel's destinations are compared with it: IPv4 inside `::ffff:0:0/96` becomes IPv4.
fn net(host: &str) -> Result<IpNet, AddressRuleError> {
    let net = match host.contains('/') {
        true => host
            .parse::<IpNet>()
            .map_err(|_| AddressRuleError::Net(host.to_owned()))?,
        false => IpNet::from(
            host.parse::<IpAddr>()
                .map_err(|_| AddressRuleError::Net(host.to_owned()))?,
        ),
    };
    if net.trunc() != net {
        return Err(AddressRuleError::HostBits {
            written: host.to_owned(),
            meant: net.trunc(),
        });
    }
    let IpNet::V6(v6) = net else { return Ok(net) };
    let mapped = v6.prefix_len().checked_sub(96).zip(v6.network().to_ipv4_mapped());
    Ok(mapped
        .and_then(|(length, v4)| Ipv4Net::new(v4, length).ok())
        .map_or(net, IpNet::V4))
}

impl AddressRule {
    fn matches(&self, destination: SocketAddr, names: &[&str]) -> bool {
        if self.port.is_some_and(|port| port != destination.port()) {
            return false;
        }
        match &self.endpoints {
            Endpoints::Any => true,
            Endpoints::Net(net) => net.contains(&destination.ip()),
            Endpoints::Name(pattern) => names.iter().any(|name| pattern.matches(name)),
        }
    }
}

/// Which destinations go out from the pod. Without lists, all of them.
#[derive(Debug, Clone)]
pub struct OutgoingRules {
    pub tcp: bool,
    pub udp: bool,
    pub unix: Vec<crate::PathPattern>,
    pub local: Vec<AddressRule>,
    /// When not empty, only these are remote.
    pub remote: Vec<AddressRule>,
}

impl Default for OutgoingRules {
    fn default() -> Self {
        Self {
            tcp: true,
            udp: true,
            unix: Vec::new(),
            local: Vec::new(),
            remote: Vec::new(),
        }
    }
}

/// What the decision needs to know of the moment, gathered by the caller.
#[derive(Debug, Clone, Copy, Default)]
pub struct AddressContext<'a> {
    /// Names under which the app resolved this address, newest first.
    pub names: &'a [&'a str],
    /// The app's own processes listen on this port of this machine.
    pub own_listener: bool,
}

impl OutgoingRules {
    /// Decides one destination.
    #[must_use]
    pub fn decide(&self, protocol: Protocol, destination: SocketAddr, context: AddressContext<'_>) -> Verdict {
        let on = match protocol {
            Protocol::Tcp => self.tcp,
            Protocol::Udp => self.udp,
        };
        if !on {
            return Verdict::new(Place::Local, "outgoing traffic of this protocol is switched off");
        }
        let destination = canonical(destination);
        if let Some(rule) = self.local.iter().find(|rule| rule.matches(destination, context.names)) {
            return Verdict::new(Place::Local, format!("outgoing.local lists {}", rule.source));
        }
        if let Some(rule) = self.remote.iter().find(|rule| rule.matches(destination, context.names)) {
            return Verdict::new(Place::Remote, format!("outgoing.remote lists {}", rule.source));
        }
        if destination.ip().is_loopback() && context.own_listener {
            return Verdict::new(Place::Local, "the app itself listens there");
        }
        if destination.ip().is_multicast() || destination.ip() == IpAddr::V4(std::net::Ipv4Addr::BROADCAST) {
            return Verdict::new(Place::Local, "multicast and broadcast stay on this machine");
        }
        if !self.remote.is_empty() {
            return Verdict::new(Place::Local, "outgoing.remote does not list it");
        }
        Verdict::new(Place::Remote, "outgoing traffic is remote by default")
    }

    /// Decides a unix socket by its absolute path. Abstract sockets are never asked about: they are local.
    #[must_use]
    pub fn decide_unix(&self, path: &Path) -> Verdict {
        match self.unix.iter().find(|pattern| pattern.matches(path)) {
            Some(pattern) => Verdict::new(Place::Remote, format!("outgoing.unix lists {}", pattern.source())),
            None => Verdict::new(Place::Local, "unix sockets are local unless outgoing.unix lists them"),
        }
    }
}

/// An IPv4 address written as `::ffff:a.b.c.d` is that IPv4 address; `0.0.0.0` and `::` as a destination mean loopback
/// (Linux `ip_route_output`), so both spellings are decided alike.
#[must_use]
fn canonical(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4),
        v4 @ IpAddr::V4(_) => v4,
    };
    let ip = match ip {
        IpAddr::V4(v4) if v4.is_unspecified() => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        IpAddr::V6(v6) if v6.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        other => other,
    };
    SocketAddr::new(ip, address.port())
}
