//! Changes of the pod's files that stay on this machine (mode `write-local`): the directory in which they are kept.
//!
//! `files` in it has what was changed, at the pod's paths, as the upper layer of the kernel's overlay file system: a file
//! that was removed is a character device 0/0. `work` is the kernel's, and goes with the session.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

pub(crate) const FILES: &str = "files";
pub(crate) const WORK: &str = "work";
/// What the name of a file in [`WORK`] ends with that has the path of one overlay.
pub(crate) const PLACE: &str = ".place";

/// A directory of changes, this session's alone until it is closed.
#[derive(Debug)]
pub struct Changes {
    directory: PathBuf,
    /// Held, so that no other session takes the directory.
    _lock: File,
    /// Nothing of it was there before.
    made: bool,
}

/// What is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kept {
    /// Files and empty directories.
    pub changed: u64,
    pub removed: u64,
}

/// Makes it ready: made where it is absent, with its own user alone having access.
///
/// # Errors
/// `WouldBlock` when another session has it open; what else the file system says.
pub fn open(directory: &Path) -> io::Result<Changes> {
    let made = !directory.exists();
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let lock = File::open(directory)?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    clear_work(directory)?;
    for name in [FILES, WORK] {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory.join(name))?;
    }
    Ok(Changes {
        directory: directory.to_owned(),
        _lock: lock,
        made,
    })
}

impl Changes {
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// After the app's end: removes what is the kernel's, and everything where nothing was changed and nothing was there
    /// before.
    ///
    /// # Errors
    /// What the file system says.
    pub fn close(self) -> io::Result<Kept> {
        let places = places(&self.directory)?;
        clear_work(&self.directory)?;
        let files = self.directory.join(FILES);
        for place in places {
            let below = files.join(place.strip_prefix("/").unwrap_or(&place));
            // An empty one is no change, and neither is one above it that is empty then.
            let above = below.ancestors().take_while(|path| *path != files);
            let _ = above.map(std::fs::remove_dir).take_while(Result::is_ok).count();
        }
        let mut kept = Kept::default();
        count(&files, &mut kept)?;
        if self.made && kept == Kept::default() {
            std::fs::remove_dir_all(&self.directory)?;
        }
        Ok(kept)
    }
}

/// The pod's directories over which there was an overlay, those below before those above.
fn places(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut places = Vec::new();
    for entry in std::fs::read_dir(directory.join(WORK))? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().ends_with(PLACE.as_bytes()) {
            places.push(PathBuf::from(OsString::from_vec(std::fs::read(entry.path())?)));
        }
    }
    places.sort();
    places.reverse();
    Ok(places)
}

/// The kernel leaves directories there that not even their owner may read.
fn clear_work(directory: &Path) -> io::Result<()> {
    let work = directory.join(WORK);
    let Ok(mounts) = std::fs::read_dir(&work) else {
        return Ok(());
    };
    for mount in mounts {
        let mount = mount?;
        if !mount.file_type()?.is_dir() {
            continue;
        }
        for inner in std::fs::read_dir(mount.path())? {
            std::fs::set_permissions(inner?.path(), std::fs::Permissions::from_mode(0o700))?;
        }
    }
    std::fs::remove_dir_all(work)
}

fn count(directory: &Path, kept: &mut Kept) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            let before = *kept;
            count(&entry.path(), kept)?;
            // Made by the app, or another mode of it.
            kept.changed += u64::from(*kept == before);
        } else if is_removed(&metadata) {
            kept.removed += 1;
        } else {
            kept.changed += 1;
        }
    }
    Ok(())
}

fn is_removed(metadata: &Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_sessions_and_goes_when_nothing_was_changed() {
        let base = tempfile::tempdir().unwrap();
        let directory = base.path().join("a/b");
        let changes = open(&directory).unwrap();
        assert_eq!(open(&directory).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        std::fs::create_dir_all(directory.join("work/1/work")).unwrap();
        std::fs::write(directory.join("work/1.place"), "/data").unwrap();
        std::fs::write(directory.join("work/2.place"), "/data/deep/er").unwrap();
        std::fs::create_dir_all(directory.join("files/data/deep/er")).unwrap();
        assert_eq!(changes.close().unwrap(), Kept::default());
        assert!(!directory.exists());

        let changes = open(&directory).unwrap();
        std::fs::create_dir_all(directory.join("files/data/new")).unwrap();
        std::fs::write(directory.join("files/data/one"), "").unwrap();
        assert_eq!(changes.close().unwrap().changed, 2);
        assert!(!directory.join("work").exists());
        // What was there before stays.
        std::fs::remove_dir_all(directory.join("files/data")).unwrap();
        assert_eq!(open(&directory).unwrap().close().unwrap(), Kept::default());
        assert!(directory.exists());
    }
}
