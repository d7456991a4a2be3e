//! Public file system test suites, built from crates.io.

use std::path::PathBuf;
use std::process::Command;

use crate::workspace;

/// A suite's program; built where this version is not there yet.
///
/// # Panics
/// When cargo cannot build it.
#[must_use]
pub fn program(name: &str, version: &str) -> PathBuf {
    let root = workspace().join("target/suites").join(format!("{name}-{version}"));
    let program = root.join("bin").join(name);
    if !program.exists() {
        let built = Command::new("cargo")
            .args(["install", name, "--version", version, "--locked", "--debug", "--root"])
            .arg(&root)
            .args(["--target-dir"])
            .arg(workspace().join("target/suites/build"))
            .output()
            .expect("cargo can be run");
        assert!(
            built.status.success(),
            "cargo install {name}: {}",
            String::from_utf8_lossy(&built.stderr)
        );
    }
    program
}
