//! The agent's process: arguments, the process' own protection, then the library.

fn main() -> std::process::ExitCode {
    agent::run(std::env::args_os().skip(1))
}
