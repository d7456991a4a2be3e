//! What the end-to-end tests share: the real `inpod` as a command and as a running session, guests, targets.
//!
//! The tests run the executable that `cargo xtask dist` built (`$INPOD`, else target/dist/inpod), as the plain user whose
//! rights are the documented minimum.

pub mod footprint;
pub mod guests;
pub mod http;
pub mod network;
pub mod processes;
pub mod recorder;
pub mod routed;
mod run;
mod session;
mod stage;
pub mod suites;
pub mod talk;
mod targets;

pub use run::{Public, Run, cluster};
pub use session::{Ended, Session};
pub use stage::Stage;
pub use targets::{playground, shop, testbed, workspace};

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A deadline for hangs only: generous, since machines are slow and shared.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The executable under test.
#[must_use]
pub fn executable() -> PathBuf {
    let path = std::env::var_os("INPOD").map_or_else(|| workspace().join("target/dist/inpod"), PathBuf::from);
    assert!(
        path.exists(),
        "{} is missing: `cargo xtask dist` builds it",
        path.display()
    );
    path
}

/// `inpod` with arguments, the plain user's kubeconfig, and nothing of the caller's configuration.
#[must_use]
pub fn inpod(arguments: &[&str]) -> Command {
    let mut command = Command::new(executable());
    command.args(arguments).stdin(Stdio::null()).env_remove("INPOD_TARGET");
    command.env("KUBECONFIG", workspace().join("target/testbed/run/user/kubeconfig"));
    // What lies below the working directory is the machine's: the guests and what they write.
    command.current_dir(workspace());
    command
}

/// Waits for a condition.
///
/// # Panics
/// When it does not hold within [`PATIENCE`], naming what was waited for.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {} s for {what}", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A file of a test's own, in a directory that others can read.
#[must_use]
pub fn scratch(name: &str) -> PathBuf {
    let directory = workspace().join("target/tests").join(std::process::id().to_string());
    std::fs::create_dir_all(&directory).expect("target/tests can be made");
    directory.join(name)
}

/// Whether a process exists that is not a zombie.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .trim_start()
            .starts_with('Z')
    })
}

/// How many times each fault is tried: 3, or `INPOD_FAULT_ROUNDS`.
#[must_use]
pub fn fault_rounds() -> u32 {
    std::env::var("INPOD_FAULT_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(3)
}

/// A run that takes its time (`cargo xtask test --soak`): what is measured over seconds is measured over a minute.
#[must_use]
pub fn soak() -> bool {
    fault_rounds() >= 20
}
