//! Public test suites, built from crates.io and from Go modules.

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
        let mut cargo = Command::new("cargo");
        cargo
            .args(["install", name, "--version", version, "--locked", "--debug", "--root"])
            .arg(&root)
            .args(["--target-dir"])
            .arg(workspace().join("target/suites/build"));
        build(&mut cargo, "cargo can be run");
    }
    program
}

/// The programs of these Go packages, which tests/suites/go.mod has; built where they are not there yet.
///
/// # Panics
/// When go cannot build them.
#[must_use]
pub fn go<const N: usize>(packages: [(&str, &str); N]) -> [PathBuf; N] {
    let source = workspace().join("tests/suites");
    packages.map(|(name, package)| {
        let program = workspace().join("target/suites/go").join(name);
        // It knows itself what is to be done.
        let mut go = Command::new("go");
        go.args(["build", "-buildvcs=false", "-trimpath", "-o"])
            .args([program.as_os_str(), package.as_ref()])
            .current_dir(&source)
            .env("CGO_ENABLED", "0");
        build(&mut go, "Go is installed (https://go.dev/dl)");
        program
    })
}

fn build(command: &mut Command, there: &str) {
    let built = command.output().expect(there);
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{command:?}: {said}");
}
