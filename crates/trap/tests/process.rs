//! Launch, signals, exit status, exec and the end of the tree.
#![allow(clippy::unwrap_used, reason = "tests fail loudly")]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use common::{Stand, c, echo, is_layer_alone, python, until};

#[test]
fn exit_status_and_launch_errors() {
    let stand = Stand::new();
    for (script, status) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -9 $$", 137),
        ("kill -TERM $$", 143),
        ("exec true", 0),
    ] {
        assert_eq!(stand.run("dash", &["-c", script]).status, status, "{script}");
    }
    let missing = stand.run("no-such-program", &[]);
    assert_eq!(
        (missing.status, missing.err.trim()),
        (127, "trap-stand: no-such-program: not found")
    );
    let denied = stand.run("/etc/passwd", &[]);
    assert_eq!(
        (denied.status, denied.err.trim()),
        (126, "trap-stand: /etc/passwd cannot be executed")
    );
    // No header: the shell's, as execvp has it.
    let script = stand.directory.path().join("script");
    fixture::executable("echo plain $1\n", &script);
    assert_eq!(stand.run(&script, &["text"]).lines(), ["plain text"]);
}

#[test]
fn what_the_app_sees_of_us() {
    let stand = Stand::new().option("--hostname", "web-6d4b");
    let ran = stand.python(
        r#"
import os, signal, socket
print(socket.gethostname(), os.uname().nodename, os.uname().sysname)
try: os.wait()
except ChildProcessError: print("no children")
print(signal.pthread_sigmask(signal.SIG_BLOCK, []))
"#,
        &[],
    );
    assert_eq!(ran.lines(), ["web-6d4b web-6d4b Linux", "no children", "set()"]);
    // The signals that it would have blocked and ignored without us: some may come from whoever runs the tests (nohup).
    // Rust's runtime ignores SIGPIPE; the app must not.
    let signals = ["-E", "^Sig(Blk|Ign)", "/proc/self/status"];
    let bare = Command::new("grep").args(signals).output().unwrap();
    assert_eq!(stand.run("grep", &signals).out, String::from_utf8(bare.stdout).unwrap());
    // No descriptor but those that it would have without us.
    let bare = Command::new("ls")
        .arg("/proc/self/fd")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(
        stand.run("ls", &["/proc/self/fd"]).out,
        String::from_utf8(bare.stdout).unwrap()
    );
}

#[test]
fn signals_are_passed_on() {
    let stand = Stand::new();
    let ready = stand.directory.path().join("ready");
    let script = format!(
        "trap 'echo got; exit 3' TERM; touch {}; while :; do sleep 0.05; done",
        ready.display()
    );
    let mut command = stand.command("dash", &["-c", &script]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("the guest is ready", || ready.exists());
    assert!(
        Command::new("kill")
            .args(["-TERM", &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    let ran = stand.finish(child);
    assert_eq!((ran.status, ran.out.trim()), (3, "got"));
}

/// Ctrl-C and Ctrl-Z come from the terminal to the whole group: the app has each once, and the stand stops with it.
#[test]
fn the_terminal_is_the_apps() {
    let stand = Stand::new();
    // Waited for, not handled: two of the same signal would be one to a handler that is late.
    let guest = r#"
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT]); print("ready", flush=True); n = 0
for round in range(5):
    signal.sigwait([signal.SIGINT]); n += 1
    while signal.sigtimedwait([signal.SIGINT], 0.1): n += 1
    print("round", flush=True)
print("interrupts", n, flush=True)
"#;
    let script = stand.directory.path().join("guest.py");
    std::fs::write(&script, guest).unwrap();
    // A shell's part, inside of a terminal: jobs in groups of their own, in the foreground by turns.
    let shell = r#"
import os, signal, sys
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
pid = os.fork()
if pid == 0:
    os.setpgid(0, 0); os.tcsetpgrp(0, os.getpid()); signal.signal(signal.SIGTTOU, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])
_, status = os.waitpid(pid, os.WUNTRACED); print("stopped", os.WIFSTOPPED(status), flush=True)
os.killpg(pid, signal.SIGCONT); _, status = os.waitpid(pid, 0); print("status", os.waitstatus_to_exitcode(status), flush=True)
"#;
    let driver = r#"
import os, pty, sys
pid, fd = pty.fork()
if pid == 0: os.execv(sys.executable, [sys.executable, "-c"] + sys.argv[1:])
text = b""
def until(what):
    global text
    while what not in text: text += os.read(fd, 999)
def wait(rounds):
    global text
    while text.count(b"round") < rounds: text += os.read(fd, 999)
until(b"ready\r\n"); os.write(fd, b"\x1a"); until(b"stopped True\r\n")
for i in range(5): os.write(fd, b"\x03"); wait(i + 1)
until(b"status 0")
print(text.decode().replace("\r", "").replace("^Z", "").replace("^C", ""), end="")
"#;
    let command = stand.command(python(), &[script.to_str().unwrap()]);
    let mut run = Command::new(python());
    run.arg("-c")
        .arg(driver)
        .arg(shell)
        .arg(command.get_program())
        .args(command.get_args());
    let child = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let ran = stand.finish(child);
    // Ctrl-C discards what is on its way to the terminal: what the driver has not waited for whole, the rounds' line
    // ends, may be missing.
    assert_eq!(ran.status, 0, "{}", ran.all());
    let text = ran.out.replace("round", "");
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(
        lines,
        ["ready", "stopped True", "interrupts 5", "status 0"],
        "{}",
        ran.all()
    );
}

fn is_running(marker: &str) -> bool {
    Command::new("pgrep")
        .args(["-f", marker])
        .stdout(Stdio::null())
        .status()
        .unwrap()
        .success()
}

#[test]
fn the_whole_tree_ends_with_the_app() {
    let stand = Stand::new();
    // A daemon that ignores SIGTERM, with an emptied environment and a session of its own.
    let marker = format!("6{:06}", std::process::id());
    let script = format!(
        "env -i setsid dash -c \"trap '' TERM; sleep {marker} & wait; wait\" >/dev/null 2>&1 & sleep 0.3; exit 4"
    );
    let ran = stand.run("dash", &["-c", &script]);
    assert_eq!(ran.status, 4);
    assert!(!is_running(&format!("sleep {marker}")));
}

#[test]
fn the_app_ends_with_the_server() {
    let stand = Stand::new().flag("--server-dies");
    let ran = stand.python(
        "import socket, time\ntry: socket.create_connection(('10.9.0.1', 80))\nexcept OSError: pass\ntime.sleep(600)",
        &[],
    );
    assert_eq!(
        (ran.status, ran.err.trim()),
        (143, "trap-stand: the session's server process is gone")
    );
}

/// PR_SET_PDEATHSIG covers what a supervisor that is killed can no longer do; the rest is the server's.
#[test]
fn the_app_does_not_outlive_a_killed_supervisor() {
    let stand = Stand::new();
    let marker = format!("7{:06}", std::process::id());
    let mut child = stand.command("sleep", &[&marker]).spawn().unwrap();
    until("the app runs", || is_running(&format!("^sleep {marker}")));
    child.kill().unwrap();
    child.wait().unwrap();
    until("the app ended", || !is_running(&format!("^sleep {marker}")));
}

#[test]
fn programs_that_cannot_be_served_are_refused() {
    let stand = Stand::new();
    let foreign = stand.directory.path().join("foreign");
    let mut image = std::fs::read("/proc/self/exe").unwrap()[..64].to_vec();
    (image[4], image[18]) = (1, 3);
    fixture::executable(image, &foreign);
    let path = foreign.to_str().unwrap();
    let ran = stand.run(path, &[]);
    assert_eq!(ran.status, 126);
    assert!(ran.err.contains("not a 64-bit x86 program"), "{}", ran.err);
    let ran = stand.python(
        "import os,sys\ntry: os.execv(sys.argv[1], sys.argv[1:])\nexcept OSError as e: print(e.errno)",
        &[path],
    );
    assert_eq!(ran.lines(), ["1"]);
    assert!(
        ran.events
            .contains("foreign was refused: it is not a 64-bit x86 program"),
        "{}",
        ran.events
    );
}

#[test]
fn rings_and_second_listeners() {
    let stand = Stand::new();
    let program = c("kernel", stand.directory.path(), &[]);
    // ENOSYS, and EBUSY for a listener of the program's own, where there is a filter; one without a listener is taken.
    let listener = if is_layer_alone() { "listener 0" } else { "listener 16" };
    assert_eq!(stand.run(program, &[]).lines(), ["io_uring 38", listener, "filter 0"]);
}

#[test]
fn skipped_programs_run_untouched_and_their_children_do_not() {
    let stand = Stand::new().option("--hostname", "pod").option("--skip", "untouched");
    let copy = stand.directory.path().join("untouched");
    fixture::program(Path::new("/usr/bin/dash"), &copy);
    let ran = stand.run(
        "dash",
        &[
            "-c",
            &format!(
                "uname -n; {} -c 'read n </proc/sys/kernel/hostname; uname -n; :'",
                copy.display()
            ),
        ],
    );
    assert_eq!(ran.lines(), ["pod", "pod"]);
    assert!(ran.events.contains("untouched: skipped"), "{}", ran.events);

    let copy = stand.directory.path().join("uname");
    fixture::program(Path::new("/usr/bin/uname"), &copy);
    let stand = Stand::new()
        .option("--hostname", "pod")
        .option("--skip", copy.to_str().unwrap());
    let ran = stand.run("dash", &["-c", &format!("{} -n; uname -n", copy.display())]);
    assert_ne!(ran.lines()[0], "pod", "{}", ran.all());
    assert_eq!(ran.lines()[1], "pod");
}

#[test]
fn go_run_builds_and_connects() {
    let stand = Stand::new().map("10.9.0.1:80", echo());
    let source = stand.directory.path().join("main.go");
    let code = r#"package main
import ("fmt"; "net")
func main() { c, err := net.Dial("tcp", "10.9.0.1:80"); if err != nil { panic(err) }; fmt.Fprint(c, "x"); b := make([]byte, 1); c.Read(b); fmt.Println(string(b)) }"#;
    std::fs::write(&source, code).unwrap();
    let stand = stand.env("CGO_ENABLED", "0");
    if is_layer_alone() {
        let ran = stand.run("go", &["run", source.to_str().unwrap()]);
        assert!(
            ran.err.contains("/go was refused: it is statically linked"),
            "{}",
            ran.all()
        );
        return;
    }
    let ran = stand.run("go", &["run", source.to_str().unwrap()]);
    assert_eq!(ran.lines(), ["x"]);
}

/// Threads, vfork and clone in every combination that runtimes use, many at once.
#[test]
fn many_threads_and_children_at_once() {
    let stand = Stand::new().map("10.9.0.1:80", echo());
    let ran = stand.python(
        r#"
import concurrent.futures, socket, subprocess
def work(i):
    s = socket.create_connection(("10.9.0.1", 80)); s.sendall(b"%d" % i); assert s.recv(9) == b"%d" % i
    assert subprocess.run(["/bin/true"]).returncode == 0
    return 1
with concurrent.futures.ThreadPoolExecutor(32) as pool: print(sum(pool.map(work, range(300))))
"#,
        &[],
    );
    assert_eq!(ran.lines(), ["300"]);
}

/// Without CAP_SYS_PTRACE the kernel does not let us look into a process that is not dumpable: it is refused, never
/// silently local.
#[test]
fn a_program_that_hides_is_refused() {
    let stand = Stand::new().map("10.9.0.1:80", echo());
    let program = c("hidden", stand.directory.path(), &[]);
    let ran = stand.run_unprivileged(&program, &["open"]);
    assert_eq!(ran.lines(), ["connected"], "{}", ran.all());
    let ran = stand.run_unprivileged(&program, &["hidden"]);
    assert_eq!((ran.status, ran.out.trim()), (0, "1"), "{}", ran.all());
    assert!(
        ran.events.contains("its connect cannot be served: it hides"),
        "{}",
        ran.events
    );
}

/// A privileged port is moved for a user who may not have it.
#[test]
fn privileged_ports_move() {
    let limit: u16 = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(limit > 81, "this machine lets everybody have port 81");
    let stand = Stand::new().option("--clients", "0");
    let program = c("privileged", stand.directory.path(), &[]);
    let ran = stand.run_unprivileged(&program, &[]);
    assert_eq!(ran.lines(), ["listening at 81"], "{}", ran.all());
    assert!(ran.events.contains("port 81 is taken or not allowed"), "{}", ran.events);
}
