//! What a session costs a program that does nothing remote.

use std::process::Command;

use super::Bench;
use super::goals::{Table, median, number};
use super::run::{Said, listen, local_file};

/// Calls that no session has any business with.
const UNTOUCHED: [(&str, &str); 4] = [
    ("getppid, added", "getppid_us"),
    ("read, added", "read_us"),
    ("write, added", "write_us"),
    ("epoll_wait, added", "epoll_wait_us"),
];
/// Programs whose start opens many files.
const PROGRAMS: [(&str, &[&str]); 4] = [
    (
        "python3 -c 'import ssl, json, asyncio'",
        &["/usr/bin/python3", "-c", "import ssl, json, asyncio"],
    ),
    ("node -e 0", &["/usr/bin/node", "-e", "0"]),
    ("java -version", &["/usr/bin/java", "-version"]),
    ("sh -c true", &["/bin/sh", "-c", "true"]),
];

pub(super) fn measure(bench: &Bench, table: &mut Table) -> Result<(), String> {
    let pod = bench.echo()?;
    let target = format!("pod/{}/container/tcp", pod.name);
    let file = local_file("local-file")?;
    let file = file.display().to_string();
    let calls = ["calls", file.as_str()];
    let bare = best(bench, || bench.guest(&calls))?;
    let native = best(bench, || bench.session(&target, &calls))?;
    let copy = best(bench, || nobody(&bench.session(&target, &calls)))?;
    let trap = best(bench, || nobody(&bench.session_by("trap", &target, &calls)))?;
    for (view, session) in [("", &native), (" (copy view)", &copy)] {
        for (what, key) in [("open+read+close", "open_read_close_us"), ("stat", "stat_us")] {
            let (with, without) = (least(session, key)?, least(&bare, key)?);
            let note = format!("{} us, bare {} us", number(with), number(without));
            table.judge(&format!("{what}{view}"), with / without, note)?;
        }
    }
    added(
        table,
        "open+read+close, added (copy view, trap alone)",
        "open_read_close_us",
        &trap,
        &bare,
    )?;
    for (name, key) in UNTOUCHED {
        added(table, name, key, &native, &bare)?;
    }
    for (what, key, session) in [
        ("stat, added (copy view, trap alone)", "stat_us", &trap),
        (
            "relative open+read+close, added",
            "open_read_close_relative_us",
            &native,
        ),
        (
            "relative open+read+close, added (copy view)",
            "open_read_close_relative_us",
            &copy,
        ),
        ("stat by a directory's descriptor, added", "stat_at_us", &native),
        (
            "stat by a directory's descriptor, added (copy view)",
            "stat_at_us",
            &copy,
        ),
        ("connect to an own listener, added", "connect_own_us", &native),
    ] {
        let (with, without) = (least(session, key)?, least(&bare, key)?);
        let note = format!("{} us, bare {} us", number(with), number(without));
        table.report(what, with - without, "us", note);
    }
    for (name, program) in PROGRAMS {
        let words = [&["spawn", "5"], program].concat();
        let direct = || bench.guest(&words);
        let within = || bench.session(&target, &words);
        spawned(bench, table, name, &direct, &within)?;
        spawned(
            bench,
            table,
            &format!("{name} (copy view)"),
            &|| nobody(&direct()),
            &|| nobody(&within()),
        )?;
    }
    Ok(())
}

/// One after the other, so that both meet the same machine.
pub(super) fn spawned(
    bench: &Bench,
    table: &mut Table,
    name: &str,
    direct: &dyn Fn() -> Command,
    within: &dyn Fn() -> Command,
) -> Result<(), String> {
    let (mut bare, mut session) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds(5) {
        bare.push(listen(&mut direct())?.number("spawn_us")? / 1e3);
        session.push(listen(&mut within())?.number("spawn_us")? / 1e3);
    }
    let (bare, session) = (median(bare), median(session));
    table.judge(name, session / bare, format!("{session:.1} ms, bare {bare:.1} ms"))
}

fn added(table: &mut Table, name: &str, key: &str, session: &[Said], bare: &[Said]) -> Result<(), String> {
    let (with, without) = (least(session, key)?, least(bare, key)?);
    table.judge(
        name,
        with - without,
        format!("{} us, bare {} us", number(with), number(without)),
    )
}

/// Several runs: this machine is shared.
fn best(bench: &Bench, command: impl Fn() -> Command) -> Result<Vec<Said>, String> {
    (0..bench.rounds(3)).map(|_| listen(&mut command())).collect()
}

fn least(runs: &[Said], key: &str) -> Result<f64, String> {
    runs.iter()
        .try_fold(f64::INFINITY, |least, said| Ok(least.min(said.number(key)?)))
}

/// The same as a user without any rights, who has no /dev/fuse (mode 0600) and so gets the copy view.
pub(super) fn nobody(command: &Command) -> Command {
    let mut plain = Command::new("setpriv");
    plain.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    plain
        .arg(command.get_program())
        .args(command.get_args())
        .env("HOME", "/nonexistent")
        .env_remove("XDG_RUNTIME_DIR");
    for (name, value) in command.get_envs() {
        plain.env(name, value.unwrap_or_default());
    }
    plain
}
