//! Outgoing connections and datagrams: which destinations are reached from the pod.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::{NamePattern, Place, Verdict};

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
        Self { tcp: true, udp: true, unix: Vec::new(), local: Vec::new(), remote: Vec::new() }
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
        if destination.ip().is_multicast() {
            return Verdict::new(Place::Local, "multicast stays on this machine");
        }
        if !self.remote.is_empty() {
            return Verdict::new(Place::Local, "outgoing.remote does not list it");
        }
        Verdict::new(Place::Remote, "outgoing traffic is remote by default")
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
