//! Many people on one pod and port: each gets what is his, nobody loses anything, whoever is killed.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use rustix::process::Signal;
use tests::{Session, Stage, soak, wait_until};

const PEOPLE: usize = 10;
/// The one who is killed in the middle.
const VICTIM: usize = 3;

fn name(person: usize) -> String {
    format!("person{person}")
}

/// Asks as one of the people, or as nobody; `answered` says whether that may have been the answer. Only who `is_orphan` may
/// lose answers: those that the killed session was to give, until its end is known.
fn ask(
    stage: &Stage,
    user: &str,
    requests: usize,
    is_orphan: &(dyn Fn() -> bool + Sync),
    answered: &(dyn Fn(&str, usize) + Sync),
) {
    let mut client = stage.connect();
    let header = format!("X-User: {user}");
    for number in 0..requests {
        // Some over connections of their own.
        if number % 100 == 99 {
            client = stage.connect();
        }
        let path = format!("/{user}/{number}");
        let mut response = client.get(&path, &[&header]);
        wait_until("the killed session's end to be known", || {
            if let Err(error) = &response {
                assert!(is_orphan(), "request {number} of {user} is lost: {error}");
                client = stage.connect();
                response = client.get(&path, &[&header]);
            }
            response.is_ok()
        });
        let response = response.unwrap();
        assert_eq!(response.status, 200, "{user} {number}");
        assert_eq!(response.line("path"), Some(path.as_str()), "another's answer");
        answered(response.service(), number);
    }
}

#[test]
fn ten_people_share_one_port_and_one_of_them_is_killed() {
    let requests = if soak() { 10_000 } else { 1_000 };
    let stage = Stage::new();
    let sessions: Vec<Session> = (0..PEOPLE)
        .map(|person| {
            let header = format!("X-User={}", name(person));
            stage.with_local_shop(&["--steal", "--header", &header], &name(person))
        })
        .collect();
    let begin = Instant::now();
    let (killed, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (stage, sessions, killed, done) = (&stage, &sessions, &killed, &done);
    thread::scope(|scope| {
        for person in 0..PEOPLE {
            // Two clients each, on connections of their own.
            for _ in 0..2 {
                scope.spawn(move || {
                    let own = name(person);
                    let is_orphan = || person == VICTIM && killed.load(Ordering::Relaxed);
                    ask(stage, &own, requests / 2, &is_orphan, &|service, number| {
                        done.fetch_add(1, Ordering::Relaxed);
                        if person == VICTIM && number == requests / 4 && !killed.swap(true, Ordering::Relaxed) {
                            sessions[VICTIM].signal(Signal::KILL);
                        }
                        assert!(
                            service == own || is_orphan() && service == "real",
                            "request {number} of {own} went to {service}"
                        );
                    });
                });
            }
        }
        scope.spawn(move || {
            ask(stage, "nobody", requests, &|| false, &|service, number| {
                done.fetch_add(1, Ordering::Relaxed);
                assert_eq!(service, "real", "request {number} of nobody's");
            });
        });
    });
    let took = begin.elapsed();
    assert_eq!(done.load(Ordering::Relaxed), (PEOPLE + 1) * requests);
    println!(
        "{} requests of {PEOPLE} people and nobody's in {took:.1?}: none lost, none misled",
        (PEOPLE + 1) * requests
    );
    // What is the killed one's goes to the real app for good.
    ask(stage, &name(VICTIM), 10, &|| false, &|service, _| {
        assert_eq!(service, "real");
    });
}
