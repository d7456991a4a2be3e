//! Programs under load on this machine: threads that open files, a Go HTTP server, a Node project of many modules.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Bench;
use super::goals::{Table, median, number};
use super::local::{nobody, spawned};
use super::run::{listen, local_file};
use crate::build::programs;
use crate::shell::root;

/// Threads that open files at once.
const OPENERS: &str = "64";
/// Supervisor threads to compare.
const SUPERVISORS: std::ops::RangeInclusive<usize> = 1..=4;
const HTTP_SECONDS: &str = "3";
/// Modules of the Node project.
const MODULES: usize = 2000;
const DIRECTORY: &str = "target/bench";

pub(super) fn measure(bench: &Bench, table: &mut Table) -> Result<(), String> {
    let pod = bench.echo()?;
    let target = format!("pod/{}/container/tcp", pod.name);
    let file = local_file("local-file")?.display().to_string();
    openers(bench, table, &target, &file)?;
    supervisors(bench, table, &file)?;
    http(bench, table, &target)?;
    modules(bench, table, &target)
}

/// How the rate grows from one thread to many, beside a bare run's own growth.
fn openers(bench: &Bench, table: &mut Table, target: &str, file: &str) -> Result<(), String> {
    let mut row = |name: &str, command: &dyn Fn(&[&str]) -> Command| -> Result<(), String> {
        let one = opened(bench, &|| command(&["openers", file, "1"]))?;
        let many = opened(bench, &|| command(&["openers", file, OPENERS]))?;
        report(table, &format!("{OPENERS} openers, {name}"), one, many);
        Ok(())
    };
    row("bare", &|words| bench.guest(words))?;
    row("trap+layer", &|words| bench.session(target, words))?;
    row("trap+layer, copy view", &|words| nobody(&bench.session(target, words)))
}

/// Every open is answered by a supervisor of so many threads: without the layer, in the copy view's way.
fn supervisors(bench: &Bench, table: &mut Table, file: &str) -> Result<(), String> {
    crate::shell::run(&mut programs(&["trap-stand"]))?;
    let view = root().join(DIRECTORY).join("view");
    std::fs::create_dir_all(&view).map_err(|error| format!("cannot make {}: {error}", view.display()))?;
    for threads in SUPERVISORS {
        let count = threads.to_string();
        let stand = |openers: &str| {
            let mut command = Command::new(root().join("target/release/trap-stand"));
            command
                .args(["--engine", "trap", "--threads", &count, "--remote-path", "/data"])
                .arg("--translated")
                .arg(&view)
                .arg("--")
                .arg(&bench.guest)
                .args(["openers", file, openers]);
            command
        };
        let (one, many) = (opened(bench, &|| stand("1"))?, opened(bench, &|| stand(OPENERS))?);
        report(
            table,
            &format!("{OPENERS} openers, trap alone, supervisor threads: {threads}"),
            one,
            many,
        );
    }
    Ok(())
}

fn opened(bench: &Bench, command: &dyn Fn() -> Command) -> Result<f64, String> {
    let rates = (0..bench.rounds(3)).map(|_| listen(&mut command())?.number("opens_per_s"));
    Ok(median(rates.collect::<Result<_, _>>()?))
}

fn report(table: &mut Table, name: &str, one: f64, many: f64) {
    let note = format!("{:.2} x one opener, which takes {} us", many / one, number(1e6 / one));
    table.report(name, many / 1e3, "k/s", note);
}

fn http(bench: &Bench, table: &mut Table, target: &str) -> Result<(), String> {
    let program = go("http")?.display().to_string();
    let (mut bare, mut session, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.rounds(5) {
        let direct = listen(Command::new(&program).arg(HTTP_SECONDS))?.number("requests_per_s")?;
        let within = listen(&mut bench.program(target, &[&program, HTTP_SECONDS]))?.number("requests_per_s")?;
        bare.push(direct);
        session.push(within);
        ratios.push(within / direct);
    }
    let (bare, session) = (median(bare), median(session));
    let note = format!("medians: session {session:.0} requests/s, bare {bare:.0}");
    table.judge("Go HTTP server / bare", median(ratios), note)
}

/// A static Go program.
fn go(name: &str) -> Result<PathBuf, String> {
    let source = root().join("benches/guests").join(format!("{name}.go"));
    let output = root().join(DIRECTORY).join(name);
    let mut command = Command::new("go");
    command.args(["build", "-o"]).arg(&output).arg(source);
    crate::shell::run(command.env("CGO_ENABLED", "0"))?;
    Ok(output)
}

fn modules(bench: &Bench, table: &mut Table, target: &str) -> Result<(), String> {
    let main = project(&root().join(DIRECTORY).join("modules"))?.display().to_string();
    let words = ["spawn", "5", "/usr/bin/node", &main];
    let direct = || bench.guest(&words);
    let within = || bench.session(target, &words);
    let name = format!("node, {MODULES} modules");
    spawned(bench, table, &name, &direct, &within)?;
    let copy = format!("{name} (copy view)");
    spawned(bench, table, &copy, &|| nobody(&direct()), &|| nobody(&within()))
}

/// A main module that loads each of the others, ten to a directory.
pub(super) fn project(directory: &Path) -> Result<PathBuf, String> {
    let main = directory.join("main.js");
    let write = || -> std::io::Result<()> {
        let mut text = String::new();
        for number in 0..MODULES {
            let package = directory.join(format!("node_modules/package{}", number / 10));
            std::fs::create_dir_all(&package)?;
            std::fs::write(
                package.join(format!("module{number}.js")),
                format!("module.exports = {number};\n"),
            )?;
            let _ = writeln!(text, "require('package{}/module{number}');", number / 10);
        }
        std::fs::write(&main, text)
    };
    write().map_err(|error| format!("cannot write {}: {error}", directory.display()))?;
    Ok(main)
}
