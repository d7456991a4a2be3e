//! One `inpod exec` from its start to its end.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use playground::Playground;

use crate::{Ended, Session, inpod, testbed};

/// What to run, and where.
#[derive(Debug)]
pub struct Run {
    command: Command,
    stdin: Option<Vec<u8>>,
}

impl Run {
    /// At a target of the cluster, as the plain user, without incoming traffic.
    #[must_use]
    pub fn at(target: &str) -> Self {
        Self::plain(target).flags(&["--no-incoming"])
    }

    /// At a target of the cluster, as the plain user.
    #[must_use]
    pub fn plain(target: &str) -> Self {
        let mut command = cluster(&["exec", "-t", target]);
        // What the tests' own caller has set is none of the app's.
        command.env_remove("RUST_BACKTRACE");
        Self { command, stdin: None }
    }

    /// In a playground, without incoming traffic.
    #[must_use]
    pub fn inside(playground: &Playground) -> Self {
        Self::by(inpod(&[]), &format!("process/{}", playground.pid())).flags(&["--no-incoming"])
    }

    /// By another executable than the one under test's usual place, or as another user: the command up to `exec`'s flags.
    #[must_use]
    pub fn by(mut command: Command, target: &str) -> Self {
        command.args(["exec", "-t", target]);
        Self { command, stdin: None }
    }

    /// Flags of `inpod exec`.
    #[must_use]
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.command.args(flags);
        self
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    #[must_use]
    pub fn directory(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    #[must_use]
    pub fn stdin(mut self, bytes: &[u8]) -> Self {
        self.stdin = Some(bytes.to_vec());
        self
    }

    /// Runs a program to its end.
    ///
    /// # Panics
    /// When it does not end.
    #[must_use]
    pub fn run(self, program: &[&str]) -> Ended {
        let (stdin, session) = self.spawn(program);
        if let Some((bytes, mut pipe)) = stdin {
            pipe.write_all(&bytes).expect("the app reads its input");
        }
        session.wait()
    }

    /// Starts a program.
    ///
    /// # Panics
    /// When there is input: that needs the end.
    #[must_use]
    pub fn start(self, program: &[&str]) -> Session {
        assert!(self.stdin.is_none(), "input is given by run()");
        self.spawn(program).1
    }

    fn spawn(mut self, program: &[&str]) -> (Option<(Vec<u8>, std::process::ChildStdin)>, Session) {
        self.command.arg("--").args(program);
        if self.stdin.is_some() {
            self.command.stdin(Stdio::piped());
        }
        let mut session = Session::spawn(self.command);
        let pipe = self
            .stdin
            .map(|bytes| (bytes, session.take_stdin().expect("it is a pipe")));
        (pipe, session)
    }
}

impl Ended {
    /// What it printed, when it ended well.
    ///
    /// # Panics
    /// When it did not.
    #[must_use]
    pub fn ok(self) -> String {
        assert_eq!(self.code(), 0, "{}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// The printed lines, when it ended well.
    #[must_use]
    pub fn lines(self) -> Vec<String> {
        self.ok().lines().map(str::to_owned).collect()
    }
}

/// `inpod` with arguments, as the plain user of the cluster, with a target and settings of nobody else.
#[must_use]
pub fn cluster(arguments: &[&str]) -> Command {
    let mut command = inpod(arguments);
    command.env("KUBECONFIG", testbed().user_kubeconfig());
    command
}

/// A directory that everyone can enter, which other users get copies of programs in. Removed when dropped.
#[derive(Debug)]
pub struct Public(tempfile::TempDir);

impl Public {
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).expect("it is ours");
        Self(directory)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Copies a program, and gives its new place.
    ///
    /// # Panics
    /// When it cannot be copied.
    #[must_use]
    pub fn copy(&self, program: &Path) -> PathBuf {
        let name = program.file_name().expect("a file");
        let copy = self.path().join(name);
        fixture::program(program, &copy);
        copy
    }
}

impl Default for Public {
    fn default() -> Self {
        Self::new()
    }
}
