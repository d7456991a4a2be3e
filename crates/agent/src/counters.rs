//! What came to a claim, counted where it passes: plain atomic numbers that nobody waits for.

use std::sync::atomic::{AtomicU64, Ordering};

use wire::message::Counts;

/// The counts of one session's claims of one port; see [`Counts`] for what each says.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    seen: AtomicU64,
    matched: AtomicU64,
    passed: AtomicU64,
    mirrored: AtomicU64,
    dropped: AtomicU64,
}

impl Counters {
    pub(crate) fn seen(&self) {
        self.seen.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn matched(&self) {
        self.matched.fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted as matched went elsewhere after all.
    pub(crate) fn unmatched(&self) {
        self.matched.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn passed(&self) {
        self.passed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn mirrored(&self) {
        self.mirrored.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            seen: read(&self.seen),
            matched: read(&self.matched),
            passed: read(&self.passed),
            mirrored: read(&self.mirrored),
            dropped: read(&self.dropped),
        }
    }
}
