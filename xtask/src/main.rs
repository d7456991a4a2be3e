//! Everything about this repository that is more than one cargo command.

mod bench;
mod build;
mod ci;
mod conformance;
mod demo;
mod deny;
mod dist;
mod programs;
mod shell;
mod testbed;
mod tidy;
mod verdict;

use clap::{Parser, Subcommand};

/// Builds, tries, tests and measures inpod.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a local program inside the playground, showing each capability as it happens. Needs no cluster and no root.
    Demo(demo::Options),
    /// Installs and builds what the tests need, then runs them all.
    Test(ci::Options),
    /// A real one-node Kubernetes on this machine: up, down, status.
    Testbed(testbed::Arguments),
    /// Every kind of program under every way of interception, against the table in conformance/.
    Conformance(conformance::Options),
    /// Measures what a session costs, side by side with the direct path, against the goals.
    Bench(bench::Options),
    /// Builds the one executable with everything inside: target/dist/inpod.
    Dist,
    /// Checks the house rules that no other tool checks.
    Tidy,
}

fn main() -> std::process::ExitCode {
    let done = match Arguments::parse().command {
        Command::Demo(options) => demo::run(&options),
        Command::Test(options) => ci::run(&options),
        Command::Testbed(arguments) => testbed::run(&arguments),
        Command::Conformance(options) => conformance::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Dist => dist::run().map(drop),
        Command::Tidy => tidy::run(),
    };
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(message) => {
            shell::say(&format!("xtask: {message}"));
            std::process::ExitCode::FAILURE
        }
    }
}
