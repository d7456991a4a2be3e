//! Whether something made earlier still fits what it was made from: a fingerprint of the inputs, kept beside the caches.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use crate::error::{At, Result};

/// Of contents, not of times: a fresh checkout of the same commit has the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint(u64);

impl Fingerprint {
    pub fn of(values: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        values.hash(&mut hasher);
        Self(hasher.finish())
    }

    /// Of the names and contents of all files below `path`.
    pub fn of_tree(path: &Path) -> Result<Self> {
        let mut hasher = DefaultHasher::new();
        hash_tree(path, &mut hasher)?;
        Ok(Self(hasher.finish()))
    }

    pub fn and(self, other: Self) -> Self {
        Self::of((self.0, other.0))
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

fn hash_tree(path: &Path, hasher: &mut DefaultHasher) -> Result<()> {
    path.file_name().hash(hasher);
    if path.is_dir() {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path).at("list", path)? {
            entries.push(entry.at("list", path)?.path());
        }
        entries.sort();
        entries.iter().try_for_each(|entry| hash_tree(entry, hasher))
    } else {
        fs::read(path).at("read", path)?.hash(hasher);
        Ok(())
    }
}

/// Makes `output` unless it exists and `stamp` says that it was made from these inputs.
pub(crate) fn make(stamp: &Path, output: &Path, inputs: Fingerprint, make: impl FnOnce() -> Result<()>) -> Result<()> {
    let wanted = inputs.to_string();
    if output.exists() && fs::read_to_string(stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    for path in [stamp, output] {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).at("create", parent)?;
        }
    }
    // An interrupted build must not look finished.
    drop(fs::remove_file(stamp));
    make()?;
    fs::write(stamp, wanted).at("write", stamp)
}
