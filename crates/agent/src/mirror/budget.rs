//! How much of copies may wait for links.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of all sessions' copies together.
const ALL: usize = 16 << 20;

#[derive(Default)]
pub(super) struct Budget(Arc<AtomicUsize>);

/// What waits for one session: as much as is left for others, at most, however long its app stands at a breakpoint.
#[derive(Clone)]
pub(super) struct Share {
    all: Arc<AtomicUsize>,
    own: Arc<AtomicUsize>,
}

/// Given back when it is dropped.
pub(super) struct Taken {
    share: Share,
    bytes: usize,
}

impl Budget {
    pub(super) fn share(&self) -> Share {
        Share {
            all: Arc::clone(&self.0),
            own: Arc::default(),
        }
    }
}

impl Share {
    /// `None` where there is no room. Taken by one thread, given back by any.
    pub(super) fn take(&self, bytes: usize) -> Option<Taken> {
        let own = self.own.load(Ordering::Relaxed) + bytes;
        let left = ALL.checked_sub(self.all.load(Ordering::Relaxed) + bytes)?;
        if own > left {
            return None;
        }
        self.own.fetch_add(bytes, Ordering::Relaxed);
        self.all.fetch_add(bytes, Ordering::Relaxed);
        Some(Taken {
            share: self.clone(),
            bytes,
        })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.share.own.fetch_sub(self.bytes, Ordering::Relaxed);
        self.share.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_what_others_need() {
        let budget = Budget::default();
        let fill = |share: &Share| std::iter::from_fn(|| share.take(1 << 10)).collect::<Vec<_>>();
        let (ada, bob, eve) = (budget.share(), budget.share(), budget.share());
        let most = fill(&ada);
        assert_eq!(most.len() << 10, ALL / 2, "alone");
        let seconds = fill(&bob);
        assert_eq!(seconds.len() << 10, ALL / 4);
        assert_eq!(fill(&eve).len() << 10, ALL / 8);
        assert!(ada.take(1).is_none() && eve.take(usize::MAX >> 1).is_none());
        drop(most);
        assert!(bob.take(1 << 10).is_some(), "there is more for him now");
        drop(seconds);
        assert_eq!(budget.0.load(Ordering::Relaxed), 0);
    }
}
