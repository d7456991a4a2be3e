//! The trial of this machine: what it finds with and without rights, and that nothing of it stays.
#![allow(clippy::unwrap_used, reason = "tests fail loudly")]

mod common;

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use common::Stand;
const EVERYTHING: &str = "\
notification: yes
addfd: yes
process_vm: yes
pidfd_getfd: yes
sync_wake_up: yes
pidfd_thread: yes
children: none
";

const STAND: &str = env!("CARGO_BIN_EXE_trap-stand");

/// The other tests of this crate need all of it, so a machine that lacks something fails here, with the reason. The
/// stand says whether its trial left it a child: this process has those of its other tests.
#[test]
fn everything_is_here_and_no_process_stays() {
    for _ in 0..20 {
        let ran = Command::new(STAND).arg("--probe").output().unwrap();
        assert_eq!(String::from_utf8_lossy(&ran.stdout), EVERYTHING, "{ran:?}");
    }
}

#[test]
fn it_needs_no_rights() {
    const NOBODY: u32 = 65_534;
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    std::os::unix::fs::chown(directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let copy = directory.path().join("trap-stand");
    fixture::program(Path::new(STAND), &copy);
    let mut probe = Command::new(copy);
    probe.arg("--probe").uid(NOBODY).gid(NOBODY);
    let ran = probe.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ran.stdout), EVERYTHING, "{ran:?}");
}

/// What is left where a listener is in force already, and what is said of it.
#[test]
fn inside_of_another_session_the_listener_is_taken() {
    let stand = Stand::new().option("--engine", "trap");
    let ran = stand.run(STAND, &["--probe"]);
    let lines = ran.lines();
    let taken = "notification: a seccomp listener is already in force: this runs inside of another inpod";
    assert!(lines[0].starts_with(taken), "{}", lines[0]);
    assert_eq!(
        lines[1..],
        [
            "addfd: it needs seccomp notification",
            "process_vm: yes",
            "pidfd_getfd: yes",
            "sync_wake_up: it needs seccomp notification",
            "pidfd_thread: yes",
            "children: none",
        ]
    );
}
