//! A supervisor and a server that stand still most of the time, as on a machine that is far too busy: from outside, by signals.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tests::processes;

/// For how long one stands still, and then goes on: in turn, in milliseconds.
const TURNS: [(u64, u64); 5] = [(1, 2), (15, 3), (4, 1), (30, 5), (8, 2)];

/// Ended, and everything goes on, when dropped.
#[derive(Debug)]
pub struct Slow {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<u32>>,
}

impl Slow {
    /// A session's two processes, each in turns of its own.
    #[must_use]
    pub fn down(supervisor: u32) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let first: fn(u32) -> Option<u32> = Some;
        let threads = [first, processes::server].map(|find| {
            let over = Arc::clone(&over);
            std::thread::spawn(move || stop_and_go(supervisor, find, &over))
        });
        Self {
            over,
            threads: threads.into(),
        }
    }

    /// How often one stood still.
    #[must_use]
    pub fn end(mut self) -> u32 {
        self.over.store(true, Ordering::Relaxed);
        let threads = self.threads.drain(..);
        threads.map(|thread| thread.join().unwrap_or_default()).sum()
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn stop_and_go(supervisor: u32, find: fn(u32) -> Option<u32>, over: &AtomicBool) -> u32 {
    let mut stops = 0;
    let mut process = None;
    while !over.load(Ordering::Relaxed) {
        process = process.or_else(|| find(supervisor).and_then(handle));
        let (still, going) = TURNS[stops as usize % TURNS.len()];
        if let Some(process) = &process
            && pidfd_send_signal(process, Signal::STOP).is_ok()
        {
            stops += 1;
            std::thread::sleep(Duration::from_millis(still));
            let _ = pidfd_send_signal(process, Signal::CONT);
        }
        std::thread::sleep(Duration::from_millis(going));
    }
    stops
}

/// What a signal is sent by: a number may be another process' by then.
fn handle(process: u32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(i32::try_from(process).ok()?)?, PidfdFlags::empty()).ok()
}
