//! Parts of a session die while its app reads and writes the pod's files: every call ends with an error, nobody hangs, and
//! nothing is left on this machine.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests")]

use std::time::{Duration, Instant};

use ::playground::Playground;
use rustix::process::Signal;
use tests::footprint::Footprint;
use tests::processes::{agent, app, children};
use tests::{Run, Session, fault_rounds, guests, is_alive, playground, wait_until};

/// What is done in the pod by processes of their own, each until its first error.
const WORK: [&str; 4] = ["reads", "looks", "writes", "makes"];

struct Stage {
    playground: Playground,
    session: Session,
    here: Footprint,
    agent: u32,
}

impl Stage {
    /// A session at work.
    fn new(name: &str) -> Self {
        let playground = playground(name);
        let data = format!("/proc/{}/root/data", playground.pid());
        std::fs::create_dir(format!("{data}/work")).unwrap();
        std::fs::write(format!("{data}/work/read"), vec![7; 1 << 20]).unwrap();
        for number in 0..10 {
            std::fs::write(format!("{data}/work/{number}"), "x").unwrap();
        }
        let mut session = Run::inside(&playground).env("INPOD_FILES_MODE", "write").start(&[
            "python3",
            &guests::script("files_until.py"),
            "/data/work",
        ]);
        session.wait_for_stdout("begun\n");
        let workers = children(app(session.pid()).unwrap());
        assert_eq!(workers.len(), WORK.len(), "{}", session.stderr());
        let here = Footprint::of(session.pid(), &workers);
        let agent = agent(here.server);
        let log = format!("{data}/work/log");
        wait_until("writes in the pod", || {
            std::fs::metadata(&log).is_ok_and(|log| log.len() > 80)
        });
        Self {
            playground,
            session,
            here,
            agent: agent.unwrap(),
        }
    }

    /// Everybody has ended, and nothing is left.
    fn ended(self) -> String {
        let said = self.session.wait();
        self.here.wait_until_gone();
        said.stdout
    }
}

fn kill(pid: u32, signal: Signal) {
    let _ = tests::processes::signal(pid, signal);
}

/// `fault` makes every worker's next call fail, and then the session ends.
fn calls_fail(name: &str, rounds: u32, fault: impl Fn(&Stage)) {
    let mut worst = Duration::ZERO;
    for _ in 0..rounds {
        let stage = Stage::new(&format!("file-{name}"));
        let begin = Instant::now();
        fault(&stage);
        wait_until("the session's end", || !is_alive(stage.here.supervisor));
        worst = worst.max(begin.elapsed());
        // The agent's own end, where it was only stopped.
        kill(stage.agent, Signal::CONT);
        let said = stage.ended();
        // A worker that was told nothing was ended with the app.
        let errors = said.lines().filter(|line| *line != "begun");
        let other: Vec<&str> = errors.filter(|line| !line.ends_with(" 5")).collect();
        assert!(other.is_empty(), "not EIO: {other:?}");
    }
    println!("{name}, {rounds} times: ended within {worst:.1?}");
}

/// `fault` ends the app.
fn all_end(name: &str, fault: impl Fn(&Stage)) {
    let rounds = fault_rounds();
    let mut worst = Duration::ZERO;
    for _ in 0..rounds {
        let stage = Stage::new(&format!("file-{name}"));
        let begin = Instant::now();
        fault(&stage);
        let _ = stage.ended();
        worst = worst.max(begin.elapsed());
    }
    println!("{name}, {rounds} times: nothing left within {worst:.1?}");
}

#[test]
fn the_agent_is_killed() {
    calls_fail("agent", fault_rounds(), |stage| kill(stage.agent, Signal::KILL));
}

/// As when the network goes: nothing is said any more.
#[test]
fn the_link_is_silent() {
    calls_fail("link", fault_rounds().div_ceil(10), |stage| {
        kill(stage.agent, Signal::STOP);
    });
}

#[test]
fn the_target_is_killed() {
    calls_fail("target", fault_rounds(), |stage| {
        kill(stage.playground.pid(), Signal::KILL);
        // A container's end is its processes'.
        kill(stage.agent, Signal::KILL);
    });
}

#[test]
fn the_server_is_killed() {
    all_end("server", |stage| kill(stage.here.server, Signal::KILL));
}

#[test]
fn the_supervisor_is_killed() {
    all_end("supervisor", |stage| kill(stage.here.supervisor, Signal::KILL));
}

#[test]
fn the_supervisor_is_terminated() {
    all_end("terminated", |stage| kill(stage.here.supervisor, Signal::TERM));
}

#[test]
fn the_app_is_killed() {
    all_end("app", |stage| kill(stage.here.app, Signal::KILL));
}
