//! What was said and is still on its way when a session ends.
//!
//! A program that writes and exits has been told by its kernel that its bytes are as good as there. So a session ends only
//! when each direction that a [`Hold`] is on has ended: at the session, once its last byte is the link's; at the agent, once
//! it is the pod's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// How long nothing may move before what is left is given up: who should take it takes nothing.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The directions that a session's end waits for. Clones are the same ones.
#[derive(Debug, Clone, Default)]
pub struct Underway {
    held: TaskTracker,
    moved: Arc<AtomicU64>,
    last: CancellationToken,
}

/// Is on one direction until this and its clones are dropped.
#[derive(Debug, Clone)]
pub struct Hold {
    /// Counts as one, however often it is cloned.
    _held: Arc<TaskTrackerToken>,
    moved: Arc<AtomicU64>,
}

impl Hold {
    pub(crate) fn moved(&self) {
        self.moved.fetch_add(1, Ordering::Relaxed);
    }
}

impl Underway {
    #[must_use]
    pub fn hold(&self) -> Hold {
        let hold = Hold {
            _held: Arc::new(self.held.token()),
            moved: Arc::clone(&self.moved),
        };
        hold.moved();
        hold
    }

    /// Whether there ever was anything.
    #[must_use]
    pub fn was_used(&self) -> bool {
        self.moved.load(Ordering::Relaxed) > 0
    }

    /// Says that nothing new comes: who takes messages takes those that are there, and ends its direction.
    pub fn no_more(&self) {
        self.last.cancel();
    }

    /// Ready when [`Self::no_more`] was said.
    pub async fn last(&self) {
        self.last.cancelled().await;
    }

    /// Waits until every held direction has ended, and gives up when nothing has moved for [`PATIENCE`]: how many are left.
    pub async fn arrived(&self) -> usize {
        self.held.close();
        let mut before = (self.moved.load(Ordering::Relaxed), self.held.len());
        while tokio::time::timeout(PATIENCE, self.held.wait()).await.is_err() {
            let now = (self.moved.load(Ordering::Relaxed), self.held.len());
            if now == before {
                break;
            }
            before = now;
        }
        self.held.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_waits_as_long_as_something_moves() {
        let underway = Underway::default();
        let (slow, stuck) = (underway.hold(), underway.hold());
        let moving = tokio::spawn(async move {
            for _ in 0..5 {
                tokio::time::sleep(PATIENCE / 2).await;
                slow.moved();
            }
        });
        let start = tokio::time::Instant::now();
        assert_eq!(underway.arrived().await, 1, "one of them never moves");
        assert!(moving.is_finished());
        assert!(start.elapsed() >= PATIENCE * 3, "{:?}", start.elapsed());
        drop(stuck);
        assert_eq!(underway.arrived().await, 0);
    }
}
