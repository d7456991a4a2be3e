//! Threads that do what may block, under the target's own credentials.
//!
//! Credentials belong to threads in Linux; libc's setuid functions change all of them, so the system calls are made
//! directly. A call that hangs (a dead NFS server) holds one thread; there are enough others.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use crate::target::Credentials;

const MAX_THREADS: usize = 64;
/// Jobs that may wait for a thread.
const MAX_WAITING: usize = 1024;
const STACK: usize = 256 << 10;
/// An idle thread stays for this long.
const IDLE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// The threads.
pub(crate) struct Workers {
    shared: Arc<Shared>,
}

struct Shared {
    credentials: Credentials,
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

impl Workers {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self {
            shared: Arc::new(Shared {
                credentials,
                state: Mutex::default(),
                work: Condvar::new(),
            }),
        }
    }

    /// Runs `job` on a thread of its own. Where there is none to be had `job` is dropped, and with it what would answer.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) {
        let mut state = self.shared.lock();
        if state.jobs.len() >= MAX_WAITING {
            return;
        }
        state.jobs.push_back(Box::new(job));
        if state.idle >= state.jobs.len() || state.threads >= MAX_THREADS {
            self.shared.work.notify_one();
            return;
        }
        let shared = Arc::clone(&self.shared);
        let started = std::thread::Builder::new()
            .name("files".to_owned())
            .stack_size(STACK)
            .spawn(move || shared.serve());
        match started {
            Ok(_) => state.threads += 1,
            // The pod's limit of processes: the threads that exist will come to it.
            Err(_) if state.threads > 0 => {}
            Err(_) => drop(state.jobs.pop_back()),
        }
    }
}

impl Shared {
    fn serve(&self) {
        let dressed = wear(&self.credentials);
        if let Err(error) = &dressed {
            tracing::error!(%error, "a file thread cannot take the target's credentials");
        }
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                // Without the target's credentials nothing is done: a dropped job is answered as failed.
                if dressed.is_ok() {
                    job();
                }
                state = self.lock();
                continue;
            }
            state.idle += 1;
            let (next, timeout) = self
                .work
                .wait_timeout(state, IDLE)
                .unwrap_or_else(PoisonError::into_inner);
            state = next;
            state.idle -= 1;
            if timeout.timed_out() && state.jobs.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the calling thread what the target's process is. Where the agent is not root there is nothing to change: it runs
/// as the target's user, or the kernel decides with the agent's own rights, which are no more.
fn wear(target: &Credentials) -> rustix::io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let groups: Vec<Gid> = target.groups.iter().map(|&group| Gid::from_raw(group)).collect();
    let (uid, gid) = (Uid::from_raw(target.uid), Gid::from_raw(target.gid));
    let own = capabilities(None)?;
    // In a user namespace groups may be fixed; who is the target's user already has them.
    if (uid, gid) != (rustix::process::geteuid(), rustix::process::getegid()) {
        set_thread_groups(&groups)?;
        set_thread_res_gid(gid, gid, gid)?;
    }
    // Leaving uid 0 drops all capabilities; a target that has some (or is root with few) gets those back that we had, of
    // the ones that file access is checked with.
    rustix::thread::set_keep_capabilities(true)?;
    set_thread_res_uid(uid, uid, uid)?;
    let kept = CapabilitySet::from_bits_retain(target.capabilities) & FILES & own.permitted;
    set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        },
    )
}

const FILES: CapabilitySet = CapabilitySet::DAC_OVERRIDE
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::CHOWN)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::MKNOD);
