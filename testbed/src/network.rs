//! The network between the machine and the node: one pair of virtual Ethernet devices, through which the machine reaches
//! the API server and nothing else, and the node reaches nothing. Documentation addresses (RFC 5737), so that a packet
//! that strayed would not arrive anywhere.

use std::process::Command;

use crate::error::{Error, Result, run};

/// The machine's end of the pair.
pub(crate) const LINK: &str = "inpod-testbed";
pub(crate) const MACHINE: &str = "198.51.100.1";
pub(crate) const NODE: &str = "198.51.100.2";
pub(crate) const API_PORT: u16 = 6443;
pub(crate) const PODS: &str = "10.244.0.0/16";
pub(crate) const SERVICES: &str = "10.96.0.0/16";
/// The first of SERVICES, which the API server takes for itself, and the one that the Service kube-dns asks for.
pub(crate) const API_SERVICE: &str = "10.96.0.1";
pub(crate) const DNS_SERVICE: &str = "10.96.0.10";

/// Marks the routes as made here, so that only they are removed (rtnetlink(7): over 4 is free for anyone).
const PROTOCOL: &str = "77";

/// Joins the network namespace of the process `init` to the machine; its end is called eth0 and set up from inside.
pub(crate) fn join(init: i32) -> Result<()> {
    let init = init.to_string();
    let address = format!("{MACHINE}/30");
    ip(&[
        "link", "add", LINK, "type", "veth", "peer", "name", "eth0", "netns", &init,
    ])?;
    ip(&["address", "add", &address, "dev", LINK])?;
    ip(&["link", "set", LINK, "up"])?;
    for range in [PODS, SERVICES] {
        // Without this what is meant for a pod would leave by the machine's default route.
        ip(&["route", "add", "unreachable", range, "proto", PROTOCOL]).map_err(|problem| Error::Unmet {
            doing: format!("keep {range} from leaving the machine"),
            why: problem.to_string(),
            hint: format!("the testbed needs this range: `ip route show {range}` tells who has it"),
        })?;
    }
    Ok(())
}

/// Removes what `join` made, as far as it is there.
pub(crate) fn part() {
    for range in [PODS, SERVICES] {
        drop(ip(&["route", "del", "unreachable", range, "proto", PROTOCOL]));
    }
    drop(ip(&["link", "del", LINK]));
}

pub(crate) fn is_joined() -> bool {
    std::path::Path::new("/sys/class/net").join(LINK).exists()
}

fn ip(arguments: &[&str]) -> Result<String> {
    run("set up the network", Command::new("ip").args(arguments))
}
