//! What a capture is made with.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::error::Error;

/// Ports at a time: the kernel takes filters of at most 4096 instructions (BPF_MAXINSNS), four are needed for each.
const PORTS: usize = 512;
/// Interfaces by name.
const INTERFACES: usize = 16;
/// One ring block. The largest frame that fits whole: with BIG TCP some networks merge up to 192 KiB.
pub(crate) const BLOCK: usize = 256 * 1024;

/// What a [`Capture`](crate::Capture) is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Local TCP ports whose incoming connections are copied. At most 512.
    pub ports: BTreeSet<u16>,
    /// Where to look.
    pub interfaces: Interfaces,
    /// Bytes of the kernel's ring, rounded up to blocks of 256 KiB; at least 4 blocks. It is the time that the reader
    /// may be late: 16 MiB (the default) is 64 blocks, at the least 1.3 s, since a block is handed over after 20 ms at
    /// the latest. The default is small because the agent lives within the pod's memory limit.
    pub ring_bytes: usize,
    /// Connections followed at a time.
    pub max_connections: usize,
    /// Bytes of one connection that wait for an earlier segment. More, and the connection is dropped.
    pub reorder_bytes: usize,
    /// The same for all connections together.
    pub total_reorder_bytes: usize,
    /// How long a segment may be missing before its connection is dropped. A client repeats a lost segment after
    /// 0.2, 0.6, 1.4, 3 s and so on; a segment that the ring lost is not repeated.
    pub gap_timeout: Duration,
    /// Packets with this mark are not seen: (value, mask) of an agent's own connections to the app.
    pub ignore_mark: Option<(u32, u32)>,
}

/// Interfaces to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interfaces {
    /// All but loopback.
    Outside,
    /// All, with the connections that the pod makes to itself; each packet counts once.
    All,
    /// These, at most 16. With a mesh sidecar `lo`: there the traffic is decrypted.
    Named(Vec<String>),
}

impl Default for Config {
    fn default() -> Config {
        Config {
            ports: BTreeSet::new(),
            interfaces: Interfaces::Outside,
            ring_bytes: 16 << 20,
            max_connections: 4096,
            reorder_bytes: 1 << 20,
            total_reorder_bytes: 8 << 20,
            gap_timeout: Duration::from_secs(5),
            ignore_mark: None,
        }
    }
}

impl Config {
    pub(crate) fn validate(&self) -> Result<(), Error> {
        check_ports(&self.ports)?;
        let bad = |what: &str| Err(Error::Config { what: what.to_owned() });
        if let Interfaces::Named(names) = &self.interfaces
            && (names.is_empty() || names.len() > INTERFACES)
        {
            return bad("name 1 to 16 interfaces");
        }
        if self.ring_bytes > 1 << 30 {
            return bad("the ring can have at most 1 GiB");
        }
        if self.max_connections == 0 {
            return bad("at least one connection has to be allowed");
        }
        Ok(())
    }

    pub(crate) fn blocks(&self) -> usize {
        self.ring_bytes.div_ceil(BLOCK).max(4)
    }
}

pub(crate) fn check_ports(ports: &BTreeSet<u16>) -> Result<(), Error> {
    if ports.len() > PORTS {
        return Err(Error::Config {
            what: format!("at most {PORTS} ports can be captured"),
        });
    }
    Ok(())
}
