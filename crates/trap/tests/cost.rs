//! What the trap costs, beside the same program without it. Numbers are printed (`--nocapture`). The bounds leave room for
//! a machine with other work, on which a bare notification alone takes 8 us instead of 4; `cargo xtask bench` holds the
//! product's promise of 10 us.
#![allow(clippy::unwrap_used, reason = "tests fail loudly")]

mod common;

use std::sync::{Mutex, PoisonError};

use common::{Stand, c, echo};

/// One measurement at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn nanoseconds(text: &str) -> f64 {
    text.trim().parse().unwrap()
}

#[test]
fn a_local_open_read_close_adds_microseconds() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let stand = Stand::new();
    let view = stand.directory.path().join("view");
    std::fs::create_dir(&view).unwrap();
    let program = c("cost", stand.directory.path(), &[]);
    let stand = stand
        .option("--remote-path", "/data")
        .option("--translated", view.to_str().unwrap());
    let file = stand.directory.path().join("file");
    std::fs::write(&file, "text").unwrap();
    for (path, what) in [
        (file.to_str().unwrap(), "open+read+close in a developer's directory"),
        ("/etc/passwd", "of /etc/passwd"),
        ("/usr/bin/dash", "of /usr/bin/dash"),
    ] {
        // The best of some runs: the machine has other work.
        let bare = (0..5).map(|_| bare(&program, "open", path)).fold(f64::MAX, f64::min);
        let trapped = (0..5)
            .map(|_| nanoseconds(&stand.run(&program, &["open", path]).out))
            .fold(f64::MAX, f64::min);
        println!(
            "{what}: {bare:.0} ns bare, {trapped:.0} ns trapped, {:.1} us more",
            (trapped - bare) / 1e3
        );
        assert!(
            trapped - bare < 20_000.0,
            "{what}: {bare} ns bare, {trapped} ns trapped"
        );
    }
}

fn bare(program: &std::path::Path, mode: &str, path: &str) -> f64 {
    let out = std::process::Command::new(program).args([mode, path]).output().unwrap();
    nanoseconds(&String::from_utf8(out.stdout).unwrap())
}

#[test]
fn reading_and_writing_cost_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let stand = Stand::new();
    let program = c("cost", stand.directory.path(), &[]);
    let bare = (0..5).map(|_| bare(&program, "pipe", "")).fold(f64::MAX, f64::min);
    let trapped = (0..5)
        .map(|_| nanoseconds(&stand.run(&program, &["pipe", ""]).out))
        .fold(f64::MAX, f64::min);
    println!("write+read of a pipe: {bare:.0} ns bare, {trapped:.0} ns trapped");
    // One notification alone would be more.
    assert!(trapped < bare + 2_500.0, "{bare} ns bare, {trapped} ns trapped");
}

#[test]
fn connect_and_message_costs() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let server = echo();
    let stand = Stand::new().map("10.9.0.1:80", server);
    let program = c("cost", stand.directory.path(), &[]);
    for (mode, address) in [
        ("connect", format!("127.0.0.1:{}", server.port())),
        ("recvmsg", String::new()),
    ] {
        println!("{mode}: {:.0} ns bare", bare(&program, mode, &address));
    }
    println!(
        "remote connect: {:.0} ns",
        nanoseconds(&stand.run(&program, &["connect", "10.9.0.1:80"]).out)
    );
    println!(
        "nameless recvmsg: {:.0} ns trapped",
        nanoseconds(&stand.run(&program, &["recvmsg", ""]).out)
    );
}
