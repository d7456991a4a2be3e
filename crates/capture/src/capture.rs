//! The ring and the connections, joined.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::block::{self, Direction};
use crate::config::{BLOCK, Config, Interfaces, check_ports};
use crate::error::Error;
use crate::event::{ConnectionId, Event, Stats};
use crate::filter::{self, Devices};
use crate::flows::Flows;
use crate::packet;
use crate::sys::Ring;

/// `LOOPBACK_IFINDEX`, include/net/flow.h: the same in every network namespace.
const LOOPBACK: u32 = 1;

/// A running capture of the network namespace of the thread that opened it. Passive: nothing that it does, or fails to
/// do, delays or changes a packet.
#[derive(Debug)]
pub struct Capture {
    ring: Ring,
    devices: Devices,
    ignore_mark: Option<(u32, u32)>,
    started: Instant,
    flows: Flows,
    dropped_kernel: u64,
}

impl AsFd for Capture {
    /// Readable when a block is ready.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl Capture {
    /// Opens the ring and begins.
    ///
    /// # Errors
    /// [`Error::Permission`] without NET_RAW, [`Error::Unsupported`] without packet sockets, [`Error::Interface`],
    /// [`Error::Config`], [`Error::Kernel`] (ENOMEM when the ring cannot be had).
    pub fn open(config: &Config) -> Result<Capture, Error> {
        config.validate()?;
        let ring = Ring::open(BLOCK, config.blocks())?;
        let devices = match &config.interfaces {
            Interfaces::Outside => Devices::Not(LOOPBACK),
            Interfaces::All => Devices::All,
            Interfaces::Named(names) => Devices::These(ring.indices(names)?),
        };
        ring.filter(&filter::build(&config.ports, &devices, config.ignore_mark))?;
        ring.listen()?;
        Ok(Capture {
            ring,
            devices,
            ignore_mark: config.ignore_mark,
            started: Instant::now(),
            flows: Flows::new(config),
            dropped_kernel: 0,
        })
    }

    /// Captures exactly these ports from now on, atomically. Connections of a port that is no longer among them are
    /// closed as [`Reason::Stopped`](crate::Reason::Stopped) with the next events. At most 512 ports.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::Kernel`]; then nothing changed.
    pub fn set_ports(&mut self, ports: &BTreeSet<u16>) -> Result<(), Error> {
        check_ports(ports)?;
        self.ring
            .filter(&filter::build(ports, &self.devices, self.ignore_mark))?;
        self.flows.set_ports(ports, self.started.elapsed());
        Ok(())
    }

    /// Appends what has happened, at most about 1 MiB of data at a time, and says whether more may be waiting. Never
    /// blocks. Wait for the descriptor to be readable (level or edge triggered: call until `false`), but call at least
    /// once a second, since gaps time out here.
    ///
    /// # Errors
    /// [`Error::Kernel`] when the ring's counts cannot be read.
    pub fn next_events(&mut self, events: &mut Vec<Event>) -> Result<bool, Error> {
        let now = self.started.elapsed();
        let mut more = true;
        for _ in 0..(1 << 20) / BLOCK {
            if self
                .ring
                .next_block(|block| read_block(&mut self.flows, block, now))
                .is_none()
            {
                more = false;
                break;
            }
        }
        if self.flows.tick_is_due(now) {
            self.count_lost(now)?;
            self.flows.tick(now);
        }
        self.flows.take_events(events);
        Ok(more)
    }

    /// Gives a connection up: nothing more comes for it, not even its end. For a reader that cannot keep up with it.
    pub fn abandon(&mut self, id: ConnectionId) {
        self.flows.abandon(id, self.started.elapsed());
    }

    /// Counts since the beginning.
    ///
    /// # Errors
    /// [`Error::Kernel`] when the ring's counts cannot be read.
    pub fn stats(&mut self) -> Result<Stats, Error> {
        self.count_lost(self.started.elapsed())?;
        Ok(Stats {
            dropped_kernel: self.dropped_kernel,
            ..self.flows.stats
        })
    }

    fn count_lost(&mut self, now: Duration) -> Result<(), Error> {
        let dropped = self.ring.dropped()?;
        if dropped > 0 {
            self.dropped_kernel += dropped;
            self.flows.lost(now);
        }
        Ok(())
    }
}

/// Every frame of a block to the flows.
pub(crate) fn read_block(flows: &mut Flows, block: &[u8], now: Duration) {
    for frame in block::frames(block) {
        flows.stats.seen += 1;
        let Some(segment) = packet::parse(frame.bytes, frame.length) else {
            flows.stats.unusable += 1;
            continue;
        };
        match frame.direction {
            Direction::Incoming => {
                flows.client_sent(&segment, frame.loopback, now);
                flows.server_sent(&segment, now);
            }
            // Sent by the pod: its answers. On loopback the client's packets come once more as incoming.
            Direction::Other => flows.server_sent(&segment, now),
        }
    }
}
