//! The thread that reads the capture.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use capture::{Capture, Closed, Config, ConnectionId, Event, Interfaces, Reason};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio::runtime::Handle;

use super::Mirror;
use super::feed::Feed;
use super::inside::Inside;
use super::sidecars::Sidecars;

/// The marks of what the agent itself sends to the app, whose clients have been seen already, and to clients.
pub(crate) const OWN_MARKS: (u32, u32) = (0x1d0d_0000, 0xffff_0000);
/// Gaps time out and sessions are told at least this often.
const TICK: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// What is held back is looked at this often.
const SOON: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 5_000_000,
};
const STACK: usize = 256 << 10;

/// `listener` is the intercept's port, where stolen ones lead on loopback.
pub(super) fn open(ports: BTreeSet<u16>, listener: u16) -> Result<Capture, capture::Error> {
    Capture::open(&Config {
        ports: with(ports, listener),
        interfaces: Interfaces::All,
        ignore_mark: Some(OWN_MARKS),
        ..Config::default()
    })
}

fn with(mut ports: BTreeSet<u16>, listener: u16) -> BTreeSet<u16> {
    ports.insert(listener);
    ports
}

pub(super) fn wake(fd: &OwnedFd) {
    // A full counter is awake already.
    let _ = rustix::io::write(fd, &1_u64.to_ne_bytes());
}

pub(super) fn start(mirror: Arc<Mirror>, capture: Capture, listener: u16, wake: Arc<OwnedFd>) -> io::Result<()> {
    let runtime = Handle::current();
    let read = move || {
        let mut reader = Reading {
            mirror,
            capture,
            live: HashMap::new(),
            inside: Inside::new(listener),
            listener,
            sidecars: Sidecars::default(),
            runtime,
        };
        if let Err(error) = reader.run(&wake) {
            tracing::error!(%error, "mirroring ended");
            let mirror = &reader.mirror;
            mirror.lock().reader = None;
        }
    };
    std::thread::Builder::new()
        .name("mirror".to_owned())
        .stack_size(STACK)
        .spawn(read)
        .map(|_| ())
}

struct Reading {
    mirror: Arc<Mirror>,
    capture: Capture,
    live: HashMap<ConnectionId, Vec<Feed>>,
    inside: Inside,
    listener: u16,
    sidecars: Sidecars,
    runtime: Handle,
}

impl Reading {
    /// Returns when nothing is claimed any more.
    fn run(&mut self, wake: &OwnedFd) -> Result<(), capture::Error> {
        let mut events = Vec::new();
        loop {
            let mut ready = [
                PollFd::new(&self.capture, PollFlags::IN),
                PollFd::new(wake, PollFlags::IN),
            ];
            let patience = if self.inside.is_empty() { TICK } else { SOON };
            if let Err(errno) = poll(&mut ready, Some(&patience))
                && errno != Errno::INTR
            {
                return Err(capture::Error::Kernel {
                    doing: "waiting for packets",
                    errno,
                });
            }
            let woken = ready[1].revents().contains(PollFlags::IN);
            if woken && !self.refresh(wake)? {
                return Ok(());
            }
            loop {
                let more = self.capture.next_events(&mut events)?;
                for event in events.drain(..) {
                    if let Some(event) = self.inside.pass(event) {
                        self.take(event);
                    }
                }
                if !more {
                    break;
                }
            }
            let intercept = &self.mirror.intercept;
            for event in self.inside.known(|client| intercept.wanted_by(client)) {
                self.take(event);
            }
            self.mirror.tell();
        }
    }

    /// Looks at the claims again; `false` when there are none.
    fn refresh(&mut self, wake: &OwnedFd) -> Result<bool, capture::Error> {
        let _ = rustix::io::read(wake, &mut [0; 8]);
        let ports = {
            let mut state = self.mirror.lock();
            let ports = state.ports();
            if ports.is_empty() {
                // Under the lock: the next claim starts another thread.
                state.reader = None;
                return Ok(false);
            }
            ports
        };
        self.capture.set_ports(&with(ports, self.listener))?;
        let mirror = &self.mirror;
        for feeds in self.live.values_mut() {
            feeds.retain(|feed| mirror.wants(feed.session, feed.port()));
        }
        Ok(true)
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Opened {
                id,
                client,
                server,
                mss,
                loopback,
            } => {
                let feeds = self.mirror.feeds(client, server, mss);
                if feeds.is_empty() || (!loopback && self.sidecars.take(client, server, self.listener)) {
                    self.capture.abandon(id);
                } else {
                    self.live.insert(id, feeds);
                }
            }
            Event::Data { id, bytes } => {
                let Some(feeds) = self.live.get_mut(&id) else { return };
                let (mirror, runtime) = (&self.mirror, &self.runtime);
                for feed in feeds.extract_if(.., |feed| !feed.data(&bytes, mirror, runtime)) {
                    mirror.dropped(feed.session, feed.port());
                    feed.abandon();
                }
                if feeds.is_empty() {
                    self.live.remove(&id);
                    self.capture.abandon(id);
                }
            }
            Event::Closed { id, how } => {
                for feed in self.live.remove(&id).unwrap_or_default() {
                    match how {
                        Closed::Finished => feed.finish(&self.mirror, &self.runtime),
                        // Dropped without its end, the copy is reset as the connection was.
                        Closed::Reset | Closed::Dropped(Reason::Stopped) => {}
                        Closed::Dropped(_) => {
                            self.mirror.dropped(feed.session, feed.port());
                            feed.abandon();
                        }
                    }
                }
            }
        }
    }
}
