//! Configuration, from the outside: what is written, and what comes of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod errors;
mod files;
mod layers;
mod limits;
mod reference;
mod values;

use std::path::Path;

use config::{Error, Flags, Input, Resolved, load};

/// A directory with one file in it, and the result of reading it from there.
pub fn read(name: &str, text: &[u8]) -> Result<Resolved, Error> {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(name), text).unwrap();
    load(&input(directory.path()))
}

pub fn input(directory: &Path) -> Input {
    Input {
        working_directory: directory.to_owned(),
        home: Some("/home/me".into()),
        user: std::os::unix::fs::MetadataExt::uid(&directory.metadata().unwrap()),
        ..Input::default()
    }
}

pub fn with_flags(flags: Flags) -> Input {
    Input {
        flags,
        working_directory: "/nowhere/at/all".into(),
        home: Some("/home/me".into()),
        ..Input::default()
    }
}

/// The error of a file, as it is shown.
pub fn error(name: &str, text: &str) -> String {
    match read(name, text.as_bytes()) {
        Ok(_) => "no error".to_owned(),
        Err(error) => error.to_string(),
    }
}
