//! What a test program says: its output is shown as it comes, and the names of the tests that failed are kept.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::shell::words;

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    /// The tests that failed, by name: at least one.
    Failed(Vec<String>),
}

/// Runs a test program to its end.
///
/// # Errors
/// When it cannot be started, or fails without naming a test.
pub fn run(command: &mut Command) -> Result<Verdict, String> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run {}: {error}", words(command)))?;
    let said = child.stdout.take().map(shown);
    let status = child.wait().map_err(|error| error.to_string())?;
    let said = said.as_ref().map(rest).unwrap_or_default();
    if status.success() {
        return Ok(Verdict::Passed);
    }
    match failures(&said) {
        tests if tests.is_empty() => Err(format!("{} failed: {status}", words(command))),
        tests => Ok(Verdict::Failed(tests)),
    }
}

/// Shows what is said, and passes it on.
#[allow(clippy::print_stdout, reason = "xtask talks to a person")]
fn shown(output: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (lines, said) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            println!("{line}");
            let _ = lines.send(line);
        }
    });
    said
}

/// All that was said. A process that the tests left behind may hold the output open: it is not waited for.
fn rest(said: &mpsc::Receiver<String>) -> Vec<String> {
    const QUIET: Duration = Duration::from_secs(2);
    let mut lines = Vec::new();
    loop {
        match said.recv_timeout(QUIET) {
            Ok(line) => lines.push(line),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return lines,
        }
    }
}

/// The names in the last list that is headed `failures:`, as libtest and libtest-mimic print it.
fn failures(lines: &[String]) -> Vec<String> {
    let Some(head) = lines.iter().rposition(|line| line == "failures:") else {
        return Vec::new();
    };
    let names = lines[head + 1..].iter().skip_while(|line| line.is_empty());
    names
        .map_while(|line| line.strip_prefix("    "))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{Verdict, run};

    fn sh(script: &str) -> Result<Verdict, String> {
        run(Command::new("sh").args(["-c", script]))
    }

    #[test]
    fn failed_tests_are_known_by_name() {
        let output = "failures:\n\n---- one::a stdout ----\nfailures:\n    not this\n\nfailures:\n    one::a\n    b\n\ntest result: FAILED.";
        let failed = ["one::a", "b"].map(str::to_owned).to_vec();
        assert_eq!(sh(&format!("printf '{output}'; exit 101")), Ok(Verdict::Failed(failed)));
        assert_eq!(sh("printf 'failures:\n    a\n'"), Ok(Verdict::Passed));
        assert!(
            sh("echo 'test a ... ok'; kill -9 $$")
                .unwrap_err()
                .contains("signal: 9")
        );
    }

    #[test]
    fn a_process_left_behind_is_not_waited_for() {
        let verdict = sh("sleep 5 & printf 'failures:\n    a\n'; exit 1");
        assert_eq!(verdict, Ok(Verdict::Failed(vec!["a".to_owned()])));
    }
}
