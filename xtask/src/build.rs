//! The separate cargo invocations: the static agent and services, and the layer, have flags of their own.

use std::path::PathBuf;
use std::process::Command;

use crate::shell::{cargo, root, run};

/// The one target of what is built by its name. Naming it keeps its flags away from build scripts and proc macros.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// How programs of the workspace are built into target/release. All with the features that the whole workspace asks for, as its tests
/// have them: cargo would resolve them anew for packages that are named, and compile much of it twice.
#[must_use]
pub fn programs(names: &[&str]) -> Command {
    let mut command = cargo(["build", "--release", "--workspace"]);
    command.args(names.iter().flat_map(|name| ["--bin", name]));
    command
}

/// Builds statically linked programs and returns the directory they lie in.
///
/// # Errors
/// When cargo fails.
pub fn statically(names: &[&str]) -> Result<PathBuf, String> {
    let (mut build, directory) = testbed::statically(&root(), names);
    run(&mut build)?;
    Ok(directory)
}

/// Builds `libinpod_layer.so` and returns where it lies. It needs no library and no version of a symbol, so that every glibc
/// takes it: what it links against is empty.
///
/// # Errors
/// When cargo fails, or a file cannot be written.
pub fn layer() -> Result<PathBuf, String> {
    let directory = root().join("target/layer");
    let nothing = directory.join("nothing");
    let write = |name: &str| std::fs::write(nothing.join(name), "INPUT()\n");
    std::fs::create_dir_all(&nothing)
        .and_then(|()| write("libc.so"))
        .and_then(|()| write("libgcc_s.so"))
        .map_err(|error| format!("cannot write {}: {error}", nothing.display()))?;
    let mut command = cargo(["rustc", "--release", "-p", "layer", "--features", "standalone", "--lib"]);
    command
        .args(["--crate-type", "cdylib", "--target", TARGET, "--target-dir"])
        .arg(&directory)
        // Small, and without what unwinding and checks would pull in.
        .env("CARGO_PROFILE_RELEASE_LTO", "fat")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
        .env("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "false")
        .env(
            "RUSTFLAGS",
            format!(
                "-C panic=abort -C link-arg=-nostdlib -C relro-level=partial -L native={}",
                nothing.display()
            ),
        );
    run(&mut command)?;
    Ok(directory.join(TARGET).join("release/libinpod_layer.so"))
}
