//! Debuggers of single languages: their own port is this machine's, the program's is the pod's.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use tests::http::Http;
use tests::{PATIENCE, Session};

use super::{FILES_URL, Outcome, Stage, printed, source};
use crate::{guests, run, world};

pub(super) fn delve(stage: &Stage<'_>) -> Outcome {
    let program = guests::go_program_for_delve();
    let init = stage.scratch("delve").join("init");
    std::fs::write(&init, "break main.main\ncontinue\ncontinue\nexit\n").expect("the scratch directory can be written");
    let ended = stage.exec(&[]).run(&[
        "dlv",
        "exec",
        // Debian's is older than the compiler.
        "--check-go-version=false",
        "--allow-non-terminal-interactive=true",
        "--init",
        init.to_str().expect("a path in text"),
        &program,
        "--",
        &format!("{FILES_URL}/page"),
    ]);
    printed(&ended, "> main.main() ")?;
    printed(&ended, "a page of the pod")
}

pub(super) fn debugpy(stage: &Stage<'_>) -> Outcome {
    let _only_one = run::alone(stage.world);
    let (port, debugger) = (stage.port.to_string(), stage.port + 1000);
    let mut session = serve(stage).start(&[
        "/usr/bin/python3",
        "-m",
        "debugpy",
        "--listen",
        &format!("127.0.0.1:{debugger}"),
        "--wait-for-client",
        &source("pytest/application.py"),
        &port,
    ]);
    let client = attach(debugger, &mut session);
    let attached = client.and_then(|mut client| {
        say(
            &mut client,
            r#"{"seq":1,"type":"request","command":"initialize","arguments":{"adapterID":"test"}}"#,
        )?;
        say(
            &mut client,
            r#"{"seq":2,"type":"request","command":"attach","arguments":{"justMyCode":false}}"#,
        )?;
        hear(&mut client, &[r#""event": "initialized""#])?;
        say(
            &mut client,
            r#"{"seq":3,"type":"request","command":"configurationDone"}"#,
        )?;
        Ok(client)
    });
    let _client = attached.map_err(|error| format!("the debugger's port: {error}\nstderr:\n{}", session.stderr()))?;
    answers(stage, session)
}

pub(super) fn jdwp(stage: &Stage<'_>) -> Outcome {
    let _only_one = run::alone(stage.world);
    let debugger = stage.port + 1000;
    let mut program = guests::java_program("HttpServing");
    program.insert(
        1,
        format!("-agentlib:jdwp=transport=dt_socket,server=y,suspend=y,address=127.0.0.1:{debugger}"),
    );
    program.push(stage.port.to_string());
    let program: Vec<&str> = program.iter().map(String::as_str).collect();
    let mut session = serve(stage).start(&program);
    session.wait_for_stdout("Listening for transport");
    // Ended where it would wait for ever, which is said of its screen then.
    let mut jdb = Command::new("timeout")
        .args([&PATIENCE.as_secs().to_string(), "jdb", "-attach"])
        .arg(format!("127.0.0.1:{debugger}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("jdb: {error}"))?;
    let (mut keyboard, mut screen) = (jdb.stdin.take().expect("a pipe"), jdb.stdout.take().expect("a pipe"));
    // What is typed before the program's first event has come may be lost on it.
    let stopped = hear(&mut screen, &["VM Started", "main[1] "])
        .and_then(|()| keyboard.write_all(b"stop in HttpServing.main\ncont\n"))
        .and_then(|()| hear(&mut screen, &["Breakpoint hit", "main[1] "]))
        .and_then(|()| keyboard.write_all(b"cont\n"));
    let outcome = stopped
        .map_err(|error| format!("jdb: {error}\nstderr:\n{}", session.stderr()))
        .and_then(|()| answers(stage, session));
    let _ = jdb.kill();
    let _ = jdb.wait();
    outcome
}

/// With the service's port taken from the pod, and no other.
fn serve(stage: &Stage<'_>) -> tests::Run {
    stage
        .exec(&["--steal"])
        .env("INPOD_INCOMING_PORTS", &stage.port.to_string())
}

fn answers(stage: &Stage<'_>, mut session: Session) -> Outcome {
    session.wait_for_claim(stage.port);
    match Http::connect(&stage.world.network, world::pod(stage.port)).and_then(|mut one| one.get("/", &[])) {
        Ok(answer) if answer.body.contains("hello from the pod") => Ok(()),
        other => Err(format!("{other:?}\nstderr:\n{}", session.stderr())),
    }
}

/// As soon as it listens, from this machine.
fn attach(port: u16, session: &mut Session) -> std::io::Result<TcpStream> {
    let mut connected = None;
    tests::wait_until("the debugger's port", || {
        connected = TcpStream::connect(("127.0.0.1", port)).ok();
        connected.is_some() || session.ended_early().is_some()
    });
    let stream = connected.ok_or_else(|| std::io::Error::other("the session ended first"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A message of the Debug Adapter Protocol (its "Base Protocol").
fn say(client: &mut TcpStream, message: &str) -> std::io::Result<()> {
    client.write_all(format!("Content-Length: {}\r\n\r\n{message}", message.len()).as_bytes())
}

/// Reads until all of this has come, in this order.
fn hear(from: &mut impl Read, wanted: &[&str]) -> std::io::Result<()> {
    let (mut text, mut bytes) = (String::new(), [0; 4096]);
    let has_come = |text: &str| {
        wanted
            .iter()
            .try_fold(text, |rest, word| Some(rest.split_once(*word)?.1))
            .is_some()
    };
    while !has_come(&text) {
        match from.read(&mut bytes)? {
            0 => return Err(std::io::Error::other(format!("it ended with {text:?}"))),
            length => text.push_str(&String::from_utf8_lossy(&bytes[..length])),
        }
    }
    Ok(())
}
