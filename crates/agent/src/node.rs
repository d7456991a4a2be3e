//! Where the pod's node may speak to it from: the routers that this network namespace knows, by the kernel's tables (proc(5),
//! /proc/net/route; /proc/net/ipv6_route), and what an ambient mesh makes of the node's address.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A pod has one or two.
const MOST: usize = 16;

/// The kubelet's probes come from these in Istio's ambient mode, past the mesh's proxy (istio.io, cni/pkg/config).
pub(crate) const AMBIENT_PROBES: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 7, 127)),
    IpAddr::V6(Ipv6Addr::new(
        0xfd16, 0x9254, 0x7127, 0x1337, 0xffff, 0xffff, 0xffff, 0xffff,
    )),
];

/// All of them.
pub(crate) fn addresses() -> BTreeSet<IpAddr> {
    // In most pod networks a router is the node itself.
    gateways().into_iter().chain(AMBIENT_PROBES).collect()
}

fn gateways() -> BTreeSet<IpAddr> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let (v4, v6) = (read("/proc/self/net/route"), read("/proc/self/net/ipv6_route"));
    let found = v4.lines().filter_map(gateway4).chain(v6.lines().filter_map(gateway6));
    found.take(MOST).collect()
}

/// `eth0 DESTINATION GATEWAY ...`, addresses as numbers of this machine's byte order.
fn gateway4(route: &str) -> Option<IpAddr> {
    let gateway = u32::from_str_radix(route.split_whitespace().nth(2)?, 16).ok()?;
    let gateway = Ipv4Addr::from(gateway.to_ne_bytes());
    (!gateway.is_unspecified()).then_some(IpAddr::V4(gateway))
}

/// `DESTINATION LENGTH SOURCE LENGTH GATEWAY ...`
fn gateway6(route: &str) -> Option<IpAddr> {
    let gateway = u128::from_str_radix(route.split_whitespace().nth(4)?, 16).ok()?;
    let gateway = Ipv6Addr::from(gateway);
    (!gateway.is_unspecified()).then_some(IpAddr::V6(gateway))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routers_of_both_families() {
        let route = format!("eth0\t00000000\t{:08X}\t0003\t0", u32::from_ne_bytes([10, 244, 0, 1]));
        assert_eq!(gateway4(&route), Some([10, 244, 0, 1].into()));
        assert_eq!(gateway4("eth0\t0000F40A\t00000000\t0001"), None);
        assert_eq!(gateway4("Iface\tDestination\tGateway \tFlags"), None);
        let none = "0".repeat(32);
        let route = format!("{none} 00 {none} 00 fd000000000000000000000000000001 00000400 1 0 3 eth0");
        assert_eq!(gateway6(&route), "fd00::1".parse().ok());
        assert_eq!(gateway6(&format!("{none} 00 {none} 00 {none} 0")), None);
        assert_eq!(gateway6(""), None);
    }
}
