//! Finding and reading the one file.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::{Error, Input};

/// Names that are looked for, in each directory from the working directory upwards.
pub const NAMES: [&str; 5] = ["inpod.toml", "inpod.json", "inpod.jsonc", "inpod.yaml", "inpod.yml"];
/// The largest file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// The file that counts: the named one, or the one in the nearest directory up to home (or `/`, outside of home).
pub(crate) fn find(input: &Input, named: Option<&Path>) -> Result<Option<PathBuf>, Error> {
    if let Some(path) = named {
        return Ok(Some(input.working_directory.join(path)));
    }
    for directory in input.working_directory.ancestors() {
        let present = |name: &&str| directory.join(name).symlink_metadata().is_ok();
        let files: Vec<_> = NAMES.into_iter().filter(|name| present(name)).collect();
        match files[..] {
            [] if Some(directory) == input.home.as_deref() => return Ok(None),
            [] => {}
            [name] => {
                let path = directory.join(name);
                trusted(&path, input.user)?;
                return Ok(Some(path));
            }
            _ => {
                return Err(Error::Several {
                    directory: directory.to_owned(),
                    files,
                });
            }
        }
    }
    Ok(None)
}

/// A configuration sets variables of programs, so one that merely lies in a directory above (`/tmp`) must be one's own.
fn trusted(path: &Path, user: u32) -> Result<(), Error> {
    let owner = metadata(path)?.uid();
    if owner == user || owner == 0 {
        Ok(())
    } else {
        Err(Error::Owner {
            path: path.to_owned(),
            owner,
        })
    }
}

/// The file's bytes.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    // Asked before opening: opening a pipe would wait for its writer.
    if !metadata(path)?.is_file() {
        return Err(Error::NotAFile { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Error::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}

fn metadata(path: &Path) -> Result<Metadata, Error> {
    path.metadata().map_err(|source| match source.kind() {
        // A directory in the way of the path means the same to a person.
        ErrorKind::NotADirectory => Error::Read {
            path: path.to_owned(),
            source: ErrorKind::NotFound.into(),
        },
        _ => Error::Read {
            path: path.to_owned(),
            source,
        },
    })
}
