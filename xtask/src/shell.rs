//! Running other programs, and saying what is being done.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// One line for the person who runs xtask.
#[allow(clippy::print_stderr, reason = "xtask talks to a person")]
pub fn say(line: &str) {
    eprintln!("{line}");
}

/// The checkout's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the checkout")
        .to_owned()
}

/// A cargo command in the checkout.
pub fn cargo<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(arguments: I) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// Runs it to its end.
///
/// # Errors
/// When it cannot be started or fails, in words that name it.
pub fn run(command: &mut Command) -> Result<(), String> {
    let status = command
        .status()
        .map_err(|error| format!("cannot run {}: {error}", words(command)))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{} failed: {status}", words(command)))
    }
}

/// Runs one step of a longer job and says how long it took.
///
/// # Errors
/// The step's own, with its name.
pub fn step<T>(name: &str, work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    say(&format!("==> {name}"));
    let begun = Instant::now();
    let done = work().map_err(|error| format!("{name}: {error}"))?;
    say(&format!("<== {name}: {:.1} s", begun.elapsed().as_secs_f64()));
    Ok(done)
}

/// The command as one would type it.
pub fn words(command: &Command) -> String {
    let mut words = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        words.push(' ');
        words.push_str(&argument.to_string_lossy());
    }
    words
}
