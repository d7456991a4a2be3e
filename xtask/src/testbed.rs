//! `cargo xtask testbed up|down|status`: the local Kubernetes of the tests.

use std::io::{self, Write};

use testbed::{Options, Phase};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Brings it up, as root: builds what has changed, installs missing packages; at once where it is up already.
    Up,
    /// Ends it and leaves the machine as it was; what was built stays in target/testbed.
    Down,
    /// Shows what runs of it.
    Status,
}

pub fn run(arguments: &Arguments) -> Result<(), String> {
    let done = match arguments.command {
        Command::Up => up(),
        Command::Down => testbed::down(),
        Command::Status => {
            status();
            Ok(())
        }
    };
    done.map_err(|problem| problem.to_string())
}

fn up() -> Result<(), testbed::Error> {
    let report = |phase: Phase<'_>| match phase {
        Phase::Begins(name) => say(&format!("         {name} ...")),
        Phase::Ended(name, time) => say(&format!("{:6.1} s {name}", time.as_secs_f64())),
    };
    let running = testbed::up(&Options { report: &report })?;
    if !running.started {
        say("It was up already, from these sources.");
    }
    say("As the plain user, with the rights of testbed/manifests/minimum-rbac.yaml:");
    say(&format!("    export KUBECONFIG={}", running.user_kubeconfig.display()));
    say(&format!(
        "The administrator's, for root only: {}",
        running.admin_kubeconfig.display()
    ));
    Ok(())
}

fn status() {
    let status = testbed::status();
    for (program, alive) in &status.programs {
        let state = if *alive { "runs" } else { "has ended" };
        say(&format!("{:20} pid {:7} {state}", program.name, program.pid));
    }
    for leftover in &status.leftovers {
        say(&format!(
            "left behind: {leftover} (`cargo xtask testbed down` removes it)"
        ));
    }
    if status.running {
        say(&format!("\n{}", status.pods));
        say(&format!("    export KUBECONFIG={}", status.user_kubeconfig.display()));
    } else {
        say("The testbed is not up: `cargo xtask testbed up`");
    }
}

fn say(line: &str) {
    // A reader that has gone away does not stop the work.
    let _ = writeln!(io::stdout(), "{line}");
}
