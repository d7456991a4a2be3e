//! A pod made of a local directory, and programs run inside its view.
#![allow(unsafe_code, dead_code, clippy::unwrap_used)]

mod bring;
pub mod guest;
pub mod pod;
mod xattr;

use std::time::{Duration, Instant};

/// How long anything may take that should take no time.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until `condition` gives something.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(begun.elapsed() < DEADLINE, "waited too long for {what}");
        std::thread::yield_now();
    }
}

/// Tests of mounts need root: they fail without, and do not pass silently.
pub fn need_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test mounts in namespaces of its own: run it as root"
    );
}
