//! Which ports a mesh's proxy takes from outside: a sidecar's, or in an ambient mesh the node's, whose sockets are in the pod.
//!
//! Istio, Linkerd and the like redirect what comes to the pod to their proxy, which hands it on to the app over loopback.
//! What was redirected is the proxy's, most likely TLS: the copy is made of what the proxy hands on, which is captured as well. A
//! redirected connection is known by its socket in the pod, whose port is the proxy's. One that is over before it is looked
//! for is taken for a proxy's where a known one listens.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::node::AMBIENT_PROBES;

/// A look goes through all sockets of the machine: connections that have ended before it are not worth many.
const AGAIN: Duration = Duration::from_millis(50);
/// Where proxies take what comes in: Istio and Kuma, Linkerd, Consul.
const PROXIES: [u16; 3] = [15006, 4143, 20000];

#[derive(Default)]
pub(super) struct Sidecars {
    /// By port of the pod. Packet rules of a mesh stay as they are for as long as the pod lives.
    known: HashMap<u16, bool>,
    looked: Option<Instant>,
    /// A proxy listened at the last look.
    proxy: bool,
}

impl Sidecars {
    /// Whether a connection from outside is taken by a sidecar; `own` is the port of the agent's own listener, whose packet
    /// rules redirect as well.
    pub(super) fn take(&mut self, client: SocketAddr, server: SocketAddr, own: u16) -> bool {
        // Of these nothing can be learned for others.
        if AMBIENT_PROBES.contains(&client.ip()) {
            return false;
        }
        if let Some(taken) = self.known.get(&server.port()) {
            return *taken;
        }
        if self.looked.is_some_and(|looked| looked.elapsed() < AGAIN) {
            return self.proxy;
        }
        self.looked = Some(Instant::now());
        let Ok(Some(port)) = nft::local_port(client) else {
            let listening = nft::listening().unwrap_or_default();
            self.proxy = listening.iter().any(|address| PROXIES.contains(&address.port()));
            return self.proxy;
        };
        if port == own {
            return false;
        }
        let taken = port != server.port();
        if taken {
            tracing::info!(
                port = server.port(),
                proxy = port,
                "a mesh's proxy takes what comes from outside"
            );
        }
        self.known.insert(server.port(), taken);
        taken
    }
}
