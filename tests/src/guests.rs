//! Small guest programs, compiled once from `tests/guests/` into target/guests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::workspace;

static BUILDING: Mutex<()> = Mutex::new(());

/// A C program, dynamic or static.
///
/// # Panics
/// When the compiler refuses.
#[must_use]
pub fn c(name: &str, is_static: bool) -> PathBuf {
    let output = workspace()
        .join("target/guests")
        .join(format!("{name}{}", if is_static { "-static" } else { "" }));
    let mut command = Command::new("gcc");
    command
        .args(["-O1", "-Wall", "-pthread"])
        .args(is_static.then_some("-static"))
        .arg("-o");
    build(&[source(&format!("{name}.c"))], &output, |staged| {
        command.arg(staged).arg(source(&format!("{name}.c")))
    });
    output
}

/// A Go program, static.
///
/// # Panics
/// When the compiler refuses.
#[must_use]
pub fn go(name: &str) -> PathBuf {
    let output = workspace().join("target/guests").join(format!("{name}-go"));
    let mut command = Command::new("go");
    command.args(["build", "-o"]).env("CGO_ENABLED", "0");
    build(&[source(&format!("{name}.go"))], &output, |staged| {
        command.arg(staged).arg(source(&format!("{name}.go")))
    });
    output
}

/// gVisor's `runsc`: two minutes the first time on two cores, nothing afterwards.
///
/// # Panics
/// When it cannot be fetched or built.
#[must_use]
pub fn runsc() -> PathBuf {
    let output = workspace().join("target/guests/runsc");
    let (module, sums) = (source("gvisor/go.mod"), source("gvisor/go.sum"));
    let mut command = Command::new("nice");
    command
        .args(["go", "build", "-buildvcs=false", "-trimpath", "-ldflags=-s -w", "-o"])
        .env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "go1.24.0")
        .current_dir(source("gvisor"));
    build(&[module, sums], &output, |staged| {
        command.arg(staged).arg("gvisor.dev/gvisor/runsc")
    });
    output
}

/// A script, as it lies in the checkout.
#[must_use]
pub fn script(name: &str) -> String {
    source(name).display().to_string()
}

fn source(name: &str) -> PathBuf {
    workspace().join("tests/guests").join(name)
}

/// Builds `output` where it is older than a source, by a command that is told where to put it.
///
/// # Panics
/// When the compiler refuses.
pub fn build<'a>(sources: &[PathBuf], output: &Path, command: impl FnOnce(&Path) -> &'a mut Command) {
    let _one_at_a_time = BUILDING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let modified = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    let is_older = |built| {
        sources
            .iter()
            .all(|source| modified(source).is_some_and(|source| source < built))
    };
    if modified(output).is_some_and(is_older) {
        return;
    }
    std::fs::create_dir_all(output.parent().expect("it has a directory")).expect("target can be written");
    let staged = output.with_extension(format!("{}.new", std::process::id()));
    let command = command(&staged);
    let compiled = command.output().unwrap_or_else(|error| {
        panic!(
            "{}: {error}; `cargo xtask test` installs what is missing",
            command.get_program().display()
        )
    });
    assert!(
        compiled.status.success(),
        "{command:?}\n{}",
        String::from_utf8_lossy(&compiled.stderr)
    );
    // A directory takes the place of an empty one only.
    if output.is_dir() {
        std::fs::remove_dir_all(output).expect("target can be written");
    }
    std::fs::rename(&staged, output).expect("target can be written");
}
