//! Programs that are killed in the middle of a call: the rest of their tree is served on, and nothing is left behind.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process};
use tests::{Run, Session, processes};

use crate::guests;
use crate::language::{Engine, View};
use crate::programs::{Outcome, Stage};
use crate::run;

/// How many are killed after some that only warm up.
const KILLED: u32 = 200;

/// What they are in the middle of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// To a listener whose backlog is full: the pod waits for an answer.
    Connect,
    /// On a stolen port.
    Accept,
    /// While the name server is silent.
    Resolve,
    /// Of a file of the pod, while supervisor and server stand still.
    StoppedOpen,
    /// While supervisor and server stand still.
    StoppedConnect,
    /// All of these by threads, one of which ends the process.
    Threads,
}

pub const CALLS: &[Call] = &[
    Call::Connect,
    Call::Accept,
    Call::Resolve,
    Call::StoppedOpen,
    Call::StoppedConnect,
    Call::Threads,
];

impl Call {
    /// As the guest is told.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Accept => "accept",
            Self::Resolve => "resolve",
            Self::StoppedOpen => "stopped-open",
            Self::StoppedConnect => "stopped-connect",
            Self::Threads => "threads",
        }
    }

    /// Whether it is tried with this view: what opens files depends on it. A supervisor that is stopped while it puts a
    /// descriptor into a process loses that in the kernel (ARCHITECTURE.md): only the layer alone is not concerned.
    #[must_use]
    pub fn is_tried_with(self, view: View, engine: Engine) -> bool {
        match (view, self) {
            (View::Namespace, _) | (View::Path | View::Copy, Self::Threads) => true,
            (View::Path | View::Copy, Self::StoppedOpen) => engine == Engine::Layer,
            (View::Path | View::Copy, _) => false,
        }
    }

    /// How many descriptors of the supervisor, the server and the agent may stay open for a while after so many kills, and
    /// why. To go with its cause.
    fn may_stay(self, engine: Engine) -> [usize; 3] {
        let some = KILLED as usize;
        match (self, engine) {
            // The supervisor keeps a duplicate of a socket that connects until the pod's connect has ended.
            (Self::Connect | Self::Threads, _) => [some, 0, some],
            // The agent keeps an association for datagrams while nothing tells it that the program's socket is gone.
            (Self::Resolve, Engine::TrapAndLayer | Engine::Trap) => [0, 0, some],
            _ => [0; 3],
        }
    }
}

/// One name server for all.
static NAMES: Mutex<()> = Mutex::new(());

/// Children of one guest are killed one after the other.
///
/// # Errors
/// When somebody is not served any more, or descriptors stay open.
pub fn killed(stage: &Stage<'_>, view: View, call: Call) -> Outcome {
    let directory = stage.scratch(&format!("killed-{}", call.name()));
    let touch = |name: &str| std::fs::write(directory.join(name), "").expect("the scratch directory can be written");
    let _stealing = (call == Call::Accept).then(|| run::alone(stage.world));
    let _asking = (call == Call::Resolve).then(|| NAMES.lock().unwrap_or_else(PoisonError::into_inner));
    let mut session = start(stage, view, call, KILLED, &directory);
    session.wait_for_stdout("ready\n");
    let inpod = parts(session.pid());
    let before = settled(&inpod);
    let silent = (call == Call::Resolve).then(|| Silent::new(stage.world.names()));
    touch("go");
    session.wait_for_stdout("done\n");
    drop(silent);
    let most: Vec<usize> = before
        .iter()
        .zip(call.may_stay(stage.engine))
        .map(|(before, more)| before + more)
        .collect();
    let mut after = settled(&inpod);
    // What the last one had is closed a little after it is gone.
    for _ in 0..40 {
        if after.iter().zip(&most).all(|(after, most)| after <= most) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
        after = settled(&inpod);
    }
    touch("end");
    let ended = session.wait();
    if ended.code() != 0 || !ended.stdout.ends_with("served to the end\n") {
        return Err(format!(
            "expected that all are served to the end; came, with {}:\n{}\nstderr:\n{}",
            ended.status, ended.stdout, ended.stderr
        ));
    }
    if after.iter().zip(&most).any(|(after, most)| after > most) {
        return Err(format!(
            "descriptors of supervisor, server and what they started: {before:?} before, {after:?} after {KILLED} kills"
        ));
    }
    Ok(())
}

/// The app itself is killed: the session ends as it did.
///
/// # Errors
/// When it ends otherwise.
pub fn killed_alone(stage: &Stage<'_>, view: View, call: Call) -> Outcome {
    let directory = stage.scratch(&format!("alone-{}", call.name()));
    let _stealing = (call == Call::Accept).then(|| run::alone(stage.world));
    let _asking = (call == Call::Resolve).then(|| NAMES.lock().unwrap_or_else(PoisonError::into_inner));
    let _silent = (call == Call::Resolve).then(|| Silent::new(stage.world.names()));
    let mut session = start(stage, view, call, 0, &directory);
    session.wait_for_stdout("calling\n");
    let app = processes::app(session.pid()).ok_or("the session has no app")?;
    // The call is what it does from then on.
    tests::wait_until("the call", || {
        std::fs::read_to_string(format!("/proc/{app}/stat")).is_ok_and(|stat| stat.contains(") S "))
    });
    std::thread::sleep(std::time::Duration::from_millis(20));
    signal(app, Signal::KILL);
    let ended = session.wait();
    if ended.code() == 137 && ended.stdout == "calling\n" {
        return Ok(());
    }
    Err(format!(
        "expected 137, the status of who is killed; came, with {}:\n{}\nstderr:\n{}",
        ended.status, ended.stdout, ended.stderr
    ))
}

fn start(stage: &Stage<'_>, view: View, call: Call, count: u32, directory: &Path) -> Session {
    let (guest, count, port) = (guests::c_program("killed"), count.to_string(), stage.port.to_string());
    let directory = directory.to_str().expect("a path in text");
    let stolen = call == Call::Accept;
    let mut run: Run = stage.exec(if stolen { &["--steal"] } else { &[] });
    if let Some(absent) = view.without() {
        run = run.env("INPOD_WITHOUT", absent);
    }
    let mut words = vec![guest.as_str(), call.name(), &count, directory];
    words.extend(stolen.then_some(port.as_str()));
    run.start(&words)
}

/// The supervisor, and what it and its server have started, without the app.
fn parts(supervisor: u32) -> Vec<u32> {
    let server = processes::server(supervisor);
    let agent = server.map(processes::children).unwrap_or_default();
    std::iter::once(supervisor).chain(server).chain(agent).collect()
}

/// The fewest descriptors that each has open in a while without calls.
fn settled(inpod: &[u32]) -> Vec<usize> {
    let open = |process: &u32| std::fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count);
    let mut fewest: Vec<usize> = inpod.iter().map(open).collect();
    for _ in 0..10 {
        std::thread::sleep(std::time::Duration::from_millis(20));
        for (fewest, process) in fewest.iter_mut().zip(inpod) {
            *fewest = open(process).min(*fewest);
        }
    }
    fewest
}

/// A process that stands still until this is dropped.
struct Silent(u32);

impl Silent {
    fn new(process: u32) -> Self {
        signal(process, Signal::STOP);
        Self(process)
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        signal(self.0, Signal::CONT);
    }
}

fn signal(process: u32, signal: Signal) {
    if let Some(process) = i32::try_from(process).ok().and_then(Pid::from_raw) {
        let _ = kill_process(process, signal);
    }
}

/// Whoever tries it: each engine.
#[must_use]
pub fn name(call: Call, engine: Engine, view: View, alone: bool) -> String {
    let what = if alone { "killed-alone" } else { "killed" };
    let view = view.suffix();
    format!("{what}::{}::{}{view}", call.name(), engine.name())
}
