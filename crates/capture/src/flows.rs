//! All connections that are followed, from segments to events. Pure: time is given.
//!
//! A connection is followed from its SYN on, and given out when the client completes the handshake. What cannot be
//! given whole is dropped as a whole.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use crate::config::{BLOCK, Config};
use crate::event::{Closed, ConnectionId, Event, Reason, Stats};
use crate::packet::{ACK, FIN, RST, SYN, Segment};
use crate::stream::Stream;

/// How often timeouts are looked at.
const TICK: Duration = Duration::from_millis(250);
/// A handshake that takes longer has failed (Linux gives up after 127 s, most clients sooner).
const HANDSHAKE: Duration = Duration::from_secs(130);
/// A client that is silent for so long after the server has closed is gone (Linux: tcp_fin_timeout is 60 s).
const HALF_CLOSED: Duration = Duration::from_secs(120);
/// A closed connection is remembered for late segments.
const LINGER: Duration = Duration::from_secs(10);
/// After the ring has lost packets, a connection that has been silent since then is given up so much later: the lost
/// ones may have been its last, and a reader must not wait for them for ever.
const SUSPECT: Duration = Duration::from_secs(30);
/// When there is no room for a connection, one that was silent for so long makes room,
const SILENT: Duration = Duration::from_secs(60);
/// or one whose handshake takes that long.
const SLOW_HANDSHAKE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    client: SocketAddr,
    server: SocketAddr,
}

#[derive(Debug)]
enum Flow {
    /// Followed. Boxed: most entries are of the other kind.
    Live(Box<Live>),
    /// Not followed: older than the capture, dropped, or at its end (`closing`).
    Ignored { last: Duration, closing: bool },
}

#[derive(Debug)]
struct Live {
    /// None before the handshake is complete.
    id: Option<ConnectionId>,
    syn: u32,
    mss: Option<u16>,
    loopback: bool,
    stream: Stream,
    /// Where its last `Data` is among the events, unless that was taken.
    data: usize,
    /// Bytes that came with SYN (TCP Fast Open).
    early: Vec<u8>,
    last: Duration,
    server_closed: bool,
}

impl Live {
    /// Memory for bytes that cannot be given out yet.
    fn held(&self) -> usize {
        self.stream.waiting_bytes() + self.early.len()
    }
}

#[derive(Debug)]
pub(crate) struct Flows {
    ports: BTreeSet<u16>,
    max_connections: usize,
    reorder_bytes: usize,
    total_reorder_bytes: usize,
    gap_timeout: Duration,
    flows: HashMap<Key, Flow>,
    /// Keys of connections that were given out.
    opened: HashMap<ConnectionId, Key>,
    live: usize,
    /// Bytes held for all connections.
    held: usize,
    /// There is no room before then, as far as is known.
    full_until: Duration,
    /// When the ring was last found to have lost packets.
    lost: Option<Duration>,
    next_id: u64,
    next_tick: Duration,
    events: Vec<Event>,
    pub(crate) stats: Stats,
}

impl Flows {
    pub(crate) fn new(config: &Config) -> Flows {
        Flows {
            ports: config.ports.clone(),
            max_connections: config.max_connections,
            reorder_bytes: config.reorder_bytes,
            total_reorder_bytes: config.total_reorder_bytes,
            gap_timeout: config.gap_timeout,
            flows: HashMap::new(),
            opened: HashMap::new(),
            live: 0,
            held: 0,
            full_until: Duration::ZERO,
            lost: None,
            next_id: 1,
            next_tick: Duration::ZERO,
            events: Vec::new(),
            stats: Stats::default(),
        }
    }

    pub(crate) fn take_events(&mut self, into: &mut Vec<Event>) {
        into.append(&mut self.events);
    }

    pub(crate) fn set_ports(&mut self, ports: &BTreeSet<u16>, now: Duration) {
        self.ports.clone_from(ports);
        let gone: Vec<Key> = self
            .flows
            .keys()
            .filter(|key| !ports.contains(&key.server.port()))
            .copied()
            .collect();
        for key in gone {
            self.close(key, Closed::Dropped(Reason::Stopped), now);
            self.flows.remove(&key);
        }
    }

    pub(crate) fn abandon(&mut self, id: ConnectionId, now: Duration) {
        let Some(key) = self.opened.get(&id).copied() else {
            return;
        };
        self.stats.abandoned += 1;
        self.end(key, now, false);
    }

    /// A segment that came in for one of the ports.
    pub(crate) fn client_sent(&mut self, segment: &Segment<'_>, loopback: bool, now: Duration) {
        if !self.ports.contains(&segment.destination.port()) {
            return;
        }
        let key = Key {
            client: segment.source,
            server: segment.destination,
        };
        if segment.has(SYN) {
            if !segment.has(ACK) {
                self.begin(key, segment, loopback, now);
            }
            return;
        }
        match self.flows.get_mut(&key) {
            Some(Flow::Live(_)) if segment.has(RST) => self.close(key, Closed::Reset, now),
            Some(Flow::Live(_)) => self.advance(key, segment, now),
            Some(Flow::Ignored { .. }) if segment.has(RST) => drop(self.flows.remove(&key)),
            Some(Flow::Ignored { last, closing }) => {
                *last = now;
                *closing |= segment.has(FIN);
            }
            None if !segment.payload.is_empty() => {
                self.stats.older += 1;
                self.ignore(key, now, segment.has(FIN));
            }
            None => {}
        }
    }

    /// A segment from one of the ports: only its end counts. On loopback it may come twice.
    pub(crate) fn server_sent(&mut self, segment: &Segment<'_>, now: Duration) {
        let key = Key {
            client: segment.destination,
            server: segment.source,
        };
        match self.flows.get_mut(&key) {
            Some(Flow::Live(_)) if segment.has(RST) => self.close(key, Closed::Reset, now),
            Some(Flow::Live(live)) => {
                live.server_closed |= segment.has(FIN);
                if live.id.is_some() && segment.has(ACK) {
                    live.stream.acknowledge(segment.acknowledged, now);
                }
            }
            Some(Flow::Ignored { .. }) if segment.has(RST) => drop(self.flows.remove(&key)),
            _ => {}
        }
    }

    /// The ring has lost packets.
    pub(crate) fn lost(&mut self, now: Duration) {
        self.lost = Some(now);
    }

    /// Whether [`Flows::tick`] would do something.
    pub(crate) fn tick_is_due(&self, now: Duration) -> bool {
        now >= self.next_tick
    }

    fn begin(&mut self, key: Key, segment: &Segment<'_>, loopback: bool, now: Duration) {
        match self.flows.get_mut(&key) {
            Some(Flow::Live(live)) if live.syn == segment.sequence => {
                live.last = now; // repeated
                return;
            }
            Some(Flow::Live(_)) => self.close(key, Closed::Reset, now),
            _ => {}
        }
        if self.live >= self.max_connections && !self.make_room(now) {
            self.stats.dropped_overload += 1;
            self.ignore(key, now, false);
            return;
        }
        let fits = self.held + segment.payload.len() <= self.total_reorder_bytes;
        let early = if fits { segment.payload.to_vec() } else { Vec::new() };
        self.held += early.len();
        let live = Live {
            id: None,
            syn: segment.sequence,
            mss: segment.mss,
            loopback,
            stream: Stream::new(segment.sequence.wrapping_add(1)),
            data: 0,
            early,
            last: now,
            server_closed: false,
        };
        self.flows.insert(key, Flow::Live(Box::new(live)));
        self.live += 1;
    }

    fn advance(&mut self, key: Key, segment: &Segment<'_>, now: Duration) {
        let Some(Flow::Live(live)) = self.flows.get_mut(&key) else {
            return;
        };
        live.last = now;
        let (mss, loopback) = (live.mss, live.loopback);
        let id = *live.id.get_or_insert_with(|| {
            let id = ConnectionId(self.next_id);
            self.next_id += 1;
            self.stats.opened += 1;
            self.opened.insert(id, key);
            self.events.push(Event::Opened {
                id,
                client: key.client,
                server: key.server,
                mss,
                loopback,
            });
            id
        });
        let before = live.held();
        let mut out = |bytes: &[u8]| {
            self.stats.delivered += bytes.len() as u64;
            match self.events.get_mut(live.data) {
                Some(Event::Data { id: of, bytes: known }) if *of == id && known.len() < BLOCK => {
                    known.extend_from_slice(bytes);
                }
                _ => {
                    live.data = self.events.len();
                    self.events.push(Event::Data {
                        id,
                        bytes: bytes.to_vec(),
                    });
                }
            }
        };
        let early = std::mem::take(&mut live.early);
        let limit = self.reorder_bytes;
        let mut result = live
            .stream
            .push(live.syn.wrapping_add(1), &early, false, now, limit, &mut out);
        if !segment.cut && result.is_ok() {
            result = live.stream.push(
                segment.sequence,
                segment.payload,
                segment.has(FIN),
                now,
                limit,
                &mut out,
            );
        }
        self.held = self.held + live.held() - before;
        if live.stream.finished() {
            self.close(key, Closed::Finished, now);
        } else if segment.cut {
            self.close(key, Closed::Dropped(Reason::Truncated), now);
        } else if result.is_err() || self.held > self.total_reorder_bytes {
            self.close(key, Closed::Dropped(Reason::Overload), now);
        }
    }

    /// Looks at timeouts, if it is time.
    pub(crate) fn tick(&mut self, now: Duration) {
        if !self.tick_is_due(now) {
            return;
        }
        self.next_tick = now + TICK;
        let mut ended = Vec::new();
        self.flows.retain(|key, flow| match flow {
            Flow::Ignored { last, closing } => !*closing || now.saturating_sub(*last) < LINGER,
            Flow::Live(live) => {
                let silent = now.saturating_sub(live.last);
                let since = live.stream.gap_since();
                let gap = since.is_some_and(|since| now.saturating_sub(since) >= self.gap_timeout);
                let suspect = silent >= SUSPECT && self.lost.is_some_and(|lost| lost >= live.last);
                if gap || suspect {
                    ended.push((*key, Closed::Dropped(Reason::Gap)));
                } else if (live.id.is_none() && silent >= HANDSHAKE) || (live.server_closed && silent >= HALF_CLOSED) {
                    ended.push((*key, Closed::Dropped(Reason::Idle)));
                }
                true
            }
        });
        for (key, how) in ended {
            self.close(key, how, now);
        }
    }

    fn close(&mut self, key: Key, how: Closed, now: Duration) {
        let closing = !matches!(how, Closed::Dropped(_));
        if let Some(id) = self.end(key, now, closing) {
            let count = match how {
                Closed::Finished => &mut self.stats.finished,
                Closed::Reset => &mut self.stats.reset,
                Closed::Dropped(Reason::Gap) => &mut self.stats.dropped_gap,
                Closed::Dropped(Reason::Overload) => &mut self.stats.dropped_overload,
                Closed::Dropped(Reason::Truncated) => &mut self.stats.dropped_truncated,
                Closed::Dropped(Reason::Idle) => &mut self.stats.dropped_idle,
                Closed::Dropped(Reason::Stopped) => &mut self.stats.abandoned,
            };
            *count += 1;
            self.events.push(Event::Closed { id, how });
        }
    }

    /// Follows a connection no longer. Its id, if it had been given out.
    fn end(&mut self, key: Key, now: Duration, closing: bool) -> Option<ConnectionId> {
        let Some(Flow::Live(live)) = self.flows.remove(&key) else {
            return None;
        };
        self.live -= 1;
        self.held -= live.held();
        // One that never got beyond its handshake leaves nothing that could come late.
        let id = live.id?;
        self.opened.remove(&id);
        self.ignore(key, now, closing);
        Some(id)
    }

    /// Remembers that a connection is not followed, so that it is counted once. Memory for four times as many as are
    /// followed; beyond that they are forgotten, the silent ones first.
    fn ignore(&mut self, key: Key, now: Duration, closing: bool) {
        let room = self.max_connections.saturating_mul(4);
        if self.flows.len() - self.live >= room {
            let mut last: Vec<Duration> = self.flows.values().filter_map(Flow::ignored_since).collect();
            let middle = last.len() / 2;
            let (_, median, _) = last.select_nth_unstable(middle);
            let median = *median;
            self.flows
                .retain(|_, flow| flow.ignored_since().is_none_or(|last| last > median));
        }
        self.flows.insert(key, Flow::Ignored { last: now, closing });
    }

    /// Drops the connection that was silent longest, if that is long.
    fn make_room(&mut self, now: Duration) -> bool {
        if now < self.full_until {
            return false;
        }
        let candidates = self.flows.iter().filter_map(|(key, flow)| match flow {
            Flow::Live(live) => {
                let enough = if live.id.is_none() { SLOW_HANDSHAKE } else { SILENT };
                (now.saturating_sub(live.last) >= enough).then_some((live.last, *key))
            }
            Flow::Ignored { .. } => None,
        });
        let Some((_, key)) = candidates.min_by_key(|(last, _)| *last) else {
            // Looking through all of them for every SYN of a flood would be the overload.
            self.full_until = now + TICK;
            return false;
        };
        self.close(key, Closed::Dropped(Reason::Overload), now);
        true
    }
}

impl Flow {
    fn ignored_since(&self) -> Option<Duration> {
        match self {
            Flow::Ignored { last, .. } => Some(*last),
            Flow::Live(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
