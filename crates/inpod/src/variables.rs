//! The environment that inpod was started with.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// The value of a variable.
pub fn value<'a>(variables: &'a [(OsString, OsString)], wanted: &str) -> Option<&'a OsStr> {
    let found = variables.iter().find(|(name, _)| name == wanted);
    found.map(|(_, value)| value.as_os_str())
}

/// A directory that a variable names. What is no absolute path is to be ignored (XDG Base Directory Specification).
pub fn directory(variables: &[(OsString, OsString)], wanted: &str) -> Option<PathBuf> {
    value(variables, wanted)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}
