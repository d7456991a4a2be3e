//! TCP probes of a stolen port are refused as long as the real app does not listen there, as without us.
//!
//! A probe asks for no more than to be accepted, and whoever is redirected to our listener is. So it must not be redirected,
//! and that is decided by its first packet, which says nothing of its purpose. Three things together stand for it: the pod's
//! definition has such a probe of the port, the pod's own node has sent the packet first, and nobody listens but us.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Intercept, State};
use crate::node;

/// How often it is looked who listens: the shortest period of a probe is 1 s.
const EVERY: Duration = Duration::from_millis(500);
/// The same where no stolen port has a TCP probe, when there is nothing to look at.
const SELDOM: Duration = Duration::from_secs(2);

/// Looks until the rules are gone.
pub(super) async fn watch(intercept: Arc<Intercept>, stop: CancellationToken) {
    let mut pause = EVERY;
    while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        pause = match intercept.lock().refuse() {
            Ok(true) => EVERY,
            Ok(false) => SELDOM,
            Err(error) => return tracing::error!(%error, "leaving TCP probes to the real app"),
        };
    }
}

impl State {
    /// Makes the packet rules let the kernel refuse what the real app would not take; whether that may change by itself.
    pub(super) fn refuse(&mut self) -> Result<bool, nft::Error> {
        let (mut ports, mut nodes) = self.claims.tcp_probes();
        let Some(active) = &mut self.active else {
            return Ok(false);
        };
        let is_probed = !ports.is_empty();
        if !ports.is_empty() {
            let listening = nft::listening()?;
            let outside = listening.iter().filter(|address| !address.ip().is_loopback());
            let taken: BTreeSet<u16> = outside.map(SocketAddr::port).collect();
            ports.retain(|port| !taken.contains(port));
        }
        if ports.is_empty() {
            nodes.clear();
        } else {
            nodes.extend(node::addresses());
        }
        active.table.set_refused(&ports, &nodes)?;
        Ok(is_probed)
    }
}
