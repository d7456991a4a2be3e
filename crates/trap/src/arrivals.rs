//! Datagrams of the pod's clients at a port of the app: each client is a loopback address here, which is shown as the
//! client's own, and to which the app's answers go.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use guest::protocol::Peer;

/// How long it is believed whose datagrams come from an address: shorter than the server lets one rest before it gives it
/// to another client.
const BELIEVED: Duration = Duration::from_secs(1);
/// Entries of each kind; beyond that the older half is forgotten.
const MAX: usize = 4096;

/// Whose datagrams come from which address of this machine.
#[derive(Default)]
pub(crate) struct Arrivals(Mutex<Recent<SocketAddr, Option<Peer>>>);

/// The clients that one socket has heard of, each with the address that stands for it.
#[derive(Default)]
pub(crate) struct Clients(Recent<SocketAddr, SocketAddr>);

impl Arrivals {
    /// `None`: the server must be asked.
    pub(crate) fn of(&self, from: SocketAddr) -> Option<Option<Peer>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (peer, since) = known.0.get(&from)?;
        (since.elapsed() < BELIEVED).then_some(*peer)
    }

    /// The same of one that was known a moment ago.
    pub(crate) fn lately(&self, from: SocketAddr) -> Option<Peer> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.0.get(&from).and_then(|(peer, _)| *peer)
    }

    pub(crate) fn add(&self, from: SocketAddr, peer: Option<Peer>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).add(from, peer);
    }
}

impl Clients {
    /// Where answers to the client go.
    pub(crate) fn here(&self, client: SocketAddr) -> Option<SocketAddr> {
        self.0.0.get(&client).map(|(here, _)| *here)
    }

    pub(crate) fn add(&mut self, client: SocketAddr, here: SocketAddr) {
        self.0.add(client, here);
    }
}

/// A bounded map of what was added last.
struct Recent<K, V>(HashMap<K, (V, Instant)>);

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash, V> Recent<K, V> {
    fn add(&mut self, key: K, value: V) {
        if self.0.len() >= MAX && !self.0.contains_key(&key) {
            let mut times: Vec<Instant> = self.0.values().map(|(_, since)| *since).collect();
            let middle = times.len() / 2;
            let (_, median, _) = times.select_nth_unstable(middle);
            let median = *median;
            self.0.retain(|_, (_, since)| *since > median);
        }
        self.0.insert(key, (value, Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 77, 0, 2], port))
    }

    #[test]
    fn the_latest_are_remembered() {
        let mut clients = Clients::default();
        for port in 1..=5000 {
            clients.add(address(port), address(port));
        }
        assert!(clients.0.0.len() <= MAX);
        assert_eq!(clients.here(address(5000)), Some(address(5000)));
        assert_eq!(clients.here(address(1)), None);
    }

    #[test]
    fn what_is_known_may_be_that_nobody_is_there() {
        let arrivals = Arrivals::default();
        assert_eq!(arrivals.of(address(1)), None);
        arrivals.add(address(1), None);
        assert_eq!(arrivals.of(address(1)), Some(None));
    }
}
