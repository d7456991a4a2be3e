//! Whether connections come to a claim, tried by the agent.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Most addresses of Services that are tried for one port.
pub const MAX_SERVICES: usize = 16;
/// Most connections to one of them: behind a Service may be other pods, too.
pub const MAX_CONNECTIONS: u16 = 16;

/// What to try for one port of the pod, beside the pod's own addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub port: u16,
    /// At most [`MAX_SERVICES`]; the agent leaves out what is beyond.
    pub services: Vec<ServiceAddress>,
}

/// One address of a Service, at one of its ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceAddress {
    pub name: String,
    pub address: SocketAddr,
}

/// What became of the connections that the agent opened to see where they go. They have no byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Whose address it is, if not the pod's own.
    pub service: Option<String>,
    pub address: SocketAddr,
    pub outcome: CheckOutcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckOutcome {
    /// One came to the claim, which has let it go: the first, or this one, others having gone elsewhere before.
    Arrived(u16),
    /// Somebody took so many, and the claim has seen none.
    Missed(u16),
    /// Nobody took any, and why.
    Failed(String),
}
