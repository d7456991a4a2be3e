//! Open files of one session.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Files that one stream may hold open.
const MAX_OPEN: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct Handles(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    last: u64,
    open: HashMap<u64, Arc<OwnedFd>>,
}

impl Handles {
    /// `None` when too many are open.
    pub(crate) fn keep(&self, file: OwnedFd) -> Option<u64> {
        let mut table = self.lock();
        if table.open.len() >= MAX_OPEN {
            return None;
        }
        table.last += 1;
        let handle = table.last;
        table.open.insert(handle, Arc::new(file));
        Some(handle)
    }

    pub(crate) fn get(&self, handle: u64) -> Option<Arc<OwnedFd>> {
        self.lock().open.get(&handle).cloned()
    }

    pub(crate) fn close(&self, handle: u64) -> bool {
        self.lock().open.remove(&handle).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
