//! A copy of what clients send to some ports of a pod, without touching it.
//!
//! Mirroring must not be able to disturb: so it is not a proxy but a reader of what the kernel shows to packet sockets.
//! This crate opens a ring (AF_PACKET, TPACKET_V3) with a filter for the ports, puts the segments of each client back
//! in order, and gives out connections: opened, data, closed. Only the client's direction is given out; of the server's
//! only the end is looked at. A connection is either given completely from its first byte, or dropped as a whole and
//! counted: no reader ever sees a stream with a hole.
//!
//! ```no_run
//! use rustix::event::{PollFd, PollFlags, Timespec, poll};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = capture::Config { ports: [8080].into(), ..capture::Config::default() };
//! let mut capture = capture::Capture::open(&config)?;
//! let mut events = Vec::new();
//! loop {
//!     let more = capture.next_events(&mut events)?;
//!     for event in events.drain(..) {
//!         let _ = event; // Opened, Data, Closed
//!     }
//!     if !more {
//!         let second = Timespec { tv_sec: 1, tv_nsec: 0 };
//!         poll(&mut [PollFd::new(&capture, PollFlags::IN)], Some(&second))?;
//!     }
//! }
//! # }
//! ```
//!
//! [`Datagrams`] does the same for UDP: each datagram as it comes.
//!
//! Memory: the ring (16 MiB unless configured; kernel memory, which the process also maps), at most 8 MiB of segments
//! that wait for earlier ones, and some 100 bytes for each connection known (at most 5 times `max_connections`).
//!
//! Limits: TCP over IPv4 without fragments and over IPv6 without extension headers other than one hop-by-hop header;
//! checksums are not verified. UDP of IPv6 in fragments is seen, not read.

mod block;
mod capture;
mod config;
mod datagrams;
mod error;
mod event;
mod filter;
mod flows;
mod packet;
mod stream;
mod sys;

pub use capture::Capture;
pub use config::{Config, Interfaces};
pub use datagrams::{Arrival, Datagrams};
pub use error::Error;
pub use event::{Closed, ConnectionId, Event, Reason, Stats};

/// Feeds arbitrary bytes to every decoder: as a block of the ring, as a packet, and as a series of segments (records of
/// 6 bytes: what kind, three bytes of position, length, milliseconds passed). Never panics.
pub fn fuzz(data: &[u8]) {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::Duration;
    let config = Config {
        ports: [80].into(),
        max_connections: 2,
        reorder_bytes: 1000,
        total_reorder_bytes: 1500,
        ..Config::default()
    };
    let mut flows = flows::Flows::new(&config);
    capture::read_block(&mut flows, data, Duration::ZERO);
    let _ = packet::parse(data, data.len());
    let packet = sys::Packet {
        network: 0,
        end: data.len(),
        length: data.len(),
        interface: 1,
        segment: data.first().map(|size| usize::from(*size)),
    };
    let _ = datagrams::arrival(data, &packet).map(|arrival| arrival.datagrams().count());
    let mut now = Duration::ZERO;
    let filler = [0; 256];
    for record in data.chunks_exact(6).take(10_000) {
        let [kind, a, b, c, length, passed] = *record else {
            break;
        };
        now += Duration::from_millis(u64::from(passed) * 20);
        let client = SocketAddr::from((Ipv4Addr::LOCALHOST, 1000 + u16::from(kind >> 6)));
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
        let mut segment = packet::Segment {
            source: client,
            destination: server,
            sequence: u32::from_be_bytes([a, a, b, c]),
            acknowledged: u32::from_be_bytes([a, b, c, length]),
            flags: kind & 0x17,
            mss: None,
            payload: &filler[..length.into()],
            cut: kind & 0x28 == 0x28,
        };
        flows.client_sent(&segment, false, now);
        if kind & 8 != 0 {
            (segment.source, segment.destination) = (server, client);
            flows.server_sent(&segment, now);
        }
        if kind & 7 == 7 {
            flows.lost(now);
        }
        flows.tick(now);
    }
    flows.take_events(&mut Vec::new());
}
