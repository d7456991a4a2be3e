//! Connections from inside of the pod whose port is stolen as well: their packets are for the intercept's listener. They are
//! held back until that has accepted them and so knows where they wanted to go.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use capture::{ConnectionId, Event};

/// What is accepted at all is accepted by then.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of all that are held back.
const MOST: usize = 1 << 20;

pub(super) struct Inside {
    listener: u16,
    held: BTreeMap<ConnectionId, Held>,
    bytes: usize,
}

struct Held {
    client: SocketAddr,
    since: Instant,
    events: Vec<Event>,
    bytes: usize,
}

impl Inside {
    pub(super) fn new(listener: u16) -> Self {
        Self {
            listener,
            held: BTreeMap::new(),
            bytes: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Holds an event back, or returns it: one that is no such connection's, or the opening of one that is more than can be held,
    /// which nobody wants as it is.
    pub(super) fn pass(&mut self, event: Event) -> Option<Event> {
        match event {
            Event::Opened {
                id,
                client,
                server,
                loopback: true,
                ..
            } if server.port() == self.listener => {
                let held = Held {
                    client,
                    since: Instant::now(),
                    events: vec![event],
                    bytes: 0,
                };
                self.held.insert(id, held);
                None
            }
            Event::Data { id, ref bytes } => {
                let Some(held) = self.held.get_mut(&id) else {
                    return Some(event);
                };
                let length = bytes.len();
                held.events.push(event);
                held.bytes += length;
                self.bytes += length;
                if self.bytes > MOST { self.give_up(id) } else { None }
            }
            Event::Closed { id, .. } => {
                let Some(held) = self.held.get_mut(&id) else {
                    return Some(event);
                };
                held.events.push(event);
                None
            }
            Event::Opened { .. } => Some(event),
        }
    }

    /// The events of those of whom it is known by now where they wanted to go; and the openings of those of whom it never will.
    pub(super) fn known(&mut self, wanted_by: impl Fn(SocketAddr) -> Option<SocketAddr>) -> Vec<Event> {
        let mut known = Vec::new();
        let ids: Vec<ConnectionId> = self.held.keys().copied().collect();
        for id in ids {
            let Some(held) = self.held.get(&id) else { continue };
            if let Some(wanted) = wanted_by(held.client) {
                let mut events = self.remove(id);
                if let Some(Event::Opened { server, .. }) = events.first_mut() {
                    *server = wanted;
                }
                known.append(&mut events);
            } else if held.since.elapsed() > PATIENCE {
                known.extend(self.give_up(id));
            }
        }
        known
    }

    fn give_up(&mut self, id: ConnectionId) -> Option<Event> {
        tracing::warn!("a connection from inside of the pod is not copied: nobody knows where it wanted to go");
        self.remove(id).into_iter().next()
    }

    fn remove(&mut self, id: ConnectionId) -> Vec<Event> {
        let Some(held) = self.held.remove(&id) else {
            return Vec::new();
        };
        self.bytes -= held.bytes;
        held.events
    }
}
