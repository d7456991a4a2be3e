//! Running the guest, alone or in a session, and reading what it says.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::iter;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Bench;

/// When a run counts as hung.
const PATIENCE: Duration = Duration::from_secs(180);

/// The guest's numbers, and inpod's phases in milliseconds, in their order.
#[derive(Debug, Default)]
pub(super) struct Said {
    numbers: BTreeMap<String, f64>,
    pub(super) phases: Vec<(String, f64)>,
}

impl Said {
    /// # Errors
    /// When it was not said.
    pub(super) fn number(&self, name: &str) -> Result<f64, String> {
        self.numbers
            .get(name)
            .copied()
            .ok_or_else(|| format!("`{name}` was not measured: {:?}", self.numbers))
    }
}

impl Bench {
    /// `inpod exec -t TARGET -- bench-guest WORDS` as the plain user of the testbed.
    pub(super) fn session(&self, target: &str, words: &[&str]) -> Command {
        self.session_by("auto", target, words)
    }

    /// The same by an engine.
    pub(super) fn session_by(&self, engine: &str, target: &str, words: &[&str]) -> Command {
        let guest = self.guest.as_os_str();
        let words: Vec<&OsStr> = iter::once(guest).chain(words.iter().map(OsStr::new)).collect();
        self.inpod(engine, target, &words)
    }

    /// Another program in a session.
    pub(super) fn program(&self, target: &str, words: &[&str]) -> Command {
        let words: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
        self.inpod("auto", target, &words)
    }

    fn inpod(&self, engine: &str, target: &str, words: &[&OsStr]) -> Command {
        let mut command = Command::new(&self.inpod);
        command
            .args([
                "exec",
                "-t",
                target,
                "--no-incoming",
                "-v",
                "--json",
                "--engine",
                engine,
                "--",
            ])
            .args(words);
        self.as_user(&mut command);
        command
    }

    /// A session whose app is a shell's, which takes incoming traffic as `flags` say.
    pub(super) fn server(&self, target: &str, flags: &[&str], script: &str) -> Command {
        let mut command = Command::new(&self.inpod);
        command.args(["exec", "-t", target, "--json"]).args(flags);
        command.args(["--", "sh", "-c", script]);
        self.as_user(&mut command);
        command
    }

    /// By the rights of the testbed's plain user.
    fn as_user(&self, command: &mut Command) {
        if let Some(testbed) = &self.testbed {
            command.env("KUBECONFIG", testbed.user_kubeconfig());
        }
    }

    pub(super) fn guest(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.guest);
        command.args(words);
        command
    }

    pub(super) fn bare(&self, pod: &testbed::Pod, words: &[&str]) -> Command {
        let mut command = Command::new(&self.bare);
        command.args([&pod.namespace, &pod.name]).args(words);
        self.as_user(&mut command);
        command
    }
}

/// Asked to end, and waited for, when dropped.
pub(super) struct Running(pub(super) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

/// Runs it to its end and reads what it said.
///
/// # Errors
/// When it fails or hangs, with its own words.
pub(super) fn listen(command: &mut Command) -> Result<Said, String> {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run {shown}: {error}"))?;
    let (out, err) = (reader(child.stdout.take()), reader(child.stderr.take()));
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break Some(status),
            None if Instant::now() > deadline => break None,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let Some(status) = status else {
        // The guest is inpod's child and ends with it.
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM);
        let _ = child.wait();
        return Err(format!("{shown} did not end within {PATIENCE:?}"));
    };
    let join = |text: std::thread::JoinHandle<String>| text.join().unwrap_or_default();
    let (out, err) = (join(out), join(err));
    if !status.success() {
        return Err(format!("{shown} failed ({status}):\n{out}{err}"));
    }
    Ok(Said {
        numbers: out.lines().filter_map(pair).collect(),
        phases: err.lines().filter_map(phase).collect(),
    })
}

fn reader(from: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        if let Some(mut from) = from {
            // What is no text is no number either.
            let _ = from.read_to_string(&mut text);
        }
        text
    })
}

fn pair(line: &str) -> Option<(String, f64)> {
    let (name, value) = line.split_once(' ')?;
    Some((name.to_owned(), value.parse().ok()?))
}

fn phase(line: &str) -> Option<(String, f64)> {
    let event: serde_json::Value = serde_json::from_str(line).ok()?;
    let took = event["milliseconds"].as_f64()?;
    (event["event"] == "phase").then(|| (event["name"].as_str().unwrap_or_default().to_owned(), took))
}

/// CLOCK_MONOTONIC in seconds, as the guest says it.
#[allow(clippy::cast_precision_loss, reason = "microseconds matter, not more")]
pub(super) fn now() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// A file that is this machine's in every session: it lies in the working directory.
pub(super) fn local_file(name: &str) -> Result<std::path::PathBuf, String> {
    let directory: &Path = &crate::shell::root().join("target/bench");
    let file = directory.join(name);
    std::fs::create_dir_all(directory)
        .and_then(|()| std::fs::write(&file, "a few bytes\n"))
        .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    Ok(file)
}
