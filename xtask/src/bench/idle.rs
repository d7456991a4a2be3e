//! What a session takes while its app does nothing: supervisor, server and agent together.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::Bench;
use super::goals::Table;
use super::run::Running;

/// Until the session runs and its start has been forgotten.
const SETTLE: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn measure(bench: &Bench, table: &mut Table) -> Result<(), String> {
    let span = Duration::from_secs(if bench.quick { 10 } else { 60 });
    let pod = bench
        .testbed()?
        .admin()
        .fresh_pod(&testbed::FreshPod::default())
        .map_err(|error| error.to_string())?;
    let seconds = (span + 2 * PATIENCE).as_secs().to_string();
    let mut command = bench.session(&format!("pod/{}", pod.name), &["sleep", &seconds]);
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let session = Session(Running(child.map_err(|error| format!("cannot run inpod: {error}"))?));
    let processes = session.processes(bench, &pod)?;
    std::thread::sleep(SETTLE);
    let mut spent: Vec<Spent> = processes.iter().map(|_| Spent::default()).collect();
    let mut look = || -> Result<Vec<f64>, String> {
        processes
            .iter()
            .zip(&mut spent)
            .map(|((name, pid), spent)| spent.look(name, *pid))
            .collect()
    };
    let (begun, before) = (Instant::now(), look()?);
    while begun.elapsed() < span {
        std::thread::sleep(Duration::from_secs(1));
        look()?;
    }
    let (after, wall) = (look()?, begun.elapsed().as_secs_f64());
    let percent: Vec<f64> = before
        .iter()
        .zip(&after)
        .map(|(before, after)| (after - before) / wall * 100.0)
        .collect();
    let each = processes
        .iter()
        .zip(&percent)
        .map(|((name, _), percent)| format!("{name} {percent:.3}"));
    let note = format!("over {} s: {}", span.as_secs(), each.collect::<Vec<_>>().join(", "));
    table.judge("idle session, of a core", percent.iter().sum(), note)
}

struct Session(Running);

impl Session {
    /// Name and pid of the three, once all of them and the app are there.
    fn processes(&self, bench: &Bench, pod: &testbed::Pod) -> Result<Vec<(&'static str, i32)>, String> {
        let supervisor = i32::try_from(self.0.0.id()).map_err(|error| error.to_string())?;
        let app = bench
            .guest
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let children = children(supervisor);
            let agent = pod.running("agent").map_err(|error| error.to_string())?;
            let agent = agent.map(|process| process.pid);
            let runs = children.iter().any(|(_, name)| app.starts_with(name.as_str()));
            let server = children.iter().find(|(_, name)| !app.starts_with(name.as_str()));
            if let (true, Some(agent), Some((server, _))) = (runs, agent, server) {
                return Ok(vec![("supervisor", supervisor), ("server", *server), ("agent", agent)]);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err("the idle session did not start".to_owned())
    }
}

/// Pids and names (15 bytes at most).
fn children(parent: i32) -> Vec<(i32, String)> {
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let lists = tasks.map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
    let lists: String = lists.collect();
    let pids = lists.split_whitespace().filter_map(|pid| pid.parse().ok());
    pids.map(|pid: i32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        (pid, name.trim().to_owned())
    })
    .collect()
}

/// Nanoseconds that each thread has had a processor: the first field of its schedstat (sched-stats.rst in the kernel's
/// Documentation/scheduler). Clock ticks of 10 ms would be too coarse. A thread that has ended keeps what was last seen of it.
#[derive(Default)]
pub(super) struct Spent(BTreeMap<i32, f64>);

impl Spent {
    /// Seconds, so far.
    pub(super) fn look(&mut self, name: &str, pid: i32) -> Result<f64, String> {
        let tasks = std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task"));
        for task in tasks.map_err(|error| format!("the {name} is gone: {error}"))?.flatten() {
            let tid = task.file_name().to_string_lossy().parse().unwrap_or_default();
            let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            if let Some(time) = text.split_whitespace().next().and_then(|time| time.parse().ok()) {
                self.0.insert(tid, time);
            }
        }
        Ok(self.0.values().sum::<f64>() / 1e9)
    }
}
