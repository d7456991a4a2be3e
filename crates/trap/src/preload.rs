//! The layer's file for one session: a copy with the session's facts in it.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use guest::image::{Facts, LayerFileError};
use rustix::fs::StatVfsMountFlags;

/// The file's name; `LD_PRELOAD` separates by colons and spaces, so the directory must have neither.
pub const NAME: &str = "libinpod_layer.so";

/// Why there is no layer.
#[derive(Debug, thiserror::Error)]
pub enum PreloadError {
    #[error(transparent)]
    Layer(#[from] LayerFileError),
    #[error("cannot write the layer to {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is mounted noexec, so no library can be loaded from there: point TMPDIR elsewhere", .0.display())]
    NoExec(PathBuf),
    #[error("the loader takes no library from {}: LD_PRELOAD separates by colons and spaces", .0.display())]
    Separator(PathBuf),
}

/// Writes the layer into `directory`, readable for everyone: programs that drop privileges load it too.
///
/// # Errors
/// [`PreloadError`].
pub fn write(library: &[u8], directory: &Path, facts: &Facts<'_>) -> Result<PathBuf, PreloadError> {
    let path = directory.join(NAME);
    let has_separator = path
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .any(|byte| b": \t\n".contains(byte));
    if has_separator {
        return Err(PreloadError::Separator(path));
    }
    let mounted = rustix::fs::statvfs(directory).map(|about| about.f_flag);
    if mounted.is_ok_and(|flags| flags.contains(StatVfsMountFlags::NOEXEC)) {
        return Err(PreloadError::NoExec(directory.to_owned()));
    }
    let mut library = library.to_vec();
    guest::image::fill(
        &mut library,
        &Facts {
            preload: &path,
            ..facts.clone()
        },
    )?;
    let mut open = OpenOptions::new();
    open.write(true).create_new(true).mode(0o755);
    open.open(&path)
        .and_then(|mut file| file.write_all(&library))
        .map_err(|source| PreloadError::Write {
            path: path.clone(),
            source,
        })?;
    Ok(path)
}

/// The variable with the layer behind what the app has there already: a library such as ASan's wants to be first.
pub(crate) fn variable(present: Option<&std::ffi::OsStr>, layer: &Path) -> std::ffi::OsString {
    match present.filter(|present| !present.is_empty()) {
        Some(present) => {
            let mut both = present.to_owned();
            both.push(":");
            both.push(layer);
            both
        }
        None => layer.as_os_str().to_owned(),
    }
}
