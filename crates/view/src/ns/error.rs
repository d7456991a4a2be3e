//! Why the app's namespace could not be set up.

use std::io;
use std::path::{Path, PathBuf};

/// What was being done, with which path.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}: {source}", path.display())]
pub struct NsError {
    pub doing: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

impl From<NsError> for io::Error {
    fn from(error: NsError) -> Self {
        Self::new(error.source.kind(), error)
    }
}

/// Names what failed.
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str, path: impl AsRef<Path>) -> Result<T, NsError>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, doing: &'static str, path: impl AsRef<Path>) -> Result<T, NsError> {
        self.map_err(|error| NsError {
            doing,
            path: path.as_ref().to_owned(),
            source: error.into(),
        })
    }
}
