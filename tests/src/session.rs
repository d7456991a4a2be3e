//! A running `inpod exec`, its output in files, its events as they come.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;

use crate::{PATIENCE, inpod, scratch, wait_until};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Ended when dropped.
#[derive(Debug)]
pub struct Session {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    /// inpod's own words and the app's.
    pub stderr: String,
}

impl Session {
    /// `inpod exec -t TARGET FLAGS -- PROGRAM`, with events as JSON lines on stderr.
    #[must_use]
    pub fn start(target: &str, flags: &[&str], program: &[&str]) -> Self {
        let mut command = inpod(&["exec", "-t", target, "--json", "-v"]);
        command.args(flags).arg("--").args(program);
        Self::spawn(command)
    }

    /// Any command of inpod's.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn spawn(mut command: Command) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let (stdout, stderr) = (scratch(&format!("{number}.out")), scratch(&format!("{number}.err")));
        let create = |path: &PathBuf| File::create(path).expect("target/tests can be written");
        let child = command
            .stdout(create(&stdout))
            .stderr(create(&stderr))
            .spawn()
            .expect("inpod can be started");
        Self { child, stdout, stderr }
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard input, when that is a pipe.
    pub fn take_stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    #[must_use]
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    #[must_use]
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// The events of one kind so far (`--json`).
    #[must_use]
    pub fn events(&self, kind: &str) -> Vec<serde_json::Value> {
        events(&self.stderr(), kind)
    }

    /// # Panics
    /// When the text does not come, or the session ends first.
    pub fn wait_for_stdout(&mut self, text: &str) {
        self.wait_for(text, |session| session.stdout().contains(text));
    }

    /// Waits until the port is mirrored or stolen.
    ///
    /// # Panics
    /// When it is refused or the session ends first.
    pub fn wait_for_claim(&mut self, port: u16) {
        self.wait_for(&format!("the claim of port {port}"), |session| {
            let refused = session.events("claim-refused");
            assert!(refused.is_empty(), "{refused:?}");
            session.events("claimed").iter().any(|event| event["port"] == port)
        });
    }

    fn wait_for(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        wait_until(what, || {
            if holds(self) {
                return true;
            }
            let ended = self.child.try_wait().expect("a child can be waited for");
            // What was written last may come with the end.
            assert!(
                ended.is_none() || holds(self),
                "ended ({ended:?}) before {what}:\n{}{}",
                self.stdout(),
                self.stderr()
            );
            false
        });
    }

    /// How it ended, if it has.
    pub fn ended_early(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends a signal to inpod itself.
    pub fn signal(&self, signal: Signal) {
        let _ = crate::processes::signal(self.child.id(), signal);
    }

    /// Waits for its own end.
    ///
    /// # Panics
    /// When it does not end.
    #[must_use]
    pub fn wait(mut self) -> Ended {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let status = self.child.try_wait().expect("a child can be waited for");
            let (stdout, stderr) = (self.stdout(), self.stderr());
            if let Some(status) = status {
                return Ended { status, stdout, stderr };
            }
            assert!(
                std::time::Instant::now() < deadline,
                "waited {} s for its end; it printed:\n{stdout}{stderr}",
                PATIENCE.as_secs()
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Ends it as Ctrl-C in another terminal would.
    #[must_use]
    pub fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        self.wait()
    }
}

impl Ended {
    /// The events of one kind (`--json`).
    #[must_use]
    pub fn events(&self, kind: &str) -> Vec<serde_json::Value> {
        events(&self.stderr, kind)
    }

    /// The exit code; 128+n for a signal that ended inpod itself.
    #[must_use]
    pub fn code(&self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        self.status
            .code()
            .or_else(|| self.status.signal().map(|signal| 128 + signal))
            .unwrap_or(-1)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::TERM);
            let deadline = std::time::Instant::now() + PATIENCE / 4;
            while matches!(self.child.try_wait(), Ok(None)) {
                if std::time::Instant::now() > deadline {
                    let _ = self.child.kill();
                    let _ = self.child.wait();
                    return;
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    }
}

fn events(lines: &str, kind: &str) -> Vec<serde_json::Value> {
    let events = lines
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    events.filter(|event| event["event"] == kind).collect()
}

fn read(path: &PathBuf) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}
