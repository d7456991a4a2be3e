//! The scripts run for real, by this machine's sh and by busybox, with a script in the place of the agent.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

/// Stands for the agent: writes down how it was served, and echoes what is attached to it.
const STAND_IN: &str = r#"#!/bin/sh
case "$1" in
  serve) echo "$@" >"${0%/*}/served.new"; mv "${0%/*}/served.new" "${0%/*}/served"
         while [ ! -f "${0%/*}/stop" ]; do sleep 0.02; done ;;
  attach) echo "attached to $3"; exec cat ;;
esac
"#;

/// A shell and what its scripts find first on the path.
struct Shell {
    program: PathBuf,
    tools: tempfile::TempDir,
}

impl Shell {
    fn system() -> Self {
        Self {
            program: "/bin/sh".into(),
            tools: tempfile::tempdir().expect("a directory"),
        }
    }

    fn busybox() -> Self {
        let tools = tempfile::tempdir().expect("a directory");
        let installed = Command::new("busybox")
            .args(["--install", "-s"])
            .arg(tools.path())
            .status();
        let installed = installed.expect("busybox is needed: apt-get install busybox-static");
        assert!(installed.success());
        Self {
            program: tools.path().join("sh"),
            tools,
        }
    }

    fn command(&self, script: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["-c", script, "inpod"])
            .args(arguments)
            .env("PATH", format!("{}:/usr/bin:/bin", self.tools.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

fn both(test: impl Fn(&Shell)) {
    test(&Shell::system());
    test(&Shell::busybox());
}

/// An agent's directory, gone with the test.
struct Place {
    name: String,
}

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            name: format!("inpod-test-{}-{number}", std::process::id()),
        }
    }

    fn path(&self) -> PathBuf {
        Path::new("/tmp").join(&self.name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The agent's stand-in ends by itself when its directory says so.
        let _ = std::fs::write(self.path().join("stop"), "");
        let _ = std::fs::remove_dir_all(self.path());
    }
}

/// A script at work; killed with the test.
struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the shell starts");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, stdin, stdout }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().expect("open").write_all(bytes).expect("taken");
    }

    fn finish(mut self) -> (ExitStatus, String) {
        self.stdin = None;
        let mut said = String::new();
        self.child
            .stderr
            .take()
            .expect("piped")
            .read_to_string(&mut said)
            .expect("text");
        (self.child.wait().expect("it ends"), said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(shell: &Shell, place: &Place) -> Running {
    Running::start(shell.command(RUN, &[&place.name, "0123abcd", "120"]))
}

fn enter(shell: &Shell, place: &Place) -> Running {
    Running::start(shell.command(ENTER, &[&place.name, &STAND_IN.len().to_string()]))
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for the agent to be served and gives it its socket.
fn serve(place: &Place) -> (UnixListener, String) {
    let served = place.path().join("served");
    until("serve", || served.exists());
    let listener = UnixListener::bind(place.path().join("socket")).expect("bound");
    (listener, std::fs::read_to_string(served).expect("read"))
}

#[test]
fn one_session_delivers_and_attaches() {
    both(|shell| {
        let place = Place::new();
        let mut agent = run(shell, &place);
        let mut session = enter(shell, &place);
        assert_eq!(session.line(), DELIVER);
        session.send(STAND_IN.as_bytes());
        assert_eq!(session.line(), DELIVERED);
        let (_socket, served) = serve(&place);
        let socket = place.path().join("socket");
        assert_eq!(
            served.trim(),
            format!(
                "serve --socket {} --target-container 0123abcd --linger 120",
                socket.display()
            )
        );
        assert_eq!(session.line(), ATTACHING);
        assert_eq!(session.line(), format!("attached to {}", socket.display()));
        session.send(b"through\n");
        assert_eq!(session.line(), "through");

        let mut second = enter(shell, &place);
        assert_eq!(second.line(), ATTACHING, "a later session attaches at once");

        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(place.path()).expect("there"));
        assert_eq!(mode & 0o777, 0o700, "nobody else gets near the socket");
        std::fs::write(place.path().join("stop"), "").expect("written");
        assert!(
            agent.child.wait().expect("it ends").success(),
            "the agent took the script's place"
        );
    });
}

#[test]
fn what_can_be_unpacked_is_delivered_packed() {
    both(|shell| {
        let place = Place::new();
        let _agent = run(shell, &place);
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        packed.write_all(STAND_IN.as_bytes()).expect("packed");
        let packed = packed.finish().expect("packed");
        let lengths = [STAND_IN.len(), packed.len()].map(|length| length.to_string());
        let enter = || Running::start(shell.command(ENTER, &[&place.name, &lengths[0], &lengths[1]]));
        let mut cut = enter();
        assert_eq!(cut.line(), DELIVER_PACKED);
        cut.send(&packed[..100]);
        let (status, said) = cut.finish();
        assert_eq!(status.code(), Some(GAVE_UP), "{said}");
        assert!(said.contains("inpod: unpacking the agent"), "{said}");
        assert!(!place.path().join("agent").exists(), "half an agent is none");
        let mut session = enter();
        assert_eq!(session.line(), WAIT);
        assert_eq!(session.line(), DELIVER_PACKED);
        session.send(&packed);
        assert_eq!(session.line(), DELIVERED);
        let delivered = std::fs::read(place.path().join("agent")).expect("there");
        assert_eq!(delivered, STAND_IN.as_bytes());
        let _socket = serve(&place);
        assert_eq!(session.line(), ATTACHING);
    });
}

#[test]
fn who_looks_attaches_only_where_an_agent_serves() {
    both(|shell| {
        let place = Place::new();
        let look = || Running::start(shell.command(ATTACH, &[&place.name]));
        let nobody = || {
            let mut look = look();
            assert_eq!(look.line(), NOBODY);
            assert!(look.finish().0.success());
        };
        nobody();
        let _agent = run(shell, &place);
        until("it is ready", || place.path().join("ready").exists());
        nobody();
        let mut session = enter(shell, &place);
        assert_eq!(session.line(), DELIVER);
        nobody();
        session.send(STAND_IN.as_bytes());
        assert_eq!(session.line(), DELIVERED);
        let _socket = serve(&place);
        let mut look = look();
        assert_eq!(look.line(), ATTACHING);
        assert_eq!(
            look.line(),
            format!("attached to {}", place.path().join("socket").display())
        );
    });
}

#[test]
fn of_two_that_start_together_one_delivers() {
    both(|shell| {
        let place = Place::new();
        // Both are there before the container is ready.
        let mut sessions = [enter(shell, &place), enter(shell, &place)];
        let _agent = run(shell, &place);
        let said = [sessions[0].line(), sessions[1].line()];
        let first = said.iter().position(|line| line == DELIVER).expect("one delivers");
        assert_eq!(said[1 - first], WAIT, "the other waits");
        sessions[first].send(STAND_IN.as_bytes());
        assert_eq!(sessions[first].line(), DELIVERED);
        let _socket = serve(&place);
        for session in &mut sessions {
            assert_eq!(session.line(), ATTACHING);
        }
    });
}

#[test]
fn a_delivery_that_is_cut_is_taken_over() {
    both(|shell| {
        let place = Place::new();
        let _agent = run(shell, &place);
        let mut first = enter(shell, &place);
        assert_eq!(first.line(), DELIVER);
        let mut second = enter(shell, &place);
        assert_eq!(second.line(), WAIT);
        first.send(&STAND_IN.as_bytes()[..100]);
        let (status, said) = first.finish();
        assert_eq!(status.code(), Some(GAVE_UP));
        assert_eq!(
            said.trim(),
            format!("inpod: only 100 of the agent's {} bytes arrived", STAND_IN.len())
        );
        assert!(!place.path().join("agent").exists(), "half an agent is none");
        assert_eq!(second.line(), DELIVER);
        second.send(STAND_IN.as_bytes());
        assert_eq!(second.line(), DELIVERED);
        let _socket = serve(&place);
        assert_eq!(second.line(), ATTACHING);
    });
}

#[test]
fn a_delivery_that_is_killed_is_taken_over() {
    both(|shell| {
        let place = Place::new();
        let _agent = run(shell, &place);
        let mut first = enter(shell, &place);
        assert_eq!(first.line(), DELIVER);
        let mut second = enter(shell, &place);
        assert_eq!(second.line(), WAIT);
        drop(first);
        assert_eq!(second.line(), DELIVER);
    });
}

#[test]
fn another_machine_is_refused() {
    // Not by busybox: its shell would not look for `uname` on the path.
    let shell = Shell::system();
    let uname = shell.tools.path().join("uname");
    fixture::executable("#!/bin/sh\necho aarch64\n", &uname);
    let (status, said) = run(&shell, &Place::new()).finish();
    assert_eq!(status.code(), Some(GAVE_UP));
    assert_eq!(
        said.trim(),
        "inpod: this node is aarch64; the agent is built for x86_64 only"
    );
}

/// Runs `script` behind mounts of its own: `noexec` places, and the rest as they are.
fn behind(shell: &Shell, noexec: &[&str], place: &Place) -> Running {
    let mounts: String = noexec
        .iter()
        .map(|path| format!("mount -t tmpfs -o noexec none {path} && "))
        .collect();
    let mut command = Command::new("unshare");
    command
        .args([
            "--mount",
            "/bin/sh",
            "-c",
            &format!("{mounts} cd /proc && exec \"$0\" -c \"$@\""),
        ])
        .arg(&shell.program)
        .args([RUN, "inpod", &place.name, "0123abcd", "120"])
        .env("PATH", format!("{}:/usr/bin:/bin", shell.tools.path().display()))
        .env("HOME", "/proc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Running::start(command)
}

#[test]
fn a_place_where_programs_run_is_found() {
    let shell = Shell::system();
    let place = Place::new();
    let elsewhere = Path::new("/var/tmp").join(&place.name);
    let agent = behind(&shell, &["/tmp"], &place);
    until("the next place is taken", || elsewhere.join("ready").exists());
    drop(agent);
    std::fs::remove_dir_all(elsewhere).expect("removed");
}

#[test]
fn nowhere_to_put_the_agent() {
    let shell = Shell::system();
    let (status, said) = behind(&shell, &["/tmp", "/var/tmp", "/run"], &Place::new()).finish();
    assert_eq!(status.code(), Some(GAVE_UP), "{said}");
    let expected = "inpod: the agent's container has no directory, /tmp, /var/tmp, /proc, /proc, /run \
                    where a program can be written and run";
    assert_eq!(said.trim(), expected);
}
