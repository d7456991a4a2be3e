//! The separate cargo invocations: the static agent and services have flags of their own.

use std::path::PathBuf;

use crate::shell::{cargo, root, run};

/// The one target of the static programs. Naming it keeps their flags away from build scripts and proc macros.
const STATIC_TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds statically linked programs and returns the directory they lie in.
///
/// # Errors
/// When cargo fails.
pub fn statically(packages: &[&str]) -> Result<PathBuf, String> {
    let directory = root().join("target/static");
    let mut command = cargo(["build", "--release", "--target", STATIC_TARGET, "--target-dir"]);
    command.arg(&directory);
    for package in packages {
        command.args(["-p", package]);
    }
    command.env(
        "RUSTFLAGS",
        "-C target-feature=+crt-static --cfg getrandom_backend=\"linux_getrandom\"",
    );
    run(&mut command)?;
    Ok(directory.join(STATIC_TARGET).join("release"))
}
