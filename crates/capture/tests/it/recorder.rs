//! Reads a capture as the agent does, and remembers everything.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use capture::{Capture, Closed, Config, ConnectionId, Event, Stats};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::world::*;

pub struct Recorder {
    pub capture: Capture,
    pub seen: BTreeMap<ConnectionId, Seen>,
}

#[derive(Debug)]
pub struct Seen {
    pub client: SocketAddr,
    pub server: SocketAddr,
    pub bytes: Vec<u8>,
    pub closed: Option<Closed>,
}

impl Recorder {
    pub fn open(namespace: &Namespace, config: &Config) -> Recorder {
        let capture = namespace.within(|| Capture::open(config).unwrap());
        Recorder {
            capture,
            seen: BTreeMap::new(),
        }
    }

    /// Reads until the condition holds.
    pub fn until(&mut self, what: &str, done: impl Fn(&Recorder) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < deadline, "{what}: not in time; {:?}", self.stats());
            self.step();
        }
    }

    /// Reads for a while: for what must not come.
    pub fn settle(&mut self) {
        let deadline = Instant::now() + Duration::from_millis(300);
        while Instant::now() < deadline {
            self.step();
        }
    }

    pub fn step(&mut self) {
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: 50_000_000,
        };
        poll(&mut [PollFd::new(&self.capture, PollFlags::IN)], Some(&timeout)).unwrap();
        let mut events = Vec::new();
        while self.capture.next_events(&mut events).unwrap() {}
        for event in events {
            match event {
                Event::Opened { id, client, server, .. } => {
                    let fresh = Seen {
                        client,
                        server,
                        bytes: Vec::new(),
                        closed: None,
                    };
                    assert!(self.seen.insert(id, fresh).is_none(), "opened twice");
                }
                Event::Data { id, bytes } => {
                    let seen = self.seen.get_mut(&id).expect("opened before");
                    assert!(seen.closed.is_none() && !bytes.is_empty());
                    seen.bytes.extend(bytes);
                }
                Event::Closed { id, how } => {
                    let seen = self.seen.get_mut(&id).expect("opened before");
                    assert_eq!(seen.closed.replace(how), None, "closed twice");
                }
            }
        }
    }

    pub fn closed(&self) -> usize {
        self.seen.values().filter(|seen| seen.closed.is_some()).count()
    }

    pub fn stats(&mut self) -> Stats {
        self.capture.stats().unwrap()
    }
}

pub fn config() -> Config {
    Config {
        ports: [APP].into(),
        ..Config::default()
    }
}
