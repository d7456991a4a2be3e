//! `trap-stand OPTIONS -- PROGRAM ARGUMENTS`: one program under the trap, with a stand-in for the session's server that
//! dials on this machine. The tests drive it; it is also the quickest way to try something by hand:
//!
//!     trap-stand --map 10.9.0.1:80=127.0.0.1:8000 --address 10.244.0.7 -- curl http://10.9.0.1/
//!
//! `trap-stand --probe`: what this machine allows, a line each, and whether the trial left a child.
//!
//! Exit status: the app's, or the launch error's.
#![allow(
    clippy::zombie_processes,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a tool for tests: it may fail loudly"
)]

mod layer;
mod options;
mod relay;
mod server;

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use guest::channel::Channel;
use guest::marker::Marker;
use guest::protocol::FromServer;
use options::Options;
use rustix::process::{Pid, PidfdFlags};
use trap::machine::{Capability, Machine};
use trap::{Launch, LaunchError, Supervision};

fn main() {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--server") {
        return server::serve(&Options::parse(&arguments[1..]));
    }
    if arguments.first().is_some_and(|first| first == "--probe") {
        return probe();
    }
    std::process::exit(run(&arguments));
}

fn probe() {
    let machine = Machine::probe().unwrap();
    for capability in Capability::ALL {
        let why = machine.explain(capability).map(|explanation| explanation.why);
        println!("{}: {}", capability.key(), why.as_deref().unwrap_or("yes"));
    }
    let left = rustix::process::wait(rustix::process::WaitOptions::NOHANG).map(|child| child.is_some());
    println!(
        "children: {}",
        if left == Err(rustix::io::Errno::CHILD) {
            "none"
        } else {
            "some"
        }
    );
}

fn run(arguments: &[OsString]) -> i32 {
    let options = Options::parse(arguments);
    let (ours, theirs) = Channel::pair().unwrap();
    let server = Command::new(std::env::current_exe().unwrap())
        .arg("--server")
        .args(arguments)
        // Ctrl-C is the app's.
        .process_group(0)
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
        .spawn()
        .unwrap();
    let server_pidfd =
        rustix::process::pidfd_open(Pid::from_raw(server.id() as i32).unwrap(), PidfdFlags::empty()).unwrap();
    let (FromServer::Ready(ready), _) = ours.receive().unwrap() else {
        panic!("the server is not ready")
    };
    let (program, rest) = options.command.split_first().expect("a program after --");
    let marker = Marker::random().unwrap();
    let (layer, alone) = layer::prepare(&options, &ready, marker);
    let launch = Launch {
        program: program.clone(),
        arguments: rest.to_vec(),
        environment: std::env::vars_os().collect(),
        directory: None,
        prepare: None,
        paths: options.view.clone(),
        marker,
        layer,
        alone,
    };
    let launched = match trap::launch(launch) {
        Ok(launched) => launched,
        Err(error) => {
            eprintln!("trap-stand: {error}");
            return LaunchError::exit_code(&error);
        }
    };
    let log = options.events.as_ref().map(|path| {
        Arc::new(Mutex::new(
            std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .unwrap(),
        ))
    });
    let supervision = Supervision {
        channel: ours,
        server: server.id(),
        server_pidfd,
        plan: Arc::new(options.plan()),
        ready: *ready,
        events: Box::new(move |event| {
            if let Some(log) = &log {
                let _ = writeln!(log.lock().unwrap(), "{event}");
            }
        }),
        decisions: false,
        threads: options.threads,
    };
    let ended = trap::supervise(launched, supervision).unwrap();
    layer::clean_up(&options);
    if let Some(why) = ended.lost {
        eprintln!("trap-stand: {why}");
    }
    ended.status
}
