//! The `inpod` command.

use std::process::ExitCode;

use inpod::cli::{Cli, Command};
use inpod::error::CliError;
use inpod::report::{Report, Style};
use inpod::{doctor, dump, exec, ls, plan, sessions};

fn main() -> ExitCode {
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return ExitCode::from(code),
    };
    inpod::log::init();
    let done = match &cli.command {
        Command::Exec(arguments) => exec::run(arguments),
        Command::Ls(arguments) => ls::run(arguments).map(|()| 0),
        Command::Plan(arguments) => plan::run(arguments).map(|()| 0),
        Command::Sessions(arguments) => sessions::run(arguments).map(|()| 0),
        Command::Dump(arguments) => dump::run(arguments).map(|()| 0),
        Command::Doctor(arguments) => doctor::run(arguments).map(|()| 0),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => leave(&error),
    }
}

/// What fails before a report exists is told as to a person.
fn leave(error: &CliError) -> ExitCode {
    // Without stderr there is nobody to tell but the exit code.
    if let Ok(report) = Report::new(Style::Person { verbose: 0 }) {
        report.error(error);
        report.finish();
    }
    ExitCode::from(error.kind.code())
}
