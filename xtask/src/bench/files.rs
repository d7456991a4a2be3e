//! The pod's files: round trips with 100 ms to the agent, and against a local file system with none.

mod ground;

use std::path::Path;
use std::process::Command;

use super::Bench;
use super::goals::{Table, median, number};
use super::run::{Said, listen};
use ground::Ground;

/// What one round trip takes, in seconds; the relay adds half of it each way.
const ROUND_TRIP: f64 = 0.1;
const SYMPY: &str = "import sys; sys.path.insert(0, sys.argv[1]); import sympy";

/// The other ways in which the files are there, and the value of `INPOD_WITHOUT` that has them chosen.
const VIEWS: &[(&str, &str)] = &[("mounted aside", "mount_namespaces"), ("copied", "fuse")];

pub(super) fn measure(bench: &Bench, table: &mut Table) -> Result<(), String> {
    let ground = Ground::prepare(&bench.guest)?;
    trips(bench, &ground, table)?;
    programs(bench, &ground, table)?;
    sequential(bench, &ground, table)?;
    near(bench, &ground, table)?;
    VIEWS.iter().try_for_each(|view| other(bench, &ground, table, view))
}

fn guest<'a>(bench: &'a Bench, words: &[&'a str]) -> Result<Vec<&'a str>, String> {
    let guest = bench.guest.to_str().ok_or("the guest's path is no text")?;
    Ok([&[guest], words].concat())
}

/// What is looked at once, each in a session of its own.
fn trips(bench: &Bench, ground: &Ground, table: &mut Table) -> Result<(), String> {
    let (mut bytewise, mut deep) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds(3) {
        let said = listen(&mut ground.far(&guest(bench, &["cold", ground::POD])?))?;
        bytewise.push(said.number("bytewise_us")? / 1e6 / ROUND_TRIP);
        deep.push(said.number("deep_us")? / 1e6 / ROUND_TRIP);
    }
    table.judge(
        "7 KB byte by byte, round trips",
        median(bytewise),
        "open and close included",
    )?;
    table.judge(
        "cold open+read+close, round trips",
        median(deep),
        "ten directories deep",
    )
}

/// Whole programs, whose own time is that on the local disk.
fn programs(bench: &Bench, ground: &Ground, table: &mut Table) -> Result<(), String> {
    let ls: &dyn Fn(&Path) -> Vec<String> = &|at| words(&["/bin/ls", "-l"], &at.join("many"));
    let python: &dyn Fn(&Path) -> Vec<String> = &|at| words(&["/usr/bin/python3", "-BSEc", SYMPY], &at.join("site"));
    let node: &dyn Fn(&Path) -> Vec<String> = &|at| words(&["/usr/bin/node"], &at.join("modules/main.js"));
    for (name, warm, program) in [
        ("ls -l of 10 000, round trips", None, ls),
        ("import sympy, round trips", Some("import sympy, warm"), python),
        (
            "node, 2 000 remote modules, round trips",
            Some("node, 2 000 remote modules, warm"),
            node,
        ),
    ] {
        let (local, pod) = (
            spawned(&program(&ground.local())),
            spawned(&program(Path::new(ground::POD))),
        );
        let (mut trips, mut ratios, mut times) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..bench.rounds(3) {
            let direct = listen(&mut bench.guest(&local.iter().map(String::as_str).collect::<Vec<_>>()))?;
            let words: Vec<&str> = pod.iter().map(String::as_str).collect();
            let far = listen(&mut ground.far(&guest(bench, &words)?))?;
            let (first, bare) = (far.number("spawn_first_us")? / 1e6, direct.number("spawn_us")? / 1e6);
            trips.push((first - bare) / ROUND_TRIP);
            ratios.push(far.number("spawn_us")? / 1e6 / bare);
            times.push((bare, first));
        }
        let shown = times
            .iter()
            .map(|(bare, first)| format!("{first:.2} s, local {bare:.2} s"));
        table.judge(name, median(trips), shown.collect::<Vec<_>>().join("; "))?;
        if let Some(warm) = warm {
            table.judge(
                warm,
                median(ratios),
                "the second and third run in a session, at 100 ms, by local runs",
            )?;
        }
    }
    let place = format!("{}/grep", ground::POD);
    let words = ["spawn", "1", "/bin/grep", "-rc", "little", &place];
    let mut faster = Vec::new();
    for _ in 0..bench.rounds(3) {
        let took = listen(&mut ground.far(&guest(bench, &words)?))?.number("spawn_us")? / 1e6;
        faster.push(f64::from(ground::GREPPED) * ROUND_TRIP / took);
    }
    table.judge(
        "grep -r over 5 000 files, times a trip each",
        median(faster),
        "100 directories of 50",
    )
}

fn words(program: &[&str], last: &Path) -> Vec<String> {
    let mut words: Vec<String> = program.iter().map(|&word| word.to_owned()).collect();
    words.push(last.display().to_string());
    words
}

fn spawned(program: &[String]) -> Vec<String> {
    [&["spawn".to_owned(), "3".to_owned()], program].concat()
}

/// A long file, against a connection through the same link.
fn sequential(bench: &Bench, ground: &Ground, table: &mut Table) -> Result<(), String> {
    let (mut ratios, mut files, mut links) = (Vec::new(), Vec::new(), Vec::new());
    let file = format!("{}/big", ground::POD);
    for _ in 0..bench.rounds(3) {
        let link =
            listen(&mut ground.far(&guest(bench, &["down", ground::SOURCE, "200000000"])?))?.number("down_mb_s")?;
        let read = listen(&mut ground.far(&guest(bench, &["sequential", &file])?))?.number("sequential_mb_s")?;
        ratios.push(read / link);
        files.push(read);
        links.push(link);
    }
    let note = format!(
        "medians: file {} MB/s, link {} MB/s",
        number(median(files)),
        number(median(links))
    );
    table.judge("200 MB file / link", median(ratios), note)
}

/// Without distance, against the same files on this machine.
fn near(bench: &Bench, ground: &Ground, table: &mut Table) -> Result<(), String> {
    let here = ground.local().display().to_string();
    let run = |make: &dyn Fn() -> Result<Command, String>| -> Result<Vec<Said>, String> {
        (0..bench.rounds(3)).map(|_| listen(&mut make()?)).collect()
    };
    let bare = run(&|| Ok(bench.guest(&["warm", &here])))?;
    let pod = run(&|| Ok(ground.near(&guest(bench, &["warm", ground::POD])?)))?;
    let least = |runs: &[Said], key: &str| -> Result<f64, String> {
        runs.iter()
            .try_fold(f64::INFINITY, |least, said| Ok(least.min(said.number(key)?)))
    };
    for (name, key) in [
        ("read of an open file / local", "pread_us"),
        ("read of an open 1 MB file / local", "megabyte_open_us"),
        ("1 MB file / local", "megabyte_us"),
        ("stat of a file / local", "stat_us"),
    ] {
        let (remote, local) = (least(&pod, key)?, least(&bare, key)?);
        table.judge(
            name,
            local / remote,
            format!("{} us, local {} us", number(remote), number(local)),
        )?;
    }
    let (remote, local) = (least(&pod, "open_read_close_us")?, least(&bare, "open_read_close_us")?);
    table.judge(
        "open+read+close of a file",
        remote,
        format!("local {} us", number(local)),
    )?;
    let file = format!("{}/megabyte", ground::POD);
    let rate = |threads: &str| -> Result<f64, String> {
        listen(&mut ground.near(&guest(bench, &["readers", &file, threads])?))?.number("reads_per_s")
    };
    let (one, many) = (rate("1")?, rate("64")?);
    table.judge(
        "64 readers / one",
        many / one,
        format!("{:.0} k/s, one {:.0} k/s", many / 1e3, one / 1e3),
    )
}

/// The same with another view, without goals: what it costs where nothing better is to be had.
fn other(bench: &Bench, ground: &Ground, table: &mut Table, (view, without): &(&str, &str)) -> Result<(), String> {
    let with = |mut command: Command| -> Result<Said, String> { listen(command.env("INPOD_WITHOUT", without)) };
    let near = with(ground.near(&guest(bench, &["warm", ground::POD])?))?;
    for (name, key) in [
        ("stat of a file", "stat_us"),
        ("open+read+close of a file", "open_read_close_us"),
        ("1 MB file", "megabyte_us"),
        ("read of an open file", "pread_us"),
    ] {
        table.report(format!("{name} ({view})"), near.number(key)?, "us", "");
    }
    let cold = with(ground.far(&guest(bench, &["cold", ground::POD])?))?;
    let trips = cold.number("deep_us")? / 1e6 / ROUND_TRIP;
    table.report(
        format!("cold open+read+close, round trips ({view})"),
        trips,
        "",
        "ten directories deep",
    );
    let place = format!("{}/grep", ground::POD);
    let grep = with(ground.far(&guest(bench, &["spawn", "1", "/bin/grep", "-rc", "little", &place])?))?;
    let trips = grep.number("spawn_us")? / 1e6 / ROUND_TRIP;
    table.report(format!("grep -r over 5 000 files, round trips ({view})"), trips, "", "");
    Ok(())
}
