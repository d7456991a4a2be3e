//! `cargo xtask test`: everything from a fresh checkout to the last passed test.

use std::path::Path;
use std::process::Command;

use clap::Args;

use crate::build::{layer, statically};
use crate::programs::Tests;
use crate::shell::{self, cargo, step};
use crate::{demo, deny, dist, tidy};

/// What to run.
#[derive(Args)]
pub struct Options {
    /// Repeats the fault tests 20 times instead of 3, and has a thousand goroutines work for half an hour instead of two minutes.
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
    let layer = layer()?;
    // The same for every cargo call, or cargo would build the command again for each that differs.
    let embedding = |mut command: Command| {
        command
            .env("INPOD_EMBED_AGENT", statics.join("agent"))
            .env("INPOD_EMBED_LAYER", &layer);
        command
    };
    let everything = ["--release", "--workspace", "--all-targets"];
    step("lint", || {
        shell::run(&mut embedding(cargo(
            ["clippy"].iter().chain(&everything).chain(&["--", "-D", "warnings"]),
        )))
    })?;
    step("documentation", || {
        let mut doc = embedding(cargo(["doc", "--release", "--workspace", "--no-deps"]));
        // The readers are people who change the code: links to private items are for them.
        shell::run(doc.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links"))
    })?;
    let tests = step("build the tests", || Tests::build(&embedding))?;
    let tested = all(options, &tests, &layer, &inpod);
    tests.say_flaky();
    tested
}

fn all(options: &Options, tests: &Tests, layer: &Path, inpod: &Path) -> Result<(), String> {
    let shown = |path: &Path| path.display().to_string();
    step("unit tests", || {
        tests
            .without(&["tests", "conformance"])
            .variable("INPOD_LAYER", shown(layer))
            .run()
    })?;
    for engine in ["trap+layer", "layer"] {
        step(&format!("the trap's tests, engine {engine}"), || {
            let trap = tests.of("trap", None);
            trap.variable("INPOD_LAYER", shown(layer))
                .variable("INPOD_ENGINE", engine)
                .run()
        })?;
    }
    step("conformance", || {
        let seconds = if options.soak { "1800" } else { "120" };
        tests
            .of("conformance", None)
            .variable("INPOD", shown(inpod))
            .variable("INPOD_CONFORMANCE_SOAK", seconds)
            .run()
    })?;
    step("fuzz", || tests.of("tests", Some("fuzz")).run())?;
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
    let tested = on_the_cluster(options, tests, &shown(inpod));
    if options.keep {
        return tested;
    }
    let down = step("the testbed's end", || {
        testbed::down().map_err(|error| error.to_string())
    });
    tested.and(down)
}

fn on_the_cluster(options: &Options, tests: &Tests, inpod: &str) -> Result<(), String> {
    // One at a time: they share one cluster, and measure.
    let one_at_a_time = ["--test-threads", "1"];
    let ignored_too = ["--include-ignored", "--test-threads", "1"];
    step("the testbed's own tests", || {
        tests.of("testbed", Some("cluster")).arguments(&ignored_too).run()
    })?;
    step("delivery", || {
        tests.of("target", Some("cluster")).arguments(&ignored_too).run()
    })?;
    step("conformance on the cluster", || {
        tests
            .of("conformance", Some("cluster"))
            .arguments(&["--include-ignored"])
            .variable("INPOD", inpod)
            .run()
    })?;
    step("end to end", || {
        tests
            .of("tests", None)
            .arguments(&one_at_a_time)
            .arguments(&["--skip", "no_decoder_panics"])
            .variable("INPOD", inpod)
            .variable("INPOD_FAULT_ROUNDS", if options.soak { "20" } else { "3" })
            .run()
    })
}
