//! `cargo xtask test`: everything from a fresh checkout to the last passed test.

use std::process::Command;

use clap::Args;

use crate::build::statically;
use crate::shell::{self, cargo, step};
use crate::{conformance, demo, deny, dist, tidy};

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
    step("system packages", || {
        testbed::install_packages().map_err(|error| error.to_string())
    })?;
    step("format", || shell::run(&mut cargo(["fmt", "--all", "--check"])))?;
    step("house rules", tidy::run)?;
    step("dependencies: bans, licences, sources", deny::run)?;
    let inpod = step("build the executable", dist::run)?;
    let statics = step("build the services", || statically(&["agent", "shop"]))?;
    // The same for every cargo call, or cargo would build the command again for each that differs.
    let with_agent = |mut command: Command| {
        command
            .env("INPOD_EMBED_AGENT", statics.join("agent"))
            .env("INPOD", &inpod);
        command
    };
    let everything = ["--release", "--workspace", "--all-targets"];
    step("lint", || {
        shell::run(&mut with_agent(cargo(
            ["clippy"].iter().chain(&everything).chain(&["--", "-D", "warnings"]),
        )))
    })?;
    step("documentation", || {
        let mut doc = with_agent(cargo(["doc", "--release", "--workspace", "--no-deps"]));
        // The readers are people who change the code: links to private items are for them.
        shell::run(doc.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links"))
    })?;
    step("unit tests", || {
        let arguments = [
            "test",
            "--release",
            "--workspace",
            "--exclude",
            "tests",
            "--exclude",
            "conformance",
            "--no-fail-fast",
        ];
        shell::run(&mut with_agent(cargo(arguments)))
    })?;
    step("conformance", || conformance::test(&inpod, &[]))?;
    step("fuzz", || {
        shell::run(&mut with_agent(cargo([
            "test",
            "--release",
            "-p",
            "tests",
            "--test",
            "fuzz",
        ])))
    })?;
    step("the demo", || demo::run(&demo::Options::default()))?;
    step("the demo without rights", demo::run_unprivileged)?;
    if options.no_cluster {
        return Ok(());
    }
    step("the testbed", || {
        testbed::up(&testbed::Options::QUIET)
            .map(drop)
            .map_err(|error| error.to_string())
    })?;
    let tested = on_the_cluster(options, &with_agent);
    if options.keep {
        return tested;
    }
    let down = step("the testbed's end", || {
        testbed::down().map_err(|error| error.to_string())
    });
    tested.and(down)
}

fn on_the_cluster(options: &Options, with_agent: &dyn Fn(Command) -> Command) -> Result<(), String> {
    // One at a time: they share one cluster, and measure.
    let one_at_a_time = ["--test-threads", "1"];
    step("the testbed's own tests", || {
        let arguments = ["test", "--release", "-p", "testbed", "--", "--include-ignored"];
        shell::run(&mut with_agent(cargo(arguments.iter().chain(&one_at_a_time))))
    })?;
    step("delivery", || {
        let arguments = [
            "test",
            "--release",
            "-p",
            "target",
            "--test",
            "cluster",
            "--",
            "--include-ignored",
        ];
        shell::run(&mut with_agent(cargo(arguments.iter().chain(&one_at_a_time))))
    })?;
    step("end to end", || {
        let arguments = [
            "test",
            "--release",
            "-p",
            "tests",
            "--no-fail-fast",
            "--",
            "--skip",
            "no_decoder_panics",
        ];
        let mut command = with_agent(cargo(arguments.iter().chain(&one_at_a_time)));
        command.env("INPOD_FAULT_ROUNDS", if options.soak { "20" } else { "3" });
        shell::run(&mut command)
    })
}
