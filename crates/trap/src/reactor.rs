//! Calls that would block: they wait here, all on one thread, until their socket is ready.
//!
//! Waiting costs no thread, so a thousand blocked accepts delay nothing. A call is given up when its thread ends (its
//! pidfd, or its connection), when the same thread calls again (it was interrupted by a signal), and by a look at each once a second.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::io::Errno;

use crate::notification::Pending;

/// How often calls that wait are checked for having been interrupted.
const SWEEP: Duration = Duration::from_secs(1);
const WAKE: u64 = 0;

/// Why a waiting call is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    Ready,
    /// Its deadline has come.
    Late,
}

/// Tries again; gives the call back to wait more.
pub(crate) type Attempt = Box<dyn FnMut(Pending, Wake) -> Option<Pending> + Send>;

/// What a call waits for.
pub(crate) struct Waiting {
    pub(crate) pending: Pending,
    pub(crate) socket: OwnedFd,
    pub(crate) interest: epoll::EventFlags,
    pub(crate) deadline: Option<Instant>,
    pub(crate) attempt: Attempt,
}

struct Entry {
    waiting: Waiting,
    thread: Option<OwnedFd>,
}

/// The set of calls that wait.
pub(crate) struct Reactor {
    epoll: OwnedFd,
    wake: OwnedFd,
    entries: Mutex<Entries>,
    /// How many entries there are: checked for each trapped call, without the lock.
    count: AtomicUsize,
    next: AtomicU64,
    retry: AtomicBool,
}

#[derive(Default)]
struct Entries {
    by_token: HashMap<u64, Entry>,
    by_thread: HashMap<u32, u64>,
}

impl Reactor {
    /// # Errors
    /// When descriptors are short.
    pub(crate) fn new() -> Result<Self, Errno> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN)?;
        // Tokens are even; an odd one is the same entry's thread.
        Ok(Self {
            epoll,
            wake,
            entries: Mutex::default(),
            count: AtomicUsize::new(0),
            next: AtomicU64::new(2),
            retry: AtomicBool::new(false),
        })
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a call wait. The caller has tried once already.
    pub(crate) fn wait(&self, waiting: Waiting) {
        let token = self.next.fetch_add(2, Ordering::Relaxed);
        let tid = waiting.pending.tid();
        let thread = waiting.pending.end();
        let mut entries = self.entries();
        // Calls that were handed over come by several threads: one that was interrupted may come after the one that its
        // caller made next.
        if Self::alive(&entries, tid).is_some() && !waiting.pending.is_alive() {
            return;
        }
        let flags = waiting.interest;
        if epoll::add(&self.epoll, &waiting.socket, epoll::EventData::new_u64(token), flags).is_err() {
            return waiting.pending.fail(Errno::NOMEM);
        }
        let thread = thread.map(|(thread, gone)| {
            let _ = epoll::add(&self.epoll, &thread, epoll::EventData::new_u64(token | 1), gone);
            thread
        });
        entries.by_token.insert(token, Entry { waiting, thread });
        let older = entries.by_thread.insert(tid, token);
        if let Some(older) = older {
            let _ = self.take(&mut entries, older);
            entries.by_thread.insert(tid, token);
        }
        self.count.store(entries.by_token.len(), Ordering::Release);
        drop(entries);
        self.nudge();
    }

    /// The thread called again, so what it waited for before was interrupted.
    pub(crate) fn displace(&self, tid: u32) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut entries = self.entries();
        if Self::alive(&entries, tid).is_none()
            && let Some(token) = entries.by_thread.get(&tid).copied()
        {
            drop(self.take(&mut entries, token));
        }
    }

    /// The thread's call that waits, if the thread still waits for it.
    fn alive(entries: &Entries, tid: u32) -> Option<u64> {
        let token = entries.by_thread.get(&tid)?;
        entries
            .by_token
            .get(token)?
            .waiting
            .pending
            .is_alive()
            .then_some(*token)
    }

    fn take(&self, entries: &mut Entries, token: u64) -> Option<Waiting> {
        let entry = entries.by_token.remove(&token)?;
        entries.by_thread.remove(&entry.waiting.pending.tid());
        // Closing would not do: the app's own descriptor keeps the file, and with it the registration, alive.
        let _ = epoll::delete(&self.epoll, &entry.waiting.socket);
        if let Some(thread) = &entry.thread {
            let _ = epoll::delete(&self.epoll, thread);
        }
        self.count.store(entries.by_token.len(), Ordering::Release);
        Some(entry.waiting)
    }

    /// Something was kept for whoever waits: every waiting call tries again.
    pub(crate) fn retry_all(&self) {
        self.retry.store(true, Ordering::Release);
        self.nudge();
    }

    fn nudge(&self) {
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Serves for ever.
    pub(crate) fn run(&self) {
        let mut events = Vec::with_capacity(64);
        let mut swept = Instant::now();
        loop {
            events.clear();
            let timeout = self.timeout().map(|timeout| rustix::event::Timespec {
                tv_sec: timeout.as_secs() as i64,
                tv_nsec: timeout.subsec_nanos().into(),
            });
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return tracing::error!(%error, "waiting calls are no longer served"),
            }
            for event in &events {
                match event.data.u64() {
                    WAKE => {
                        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
                    }
                    token if token & 1 == 1 => drop(self.take(&mut self.entries(), token & !1)),
                    token => self.attempt(token, Wake::Ready),
                }
            }
            if self.retry.swap(false, Ordering::AcqRel) {
                let tokens: Vec<u64> = self.entries().by_token.keys().copied().collect();
                for token in tokens {
                    self.attempt(token, Wake::Ready);
                }
            }
            let all = swept.elapsed() >= SWEEP;
            if all {
                swept = Instant::now();
            }
            self.sweep(all);
        }
    }

    fn timeout(&self) -> Option<Duration> {
        let entries = self.entries();
        let now = Instant::now();
        let nearest = entries
            .by_token
            .values()
            .filter_map(|entry| entry.waiting.deadline)
            .min();
        let nearest = nearest.map(|deadline| deadline.saturating_duration_since(now));
        (!entries.by_token.is_empty()).then(|| nearest.map_or(SWEEP, |nearest| nearest.min(SWEEP)))
    }

    /// Tries what is late; with `all`, forgets what was interrupted.
    fn sweep(&self, all: bool) {
        let now = Instant::now();
        let (mut late, mut dead) = (Vec::new(), Vec::new());
        for (token, entry) in &self.entries().by_token {
            if all && !entry.waiting.pending.is_alive() {
                dead.push(*token);
            } else if entry.waiting.deadline.is_some_and(|deadline| deadline <= now) {
                late.push(*token);
            }
        }
        for token in dead {
            drop(self.take(&mut self.entries(), token));
        }
        for token in late {
            self.attempt(token, Wake::Late);
        }
    }

    fn attempt(&self, token: u64, wake: Wake) {
        let Some(mut waiting) = self.take(&mut self.entries(), token) else {
            return;
        };
        if !waiting.pending.is_alive() {
            return;
        }
        if let Some(pending) = (waiting.attempt)(waiting.pending, wake) {
            self.wait(Waiting { pending, ..waiting });
        }
    }
}

impl std::fmt::Debug for Reactor {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Reactor({})", self.epoll.as_fd().as_raw_fd())
    }
}
