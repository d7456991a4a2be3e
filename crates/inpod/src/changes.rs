//! File mode `write-local`: the directory in which a session's changes of the pod's files are kept.

use std::ffi::OsString;
use std::path::PathBuf;

use guest::event::Event;
use rules::FileMode;
use view::Backend;
use view::changes::{Changes, Kept};

use crate::error::{CliError, Kind};
use crate::report::Report;
use crate::variables;

/// Makes it ready, where the mode asks for it.
///
/// # Errors
/// When this machine cannot keep changes, or the directory cannot be used.
pub fn open(
    resolved: &config::Resolved,
    backend: &Backend,
    variables: &[(OsString, OsString)],
) -> Result<Option<Changes>, CliError> {
    if resolved.plan.files.mode != FileMode::WriteLocal {
        return Ok(None);
    }
    if !matches!(backend, Backend::Namespace { .. }) {
        return Err(refused(
            format!("files.mode is write-local, which needs a mount namespace, but here: {backend}"),
            "`inpod doctor` says what is missing; mode read works as it is",
        ));
    }
    let directory = match &resolved.changes {
        Some(directory) => directory.clone(),
        None => of_this_session(variables)?,
    };
    view::changes::open(&directory)
        .map(Some)
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => refused(
                format!("{} has the changes of a session that still runs", directory.display()),
                "end that session, or give this one another directory (files.changes)",
            ),
            _ => refused(
                format!("changes cannot be kept in {}: {error}", directory.display()),
                "files.changes names another directory",
            ),
        })
}

/// Tells what was kept, and where.
pub fn close(changes: Changes, report: &Report) {
    let directory = changes.directory().to_owned();
    match changes.close() {
        Ok(Kept { changed: 0, removed: 0 }) => {}
        Ok(Kept { changed, removed }) => report.event(&Event::Kept {
            directory: directory.display().to_string(),
            changed,
            removed,
        }),
        Err(error) => report.event(&Event::Warning {
            message: format!(
                "{}, which has what the program wrote, is left as it is: {error}",
                directory.display()
            ),
        }),
    }
}

/// A directory that no session had before.
fn of_this_session(variables: &[(OsString, OsString)]) -> Result<PathBuf, CliError> {
    let named = |name| variables::directory(variables, name);
    let state = named("XDG_STATE_HOME").or_else(|| named("HOME").map(|home| home.join(".local/state")));
    let state = state.ok_or_else(|| {
        refused(
            "there is no place for the changes: neither XDG_STATE_HOME nor HOME is set".to_owned(),
            "files.changes names a directory",
        )
    })?;
    let seconds = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default()
        .as_secs();
    Ok(state
        .join("inpod/changes")
        .join(format!("{seconds}-{}", std::process::id())))
}

fn refused(message: String, hint: &str) -> CliError {
    CliError {
        kind: Kind::Machine,
        message,
        causes: Vec::new(),
        hints: vec![hint.to_owned()],
    }
}
