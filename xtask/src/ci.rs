//! `cargo xtask test`: everything from a fresh checkout to the last passed test.

use std::process::Command;

use clap::Args;

use crate::shell::{self, cargo, root, step};
use crate::{demo, dist, tidy};

/// What to run.
#[derive(Args)]
pub struct Options {
    /// Repeats the fault tests 20 times instead of 3.
    #[arg(long)]
    soak: bool,
    /// Leaves out what needs the Kubernetes testbed. For a quick look only: CI runs everything.
    #[arg(long)]
    no_cluster: bool,
    /// Leaves the testbed up afterwards.
    #[arg(long)]
    keep: bool,
}

/// # Errors
/// The first step that fails.
pub fn run(options: &Options) -> Result<(), String> {
    step("system packages", || testbed::install_packages().map_err(|error| error.to_string()))?;
    step("format", || shell::run(&mut cargo(["fmt", "--all", "--check"])))?;
    step("house rules", tidy::run)?;
    step("build the executable", dist::run)?;
    step("lint", || shell::run(&mut cargo(["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"])))?;
    step("unit and conformance tests", || {
        shell::run(&mut cargo(["test", "--release", "--workspace", "--exclude", "tests", "--no-fail-fast"]))
    })?;
    step("the demo", || demo::run(&demo::Options::default()))?;
    step("the demo without rights", demo::run_unprivileged)?;
    if options.no_cluster {
        return Ok(());
    }
    step("the testbed", || testbed::up(&testbed::Options::QUIET).map(drop).map_err(|error| error.to_string()))?;
    let tested = step("end to end", || shell::run(&mut end_to_end(options)));
    if options.keep {
        return tested;
    }
    let down = step("the testbed's end", || testbed::down().map_err(|error| error.to_string()));
    tested.and(down)
}

fn end_to_end(options: &Options) -> Command {
    let mut command = cargo(["test", "--release", "-p", "tests", "--", "--test-threads", "1"]);
    command.env("INPOD", root().join("target/dist/inpod"));
    command.env("INPOD_FAULT_ROUNDS", if options.soak { "20" } else { "3" });
    command
}
