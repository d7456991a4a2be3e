//! Reads what comes for claimed ports.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use capture::Error;
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Datagrams;
use crate::mirror::OWN_MARKS;
use crate::sys;

/// Datagrams in a row, before other tasks have their turn.
const BATCH: usize = 64;
/// How old the knowledge of the namespace's addresses may be when one is not among them.
const FRESH: Duration = Duration::from_secs(1);

/// Reads until it is dropped.
pub(super) struct Reader {
    socket: Arc<capture::Datagrams>,
    _stop: DropGuard,
}

impl Reader {
    pub(super) fn start(datagrams: &Arc<Datagrams>, ports: &BTreeSet<u16>) -> Result<Self, Error> {
        let socket = Arc::new(capture::Datagrams::open(ports, Some(OWN_MARKS))?);
        let ready = socket.as_fd().try_clone_to_owned().and_then(sys::watch);
        let ready = ready.map_err(|error| waiting(&error))?;
        let stop = CancellationToken::new();
        let (datagrams, reading, stopped) = (Arc::clone(datagrams), Arc::clone(&socket), stop.clone());
        tokio::spawn(async move {
            if let Some(error) = stopped.run_until_cancelled(read(&datagrams, &reading, &ready)).await {
                tracing::error!(%error, "datagrams are no longer read");
                datagrams.stop_all();
            }
            // The kernel waits for every processor when a packet socket ends.
            tokio::task::spawn_blocking(move || drop((ready, reading)));
        });
        Ok(Self {
            socket,
            _stop: stop.drop_guard(),
        })
    }

    pub(super) fn set_ports(&self, ports: &BTreeSet<u16>) -> Result<(), Error> {
        self.socket.set_ports(ports)
    }
}

fn waiting(error: &io::Error) -> Error {
    Error::Kernel {
        doing: "waiting for datagrams",
        errno: Errno::from_io_error(error).unwrap_or(Errno::IO),
    }
}

/// Why it ended.
async fn read(datagrams: &Datagrams, socket: &capture::Datagrams, ready: &AsyncFd<OwnedFd>) -> Error {
    let (mut buffer, mut own) = (Vec::new(), Own::default());
    loop {
        let mut ready = match ready.readable().await {
            Ok(ready) => ready,
            Err(error) => return waiting(&error),
        };
        for _ in 0..BATCH {
            match socket.next(&mut buffer) {
                Ok(Some(arrival)) => {
                    if !datagrams.machine || own.has(arrival.server.ip()) {
                        datagrams.take(&arrival);
                    }
                }
                Ok(None) => {
                    ready.clear_ready();
                    break;
                }
                Err(error) => return error,
            }
        }
        match socket.lost() {
            Ok(0) => {}
            Ok(lost) => tracing::warn!(lost, "datagrams were lost: the agent could not keep up"),
            Err(error) => return error,
        }
        tokio::task::yield_now().await;
    }
}

/// The addresses of this network namespace.
#[derive(Default)]
struct Own {
    addresses: Vec<IpAddr>,
    since: Option<Instant>,
}

impl Own {
    fn has(&mut self, ip: IpAddr) -> bool {
        let near = match ip {
            IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local(),
        };
        if near || self.addresses.contains(&ip) {
            return true;
        }
        if self.since.is_none_or(|since| since.elapsed() >= FRESH) {
            (self.addresses, self.since) = (sys::addresses(), Some(Instant::now()));
        }
        self.addresses.contains(&ip)
    }
}
