//! What a person writes (a file, variables, flags) becomes one immutable [`Resolved`], with a [`rules::Plan`] in it.
//!
//! Parse, then resolve: a file of any of the three formats becomes one tree with positions ([`parse`]), variables and flags
//! become the same kind of tree, and the table [`KEYS`] reads all of them in the order file, variables, flags: a later
//! one replaces an earlier one, key by key; lists are replaced as a whole.
//!
//! Invariant: the environment, the working directory and the user are read once, in [`Input::here`]; behind it everything
//! is a function of its input and of the one file.

mod error;
mod file;
mod flags;
mod key;
mod parse;
mod reader;
mod reference;
mod resolve;
mod source;
mod suggest;
mod value;
mod variable;

pub use error::{Error, Problem};
pub use file::{MAX_FILE_BYTES, NAMES};
pub use flags::Flags;
pub use key::{KEYS, Key, Takes};
pub use parse::{MAX_DEPTH, fuzz_json, fuzz_toml, fuzz_yaml};
pub use reference::reference;
pub use resolve::{AgentSettings, EngineChoice, LogLevel, Resolved, load};
pub use source::Origin;
pub use variable::FILE_VARIABLE;

use std::ffi::OsString;
use std::path::PathBuf;

/// Everything the result depends on but the file's text.
#[derive(Debug, Clone, Default)]
pub struct Input {
    pub flags: Flags,
    pub variables: Vec<(OsString, OsString)>,
    /// Absolute; files are looked for from here upwards.
    pub working_directory: PathBuf,
    pub home: Option<PathBuf>,
    /// The user this runs as: a file that was found (not named) must belong to them or to root.
    pub user: u32,
}

impl Input {
    /// The input of this process.
    ///
    /// # Errors
    /// When the working directory is gone.
    pub fn here(flags: Flags) -> Result<Self, Error> {
        let variables: Vec<_> = std::env::vars_os().collect();
        let home = variables
            .iter()
            .find(|(name, value)| name == "HOME" && !value.is_empty());
        Ok(Self {
            flags,
            home: home
                .map(|(_, value)| PathBuf::from(value))
                .filter(|home| home.is_absolute()),
            working_directory: std::env::current_dir().map_err(Error::WorkingDirectory)?,
            user: rustix::process::geteuid().as_raw(),
            variables,
        })
    }
}
