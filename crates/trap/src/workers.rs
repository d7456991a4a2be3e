//! A bounded pool for what may block: file calls on the view.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

type Job = Box<dyn FnOnce() + Send>;

/// Most threads. More calls than that on a stalled view wait in line; nothing else waits with them.
const MOST: usize = 16;

/// Threads that are made when needed and kept.
#[derive(Default, Clone)]
pub(crate) struct Workers(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    ready: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

impl Workers {
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) {
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.jobs.push_back(Box::new(job));
        if queue.jobs.len() > queue.idle && queue.threads < MOST {
            let shared = self.0.clone();
            let builder = std::thread::Builder::new()
                .name("inpod-worker".to_owned())
                .stack_size(256 << 10);
            if builder.spawn(move || shared.serve()).is_ok() {
                queue.threads += 1;
            }
        }
        drop(queue);
        self.0.ready.notify_one();
    }
}

impl Shared {
    fn serve(&self) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match queue.jobs.pop_front() {
                Some(job) => {
                    drop(queue);
                    // A job that panics drops its call, which then fails with EIO.
                    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
                    queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
                }
                None => {
                    queue.idle += 1;
                    queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
                    queue.idle -= 1;
                }
            }
        }
    }
}
