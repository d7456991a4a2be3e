//! Processes whose calls are all continued: decided for each executable, forgotten at the next exec.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::task::Task;

/// The skipped processes, each with a pidfd that says whether the number still means it.
#[derive(Debug, Default)]
pub(crate) struct Skipped {
    processes: Mutex<HashMap<u32, OwnedFd>>,
    /// Checked for every trapped call, without the lock.
    count: AtomicUsize,
}

impl Skipped {
    /// Whether this thread's calls are continued unseen.
    pub(crate) fn contains(&self, tid: u32) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let mut processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        let group = if processes.contains_key(&tid) {
            tid
        } else {
            Task::of(tid).group().unwrap_or(tid)
        };
        let Some(pidfd) = processes.get(&group) else {
            return false;
        };
        if is_running(pidfd) {
            return true;
        }
        processes.remove(&group);
        self.count.store(processes.len(), Ordering::Release);
        false
    }

    /// A process executes another program.
    pub(crate) fn set(&self, group: u32, skip: bool) {
        if !skip && self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        processes.retain(|_, pidfd| is_running(pidfd));
        match Task::of(group).pidfd() {
            Ok(pidfd) if skip => drop(processes.insert(group, pidfd)),
            _ => drop(processes.remove(&group)),
        }
        self.count.store(processes.len(), Ordering::Release);
    }
}

/// A pidfd becomes readable when its process ends (pidfd_open(2)).
fn is_running(pidfd: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(pidfd, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(0)
}
