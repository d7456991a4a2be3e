//! Runs guest programs under `trap-stand`, against small servers of this process.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test binary uses its part; tests fail loudly"
)]

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Far beyond anything that works.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Which engine the guests run under: `trap` (the default), `trap+layer` or `layer`, which `cargo xtask test` tries in turn.
pub fn engine() -> String {
    std::env::var("INPOD_ENGINE").unwrap_or_else(|_| "trap".to_owned())
}

/// Whether there is no filter, so that only programs which the layer can enter are served.
pub fn is_layer_alone() -> bool {
    engine() == "layer"
}

pub struct Stand {
    pub directory: tempfile::TempDir,
    options: Vec<String>,
    environment: Vec<(String, String)>,
}

pub struct Ran {
    pub status: i32,
    pub out: String,
    pub err: String,
    /// Events and what the server saw.
    pub events: String,
}

impl Ran {
    /// The output's lines, after a check that the guest ended well.
    #[track_caller]
    pub fn lines(&self) -> Vec<&str> {
        assert_eq!(self.status, 0, "{}", self.all());
        self.out.lines().collect()
    }

    pub fn all(&self) -> String {
        format!("status {}\n{}\n{}\n{}", self.status, self.out, self.err, self.events)
    }
}

impl Stand {
    pub fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            options: vec!["--engine".to_owned(), engine()],
            environment: Vec::new(),
        }
    }

    pub fn option(mut self, name: &str, value: impl Into<String>) -> Self {
        self.options.extend([name.to_owned(), value.into()]);
        self
    }

    pub fn flag(mut self, name: &str) -> Self {
        self.options.push(name.to_owned());
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn map(self, remote: &str, local: SocketAddr) -> Self {
        self.option("--map", format!("{remote}={local}"))
    }

    pub fn events_path(&self) -> PathBuf {
        self.directory.path().join("events")
    }

    pub fn command(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trap-stand"));
        command
            .args(&self.options)
            .arg("--events")
            .arg(self.events_path())
            .arg("--")
            .arg(program)
            .args(arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// A static program: served, or under the layer alone refused by name (`None`).
    #[track_caller]
    pub fn run_static(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> Option<Ran> {
        let ran = self.run(&program, arguments);
        if !is_layer_alone() {
            return Some(ran);
        }
        assert_ne!(ran.status, 0, "{}", ran.all());
        let said = format!("{} was refused: it is statically linked", program.as_ref().display());
        assert!(ran.err.contains(&said) && ran.err.contains("process "), "{}", ran.all());
        None
    }

    #[track_caller]
    pub fn run(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> Ran {
        let mut command = self.command(program, arguments);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        self.finish(child)
    }

    /// Waits for the stand; past the deadline it is killed and the test fails with all there is to see.
    #[track_caller]
    pub fn finish(&self, child: std::process::Child) -> Ran {
        let id = child.id();
        let (done, waits) = std::sync::mpsc::channel::<()>();
        let watch = std::thread::spawn(move || {
            if waits.recv_timeout(DEADLINE).is_err() {
                let _ = Command::new("kill").args(["-9", &id.to_string()]).status();
                return true;
            }
            false
        });
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        let _ = done.send(());
        let late = watch.join().unwrap();
        let ran = Ran {
            status: status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&stdout).into_owned(),
            err: String::from_utf8_lossy(&stderr).into_owned(),
            events: std::fs::read_to_string(self.events_path()).unwrap_or_default(),
        };
        assert!(!late, "the guest hangs\n{}", ran.all());
        ran
    }

    /// As a user without rights: on a copy of the stand, because the build tree may lie in a closed home.
    #[track_caller]
    pub fn run_unprivileged(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> Ran {
        const NOBODY: u32 = 65_534;
        assert!(
            rustix::process::geteuid().is_root(),
            "this test drops root's rights, so it needs them"
        );
        let copy = self.directory.path().join("trap-stand");
        fixture::program(Path::new(env!("CARGO_BIN_EXE_trap-stand")), &copy);
        for path in [self.directory.path(), &copy] {
            std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let command = self.command(program, arguments);
        let mut run = Command::new(copy);
        run.args(command.get_args())
            .uid(NOBODY)
            .gid(NOBODY)
            .current_dir(self.directory.path());
        let child = run
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        self.finish(child)
    }

    #[track_caller]
    pub fn python(&self, code: &str, arguments: &[&str]) -> Ran {
        let script = self.directory.path().join("guest.py");
        std::fs::write(&script, code).unwrap();
        let mut all = vec![script.to_str().unwrap()];
        all.extend(arguments);
        self.run(python(), &all)
    }
}

/// A tree that stands for the pod's, and both views of it; `/data` is remote.
pub fn views() -> Vec<(&'static str, Stand)> {
    ["translated", "copy"]
        .into_iter()
        .map(|view| {
            let stand = Stand::new();
            let pod = stand.directory.path().join("pod");
            let data = pod.join("data/deep/er");
            std::fs::create_dir_all(&data).unwrap();
            std::fs::write(pod.join("data/config"), "from the pod\n").unwrap();
            std::fs::write(data.join("file"), "deep\n").unwrap();
            std::os::unix::fs::symlink("/data/config", pod.join("data/absolute")).unwrap();
            std::os::unix::fs::symlink("deep/er/file", pod.join("data/relative")).unwrap();
            std::os::unix::fs::symlink("../../../../../../../../etc/passwd", pod.join("data/escape")).unwrap();
            std::os::unix::fs::symlink("deep/er", pod.join("data/linked")).unwrap();
            let local = stand.directory.path().join("local");
            std::fs::create_dir(&local).unwrap();
            std::os::unix::fs::symlink("/data", local.join("link")).unwrap();
            let stand = stand.option("--remote-path", "/data");
            let cache: PathBuf = stand.directory.path().join("cache");
            let stand = match view {
                "translated" => stand.option("--translated", pod.to_str().unwrap()),
                _ => stand.option("--copy", format!("{}={}", pod.display(), cache.display())),
            };
            (view, stand)
        })
        .collect()
}

/// The interpreter itself: shims in the PATH are shell scripts.
pub fn python() -> String {
    let asked = Command::new("python3")
        .args(["-c", "import sys; print(sys.executable)"])
        .output()
        .unwrap();
    String::from_utf8(asked.stdout).unwrap().trim().to_owned()
}

/// Builds `tests/guests/NAME.c`.
#[track_caller]
pub fn c(name: &str, directory: &Path, flags: &[&str]) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/guests")
        .join(name)
        .with_extension("c");
    let program = directory.join(name);
    let built = Command::new("gcc")
        .args(["-O1", "-pthread", "-o"])
        .arg(&program)
        .arg(source)
        .args(flags)
        .status()
        .unwrap();
    assert!(built.success(), "gcc is needed, with static libc");
    program
}

/// Builds `tests/guests/NAME.go` as a static program.
#[track_caller]
pub fn go(name: &str, directory: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/guests")
        .join(name)
        .with_extension("go");
    let program = directory.join(format!("{name}-go"));
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(source)
        .env("CGO_ENABLED", "0")
        .status()
        .unwrap();
    assert!(built.success(), "go is needed");
    program
}

/// Echoes every connection's bytes.
pub fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 65_536];
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..length]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

/// Answers each datagram with itself.
pub fn udp_echo() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
    address
}

/// Waits until `ready` says so.
#[track_caller]
pub fn until(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !ready() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::yield_now();
        std::thread::sleep(Duration::from_millis(5));
    }
}
