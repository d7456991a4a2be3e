//! Debuggers, and programs that leave their parent.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use tests::http::Http;
use tests::{PATIENCE, processes};

use super::{Outcome, Stage, printed, source};
use crate::language::Language;
use crate::{guests, run, world};

pub(super) fn daemon(stage: &Stage<'_>) -> Outcome {
    let fifo = stage.scratch("daemon").join("fifo");
    let fifo = fifo.to_str().expect("a path in text");
    // The app waits for what its grandchild, in a session of its own and with nothing of its environment, has seen.
    let script = "mkfifo \"$2\" && env -i /usr/bin/python3 \"$1\" \"$2\" && cat \"$2\"";
    let ended = stage
        .exec(&[])
        .run(&["sh", "-c", script, "sh", &source("daemon.py"), fifo]);
    printed(&ended, "hello from the pod, ping")
}

/// The C guest, its two behaviours, and what they must have shown.
fn guest() -> (String, [&'static str; 2], &'static str) {
    (
        guests::command(Language::C)[0].clone(),
        ["read", "connect"],
        "hello from the pod\nabsent ENOENT\n== connect\npeer 10.77.0.40:7000\nping\nend",
    )
}

pub(super) fn gdb(stage: &Stage<'_>) -> Outcome {
    let (guest, behaviours, wanted) = guest();
    let program = [
        "gdb",
        "-nx",
        "-q",
        "-batch",
        "-ex",
        "set startup-with-shell off",
        "-ex",
        "break main",
        "-ex",
        "run",
        "-ex",
        "continue",
        "--args",
    ];
    let ended = stage.exec(&[]).run(&[&program[..], &[&guest], &behaviours].concat());
    printed(&ended, "Breakpoint 1, ")?;
    printed(&ended, wanted)
}

pub(super) fn strace(stage: &Stage<'_>) -> Outcome {
    let (guest, behaviours, wanted) = guest();
    let log = stage.scratch("strace").join("log");
    let program = ["strace", "-f", "-o", log.to_str().expect("a path in text"), &guest];
    printed(&stage.exec(&[]).run(&[&program[..], &behaviours].concat()), wanted)?;
    let log = std::fs::read_to_string(&log).unwrap_or_default();
    if log.contains("connect(") {
        Ok(())
    } else {
        Err(format!("strace saw no connect:\n{log}"))
    }
}

pub(super) fn strace_attached(stage: &Stage<'_>) -> Outcome {
    let _only_one = run::alone(stage.world);
    let port = stage.port.to_string();
    let session = stage.serve(
        stage.exec(&["--steal"]),
        &["/usr/bin/python3", &source("pytest/application.py"), &port],
    );
    let app = processes::app(session.pid()).ok_or("the session has no app")?;
    let log = stage.scratch("attached").join("log");
    let mut strace = Command::new("strace")
        .args(["-f", "-p", &app.to_string(), "-o"])
        .arg(&log)
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("strace: {error}"))?;
    let traced =
        || std::fs::read_to_string(format!("/proc/{app}/status")).is_ok_and(|status| !status.contains("TracerPid:\t0"));
    tests::wait_until("strace to attach", traced);
    let ask = || {
        Http::connect(&stage.world.network, world::pod(stage.port))
            .and_then(|mut one| one.get("/", &["Connection: close"]))
    };
    let during = ask();
    if let Some(pid) = i32::try_from(strace.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
    }
    let _ = strace.wait();
    let after = ask();
    for answer in [during, after] {
        match answer {
            Ok(answer) if answer.body.contains("hello from the pod") => {}
            other => {
                return Err(format!(
                    "expected an answer; came {other:?}\nstderr:\n{}",
                    session.stderr()
                ));
            }
        }
    }
    Ok(())
}

pub(super) fn node_inspect(stage: &Stage<'_>) -> Outcome {
    let _only_one = run::alone(stage.world);
    let inspect = stage.port + 1000;
    let flag = format!("--inspect=127.0.0.1:{inspect}");
    let run = stage
        .exec(&["--steal"])
        .env("INPOD_INCOMING_PORTS", &stage.port.to_string());
    let session = stage.serve(run, &["node", &flag, &source("npm/server.js"), &stage.port.to_string()]);
    // As a debugger of this machine would. Node keeps the connection, whatever it is told.
    let mut text = String::new();
    let asked = TcpStream::connect(("127.0.0.1", inspect)).and_then(|mut stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /json/version HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let mut bytes = [0; 4096];
        while !text.contains("Protocol-Version") {
            match stream.read(&mut bytes)? {
                0 => break,
                length => text.push_str(&String::from_utf8_lossy(&bytes[..length])),
            }
        }
        Ok(())
    });
    if !text.contains("Protocol-Version") {
        return Err(format!(
            "the debugger's port: {asked:?} {text}\nstderr:\n{}",
            session.stderr()
        ));
    }
    match Http::connect(&stage.world.network, world::pod(stage.port)).and_then(|mut one| one.get("/", &[])) {
        Ok(answer) if answer.body.contains("hello from the pod") => Ok(()),
        other => Err(format!("{other:?}\nstderr:\n{}", session.stderr())),
    }
}
