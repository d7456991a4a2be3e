//! Where clients wanted to go, for a mirror. What comes from inside of the pod is redirected before a capture sees it: its
//! packets are for our listener, and only the connection itself, once accepted, tells the rest.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

/// A mirror asks within a tenth of a second, if there is one.
const KEPT: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// With the number of its entry in `order`: a client may come again from the same address.
    by_client: HashMap<SocketAddr, (u64, SocketAddr)>,
    order: VecDeque<(u64, SocketAddr)>,
    next: u64,
}

impl Wanted {
    pub(super) fn add(&mut self, client: SocketAddr, server: SocketAddr) {
        if self.order.len() >= KEPT
            && let Some((number, oldest)) = self.order.pop_front()
            && self.by_client.get(&oldest).is_some_and(|(of, _)| *of == number)
        {
            self.by_client.remove(&oldest);
        }
        self.order.push_back((self.next, client));
        self.by_client.insert(client, (self.next, server));
        self.next += 1;
    }

    /// Each can be asked for once.
    pub(super) fn take(&mut self, client: SocketAddr) -> Option<SocketAddr> {
        self.by_client.remove(&client).map(|(_, server)| server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_kept() {
        let at = |port| SocketAddr::from(([10, 0, 0, 1], port));
        let mut wanted = Wanted::default();
        wanted.add(at(1), at(80));
        wanted.add(at(1), at(81));
        assert_eq!(wanted.take(at(1)), Some(at(81)));
        assert_eq!(wanted.take(at(1)), None);
        wanted.add(at(1), at(82));
        for port in 2..=1022 {
            wanted.add(at(port), at(80));
        }
        // Entries of the same client are over, not the one that it has now.
        wanted.add(at(1023), at(80));
        wanted.add(at(1024), at(80));
        assert_eq!(wanted.take(at(1)), Some(at(82)));
        for port in 2000..3024 {
            wanted.add(at(port), at(80));
        }
        assert_eq!(wanted.take(at(1024)), None);
        assert_eq!((wanted.by_client.len(), wanted.order.len()), (KEPT, KEPT));
    }
}
