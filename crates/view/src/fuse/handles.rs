//! Open files and directories by the numbers the kernel has for them. A file that it opened without asking has number 0.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Errno;
use crate::tree::{Directory, File};

/// Numbers are never used again.
#[derive(Default)]
pub(crate) struct Handles {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    files: HashMap<u64, Arc<File>>,
    directories: HashMap<u64, Arc<tokio::sync::Mutex<Directory>>>,
}

impl Handles {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add_file(&self, file: File) -> u64 {
        let mut inner = self.lock();
        inner.next += 1;
        let handle = inner.next;
        inner.files.insert(handle, Arc::new(file));
        handle
    }

    pub(crate) fn add_directory(&self, directory: Directory) -> u64 {
        let mut inner = self.lock();
        inner.next += 1;
        let handle = inner.next;
        inner
            .directories
            .insert(handle, Arc::new(tokio::sync::Mutex::new(directory)));
        handle
    }

    pub(crate) fn file(&self, handle: u64) -> Result<Arc<File>, Errno> {
        self.lock().files.get(&handle).cloned().ok_or(Errno::BADF)
    }

    /// `None`: it was opened without asking.
    pub(crate) fn opened(&self, handle: u64) -> Result<Option<Arc<File>>, Errno> {
        match handle {
            0 => Ok(None),
            handle => self.file(handle).map(Some),
        }
    }

    pub(crate) fn directory(&self, handle: u64) -> Result<Arc<tokio::sync::Mutex<Directory>>, Errno> {
        self.lock().directories.get(&handle).cloned().ok_or(Errno::BADF)
    }

    /// Closes either kind.
    pub(crate) fn remove(&self, handle: u64) {
        let mut inner = self.lock();
        let file = inner.files.remove(&handle);
        let directory = inner.directories.remove(&handle);
        // Their destructors may take other locks.
        drop(inner);
        drop((file, directory));
    }
}
