//! kill -9 of each part of a session, during a steal under load: the pod answers by itself again at once, nobody hangs, and
//! nothing is left, neither in the pod nor on this machine.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::footprint::Footprint;
use tests::{Session, Stage, fault_rounds, guests, is_alive, scratch, shop, wait_until};

const PORT: u16 = 8080;
/// What a fault may cost: until the pod answers by itself, and until clients in flight know.
const LIMIT: Duration = Duration::from_secs(2);
/// How often the load asks over new connections.
const PAUSE: Duration = Duration::from_millis(10);

/// A session and its agent.
struct Parts {
    here: Footprint,
    agent: u32,
}

impl Parts {
    /// `daemon` has the process id of a daemonised grandchild of the app with an empty environment.
    fn of(stage: &Stage, session: &Session, daemon: &Path) -> Self {
        wait_until("the daemon", || daemon.exists());
        let read = std::fs::read_to_string(daemon).unwrap();
        Self {
            here: Footprint::of(session.pid(), &[read.trim().parse().unwrap()]),
            agent: stage.agent().expect("the pod has an agent"),
        }
    }
}

/// One answer over a new connection: when it was asked for, and by whom it came.
type Answer = (Instant, Result<String, String>);

struct Load<'a> {
    stage: &'a Stage,
    stop: AtomicBool,
    answers: Mutex<Vec<Answer>>,
}

impl Load<'_> {
    fn run(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let begin = Instant::now();
            let asked = tests::http::Http::connect(&self.stage.client, self.stage.address()).and_then(|mut client| {
                client.stream.set_read_timeout(Some(LIMIT * 2))?;
                client.get("/", &[])
            });
            let answer = asked
                .map(|response| response.service().to_owned())
                .map_err(|error| error.to_string());
            self.answers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((begin, answer));
            thread::sleep(PAUSE);
        }
    }

    /// Who has answered requests that were made after `since`, in their order.
    fn after(&self, since: Instant) -> Vec<Answer> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut after: Vec<Answer> = answers.iter().filter(|(begin, _)| *begin >= since).cloned().collect();
        after.sort_by_key(|(begin, _)| *begin);
        after
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Ends the load also when an assertion fails.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How long it took until the pod answered by itself, and until the last client in flight knew.
fn fault(stage: &Stage, victim: &dyn Fn(&Parts) -> u32) -> (Duration, Duration) {
    let daemon = scratch(&format!("{}.daemon", stage.pod.name));
    let _ = std::fs::remove_file(&daemon);
    let program = [
        "sh",
        &guests::script("strays.sh"),
        &shop().display().to_string(),
        &daemon.display().to_string(),
    ];
    let mut session = stage.session(&["--steal"], &program);
    session.wait_for_claim(PORT);
    let parts = Parts::of(stage, &session, &daemon);
    let load = Load {
        stage,
        stop: AtomicBool::new(false),
        answers: Mutex::default(),
    };
    let times = thread::scope(|scope| {
        let stopping = Stopping(&load.stop);
        (0..4).for_each(|_| drop(scope.spawn(|| load.run())));
        wait_until("answers of the local program", || {
            let answers = load.after(session_start());
            let last: Vec<_> = answers.iter().rev().take(3).collect();
            assert!(
                is_alive(parts.here.app),
                "the app ended early, {last:?}: {}",
                session.stderr()
            );
            answers.iter().filter(|(_, who)| who.as_deref() == Ok("local")).count() > 20
        });
        // Clients in flight: the local program works on their requests and will not be done in time.
        let mut in_flight: Vec<_> = (0..4).map(|_| stage.connect()).collect();
        for client in &mut in_flight {
            use std::io::Write;
            assert_eq!(client.get("/", &[]).unwrap().service(), "local");
            client
                .stream
                .write_all(b"GET /slow?ms=60000 HTTP/1.1\r\nHost: test\r\n\r\n")
                .unwrap();
        }
        // One round trip over the same link: what was sent before it has arrived.
        assert_eq!(stage.who_answers(&[]), "local");

        let victim = victim(&parts);
        let begin = Instant::now();
        tests::processes::signal(victim, Signal::KILL).unwrap();
        let waiting: Vec<_> = in_flight
            .into_iter()
            .map(|mut client| {
                scope.spawn(move || {
                    client.stream.set_read_timeout(Some(LIMIT * 5)).unwrap();
                    let ended = client.response();
                    (begin.elapsed(), ended)
                })
            })
            .collect();
        let mut known = Duration::ZERO;
        for client in waiting {
            let (took, ended) = client.join().unwrap();
            let error = ended.expect_err("nobody could answer that");
            assert!(
                error.kind() != std::io::ErrorKind::WouldBlock,
                "a client in flight hangs: {error}"
            );
            known = known.max(took);
        }
        wait_until("the real service's answers", || {
            let last = load.after(begin).into_iter().rev().take(20).map(|(_, who)| who);
            let last: Vec<_> = last.collect();
            last.len() == 20 && last.iter().all(|who| who.as_deref() == Ok("real"))
        });
        drop(stopping);
        let after = load.after(begin);
        let last_other = after.iter().rposition(|(_, who)| who.as_deref() != Ok("real"));
        let real = last_other.map_or(Duration::ZERO, |at| after[at + 1].0 - begin);
        (real, known)
    });
    let (real, known) = times;
    let others: Vec<_> = load
        .after(session_start())
        .into_iter()
        .filter_map(|(_, who)| who.err())
        .collect();
    println!(
        "  real again {real:.0?}, clients know {known:.0?}, {} requests of the load lost: {others:?}",
        others.len()
    );
    assert!(real <= LIMIT, "the pod answered by itself only after {real:?}");
    assert!(known <= LIMIT, "clients in flight knew only after {known:?}");

    drop(session.wait());
    let begin = Instant::now();
    parts.here.wait_until_gone();
    println!("  nothing left here after {:.0?}", begin.elapsed());
    stage.wait_for_own_rules();
    wait_until("a pod without zombies", || stage.zombies().is_empty());
    (real, known)
}

fn session_start() -> Instant {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *START.get_or_init(|| Instant::now() - Duration::from_secs(1))
}

fn rounds(name: &str, victim: impl Fn(&Parts) -> u32) {
    let stage = Stage::new();
    let _ = session_start();
    let (mut worst_real, mut worst_known) = (Duration::ZERO, Duration::ZERO);
    let rounds = fault_rounds();
    for round in 1..=rounds {
        println!("kill -9 of the {name}, round {round}");
        let (real, known) = fault(&stage, &victim);
        worst_real = worst_real.max(real);
        worst_known = worst_known.max(known);
    }
    println!(
        "kill -9 of the {name}, {rounds} times: real again within {worst_real:.0?}, clients knew within {worst_known:.0?}"
    );
}

#[test]
fn of_the_supervisor() {
    rounds("supervisor", |parts| parts.here.supervisor);
}

#[test]
fn of_the_server() {
    rounds("server", |parts| parts.here.server);
}

#[test]
fn of_the_agent() {
    rounds("agent", |parts| parts.agent);
}

#[test]
fn of_the_app() {
    rounds("app", |parts| parts.here.app);
}
