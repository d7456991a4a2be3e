//! `cargo xtask conformance`: every kind of program, under every way of interception.

use clap::Args;

use crate::build::statically;
use crate::dist;
use crate::shell::{self, cargo, step};

/// Which cells, and how.
#[derive(Args)]
pub struct Options {
    /// Runs the guests without inpod, in an empty network: there each expectation that is the pod's must fail.
    #[arg(long)]
    bare: bool,
    /// In a pod of the testbed, which is brought up: one guest a language, by the engine `auto`.
    #[arg(long, conflicts_with = "bare")]
    cluster: bool,
    /// Writes docs/conformance.md anew from the table, and tests nothing.
    #[arg(long)]
    write: bool,
    /// Only tests whose name has this in it: `behaviour::language::engine`, or a program's test.
    filter: Option<String>,
}

/// # Errors
/// When a cell does not hold.
pub fn run(options: &Options) -> Result<(), String> {
    if options.write {
        let mut command = cargo(["test", "--release", "-p", "conformance", "--test", "document"]);
        return shell::run(command.env("CONFORMANCE_WRITE", "1"));
    }
    step("system packages", || {
        testbed::install_packages().map_err(|error| error.to_string())
    })?;
    let inpod = step("build the executable", dist::run)?;
    step("build the services", || statically(&["shop"]))?;
    let filter: Vec<&str> = options.filter.as_deref().into_iter().collect();
    if options.bare {
        return shell::run(
            cargo(
                ["test", "--release", "-p", "conformance", "--test", "matrix", "--"]
                    .iter()
                    .chain(&filter),
            )
            .env("INPOD", inpod)
            .env("CONFORMANCE_BARE", "1"),
        );
    }
    if options.cluster {
        step("the testbed", || {
            testbed::up(&testbed::Options::QUIET)
                .map(drop)
                .map_err(|error| error.to_string())
        })?;
        let arguments = [
            "test",
            "--release",
            "-p",
            "conformance",
            "--test",
            "cluster",
            "--",
            "--include-ignored",
        ];
        return shell::run(cargo(arguments.iter().chain(&filter)).env("INPOD", inpod));
    }
    let arguments = ["test", "--release", "-p", "conformance", "--no-fail-fast", "--"];
    shell::run(cargo(arguments.iter().chain(&filter)).env("INPOD", inpod))
}
