//! Runs guests: under `inpod exec`, or without it to see that the expectations can fail.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tests::{Ended, PATIENCE, Session};

use crate::guests;
use crate::language::{Engine, Language, View};
use crate::table::How;
use crate::world::{self, World};

/// What a run of a guest showed.
#[derive(Debug)]
pub struct Shown {
    pub ended: Ended,
    /// Who called, as the pod saw it.
    pub client: String,
    /// What became of the caller.
    pub caller: Result<(), String>,
}

static STEALING: Mutex<()> = Mutex::new(());

/// To be held while a session steals: an agent of this machine serves one session, and one agent holds a network's packet
/// rules.
pub fn alone(world: &World) -> MutexGuard<'static, ()> {
    let guard = STEALING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    tests::wait_until("the end of the session before", || {
        !packet_rules(world).contains("inpod")
    });
    guard
}

fn packet_rules(world: &World) -> String {
    world.site.inside(&["nft", "list", "tables"])
}

/// Who intercepts the guest.
#[derive(Debug, Clone, Copy)]
pub enum By {
    Engine(Engine, View),
    /// Nobody: in an empty network, where all that is the pod's must be missing.
    Nobody,
}

/// The lines of one behaviour, out of all that was printed.
#[must_use]
pub fn section<'a>(printed: &'a str, behaviour: &str) -> Vec<&'a str> {
    let mut lines = printed
        .lines()
        .skip_while(|line| line.strip_prefix("== ") != Some(behaviour));
    lines.next();
    lines.take_while(|line| !line.starts_with("== ")).collect()
}

/// Runs behaviours (`name` or `name=argument`) one after the other in one process.
#[must_use]
pub fn behaviours(world: &World, language: Language, by: By, flags: &[&str], words: &[String]) -> Session {
    let mut command = match by {
        By::Nobody => {
            let mut command = Command::new("unshare");
            command.args(["--net", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"]);
            command.stdin(Stdio::null()).current_dir(tests::workspace());
            command
        }
        By::Engine(engine, view) => {
            let mut command = tests::inpod(&["exec", "-t", &world.target(), "--engine", engine.flag()]);
            command.args(["--json", "-v"]).args(flags).arg("--");
            command.envs(view.without().map(|absent| ("INPOD_WITHOUT", absent)));
            command
        }
    };
    // What this test's own caller has set is none of the guest's.
    command.env_remove("RUST_BACKTRACE");
    command.args(guests::command(language)).args(words);
    Session::spawn(command)
}

/// Runs a behaviour that serves, and calls it.
///
/// # Panics
/// When the session ends before it serves.
#[must_use]
pub fn serving(world: &World, language: Language, by: By, name: &str, how: How, port: u16) -> Shown {
    // An agent of this machine serves one session, and one agent holds a network's packet rules.
    let _only_one = STEALING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !matches!(by, By::Nobody) {
        tests::wait_until("the end of the session before", || {
            !packet_rules(world).contains("inpod")
        });
    }
    let flags: &[&str] = if how == How::Mirrored {
        &["--mirror"]
    } else {
        &["--steal"]
    };
    let real = (how == How::Mirrored).then(|| answering(world, port));
    let mut session = behaviours(world, language, by, flags, &[format!("{name}={port}")]);
    if !matches!(by, By::Nobody) {
        session.wait_for_claim(port);
    }
    let mut client = String::new();
    let caller = world.network.enter(|| {
        if how == How::StolenByWorkers {
            // `last` ends a worker: three of them.
            let sent = (0..9)
                .map(|number| number.to_string())
                .chain(["last"; 3].map(str::to_owned));
            return sent
                .into_iter()
                .try_for_each(|text| call(port, &text, &mut String::new()));
        }
        call(port, "ping", &mut client)
    });
    let ended = if caller.is_ok() && !matches!(by, By::Nobody) {
        session.wait()
    } else {
        session.stop()
    };
    drop(real);
    Shown {
        ended,
        client,
        caller: caller.map_err(|error| error.to_string()),
    }
}

/// Calls the pod, as another would, and waits for the answer's end.
fn call(port: u16, text: &str, client: &mut String) -> std::io::Result<()> {
    let from: SocketAddr = SocketAddr::new(world::CALLER.parse().expect("an address"), 0);
    let mut stream = dial(from, world::pod(port))?;
    *client = stream.local_addr()?.to_string();
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{text}\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer == "pong\n" {
        Ok(())
    } else {
        Err(std::io::Error::other(format!("answered {answer:?}")))
    }
}

fn dial(from: SocketAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &from)?;
    connect(&socket, &to)?;
    Ok(TcpStream::from(socket))
}

/// The pod's own listener, while its traffic is only mirrored.
fn answering(world: &World, port: u16) -> impl Drop + use<> {
    let listener = world
        .network
        .enter(|| TcpListener::bind(world::pod(port)))
        .expect("the port is free");
    let copy = listener.try_clone().expect("a descriptor");
    let thread = std::thread::spawn(move || {
        for stream in copy.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
            let mut line = [0; 64];
            let _ = stream.read(&mut line);
            let _ = stream.write_all(b"pong\n");
        }
    });
    Listener(listener, Some(thread))
}

struct Listener(TcpListener, Option<std::thread::JoinHandle<()>>);

impl Drop for Listener {
    fn drop(&mut self) {
        // Wakes the thread in accept.
        let _ = rustix::net::shutdown(&self.0, rustix::net::Shutdown::Both);
        if let Some(thread) = self.1.take() {
            let _ = thread.join();
        }
    }
}
