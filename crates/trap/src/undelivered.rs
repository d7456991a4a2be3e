//! Calls that are made in their callers' place, once each: a signal takes a caller out of its call, which it makes again as soon as
//! that is handled. It is told then what came of the first.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::notification::{Gone, Pending, UNSEEN};
use crate::task::Task;

/// How long a change is remembered that nobody has asked for again.
const KEPT: Duration = Duration::from_secs(10);

/// The last change of each thread, as long as the thread may not know what came of it.
#[derive(Default)]
pub(crate) struct Undelivered(Mutex<HashMap<u32, Arc<Made>>>);

/// What a call asks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) number: i64,
    pub(crate) arguments: [u64; 6],
    /// Its paths: another one may lie at the same address.
    pub(crate) written: [Vec<u8>; 2],
}

/// What comes of a call.
pub(crate) type Outcome = Result<Came, Errno>;

#[derive(Debug, Clone)]
pub(crate) enum Came {
    Value(i64),
    /// And whether it is closed on exec.
    Open(Arc<OwnedFd>, bool),
}

struct Made {
    asked: Asked,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// `None` while it is being made.
    outcome: Option<Outcome>,
    /// The same call, made again meanwhile.
    waiting: Vec<Pending>,
    /// It may be asked for again until then.
    until: Option<Instant>,
}

impl Made {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.state().until.is_some_and(|until| until <= Instant::now())
    }

    /// Or less, if that was said before: who has been told does not ask.
    fn remember_for(&self, time: Duration) {
        let new = Instant::now() + time;
        let mut state = self.state();
        state.until = Some(state.until.map_or(new, |until| until.min(new)));
    }
}

impl Undelivered {
    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Arc<Made>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a call where calls arrive in their order; `None` for one that its thread made before, which is answered.
    pub(crate) fn begin(&self, pending: Pending, asked: Asked) -> Option<Change> {
        let mut all = self.lock();
        all.retain(|_, made| !made.is_over());
        let Some(made) = all.get(&pending.tid()).filter(|made| made.asked == asked).cloned() else {
            let made = Arc::new(Made {
                asked,
                state: Mutex::default(),
            });
            all.insert(pending.tid(), Arc::clone(&made));
            return Some(Begun(made).with(pending));
        };
        drop(all);
        let mut state = made.state();
        match state.outcome.clone() {
            Some(outcome) => {
                drop(state);
                made.remember_for(answer(pending, outcome));
            }
            None => state.waiting.push(pending),
        }
        None
    }
}

/// A call that is to be made.
pub(crate) struct Change {
    pending: Pending,
    begun: Begun,
}

/// Without its caller. Dropped, it has failed.
pub(crate) struct Begun(Arc<Made>);

impl Begun {
    pub(crate) fn with(self, pending: Pending) -> Change {
        Change { pending, begun: self }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.outcome.get_or_insert(Err(Errno::IO));
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        // Unanswered they fail with EIO.
        drop(waiting);
    }
}

impl Change {
    pub(crate) fn pending(&self) -> &Pending {
        &self.pending
    }

    pub(crate) fn apart(self) -> (Pending, Begun) {
        (self.pending, self.begun)
    }

    /// Tells what came of it.
    pub(crate) fn end(self, all: &Undelivered, outcome: Outcome) {
        let made = Arc::clone(&self.begun.0);
        let waiting = {
            let mut state = made.state();
            state.outcome = Some(outcome.clone());
            std::mem::take(&mut state.waiting)
        };
        let opened = matches!(outcome, Ok(Came::Open(..)));
        let told = std::iter::once(self.pending).chain(waiting);
        let time = told.map(|pending| answer(pending, outcome.clone())).min();
        made.remember_for(time.unwrap_or(KEPT));
        if opened && time == Some(UNSEEN) {
            // The app may close it at once, and whoever has it open has its locks.
            std::thread::sleep(UNSEEN);
        }
        drop(outcome);
        all.lock().retain(|_, made| !made.is_over());
    }
}

/// Answers a call; how long its thread may still ask.
fn answer(pending: Pending, outcome: Outcome) -> Duration {
    // Looked at before the answer: signals are handled at once then.
    let is_signalled = Task::of(pending.tid()).is_signalled();
    let delivered = match outcome {
        Ok(Came::Value(value)) => pending.deliver(Ok(value)),
        Ok(Came::Open(file, close_on_exec)) => pending.descriptor(&file, close_on_exec),
        Err(errno) => pending.deliver(Err(errno)),
    };
    match delivered {
        // It may have been dropped.
        Ok(()) if is_signalled => UNSEEN,
        Ok(()) => Duration::ZERO,
        Err(Gone) => KEPT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(number: i64, written: &str) -> Arc<Made> {
        Arc::new(Made {
            asked: Asked {
                number,
                arguments: [7; 6],
                written: [written.into(), Vec::new()],
            },
            state: Mutex::default(),
        })
    }

    #[test]
    fn a_change_is_known_by_all_that_it_asks() {
        let first = made(libc::SYS_mkdir, "a");
        assert_eq!(first.asked, made(libc::SYS_mkdir, "a").asked);
        assert_ne!(first.asked, made(libc::SYS_mkdir, "b").asked, "at the same address");
        assert_ne!(first.asked, made(libc::SYS_rmdir, "a").asked);
    }

    #[test]
    fn who_was_told_does_not_ask_again() {
        let change = made(libc::SYS_mkdir, "a");
        assert!(!change.is_over(), "it is being made");
        change.remember_for(KEPT);
        assert!(!change.is_over());
        change.remember_for(Duration::ZERO);
        change.remember_for(KEPT);
        assert!(change.is_over());
    }

    #[test]
    fn a_change_that_is_never_made_is_an_error() {
        let change = made(libc::SYS_mkdir, "a");
        drop(Begun(Arc::clone(&change)));
        assert!(matches!(change.state().outcome, Some(Err(Errno::IO))));
    }
}
