//! What needs no cluster: calls that must happen exactly once.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::Write;
use std::net::TcpStream;

use tests::{Public, Run, guests, inpod, playground};

const COUNT: usize = 400;
/// Enough to take tens of milliseconds.
const FILES: usize = 4000;

#[test]
fn files_are_created_and_connections_accepted_once_under_a_timer() {
    let playground = playground("once");
    let target = format!("process/{}", playground.pid());
    for is_static in [false, true] {
        let guest = guests::c("once", is_static);
        for restart in [false, true] {
            let run = || {
                // Where incoming traffic is wanted, accept is the supervisor's to do.
                let run = Run::by(inpod(&[]), &target).flags(&["--mirror"]);
                if restart { run.env("RESTART", "1") } else { run }
            };
            let public = Public::new();
            let directory = public.path().to_str().unwrap();
            let created = run().run(&[guest.to_str().unwrap(), "create", directory, &FILES.to_string()]);
            let ticks = ticks(&created.stderr);
            assert_eq!(created.ok(), "exists 0 other 0\n");
            assert!(ticks > 20, "{ticks} signals show nothing");
            assert_eq!(std::fs::read_dir(directory).unwrap().count(), FILES);

            let bound = run().run(&[guest.to_str().unwrap(), "bind", "127.0.0.1", "4000"]);
            assert_eq!(
                (bound.stdout.as_str(), bound.code()),
                ("failed 0\n", 0),
                "{}",
                bound.stderr
            );

            let port = fixture::free_port();
            let mut session = run().start(&[guest.to_str().unwrap(), "accept", &port.to_string(), &COUNT.to_string()]);
            session.wait_for_stdout("listening");
            for number in 0..COUNT {
                let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
                connection.write_all(number.to_string().as_bytes()).unwrap();
            }
            let ended = session.wait();
            let mut got: Vec<usize> = ended
                .stdout
                .lines()
                .filter_map(|line| line.strip_prefix("got ")?.parse().ok())
                .collect();
            got.sort_unstable();
            assert!(got.iter().copied().eq(0..COUNT), "{}{}", ended.stdout, ended.stderr);
        }
    }
}

fn ticks(text: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_suffix(" ticks")?.parse().ok())
        .unwrap_or(0)
}
