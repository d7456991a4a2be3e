//! cargo-deny, installed into the checkout: bans, licences and sources. Its advisory database cannot be reached where CI
//! runs.

use std::process::Command;

use crate::shell::{self, cargo, root};

/// The version that is installed.
const VERSION: &str = "0.20.2";

/// # Errors
/// When it cannot be built, or finds something.
pub fn run() -> Result<(), String> {
    let tools = root().join("target/tools");
    let program = tools.join("bin/cargo-deny");
    if !program.exists() {
        let mut install = cargo([
            "install",
            "cargo-deny",
            // One check takes no time to speak of, whichever way it is built.
            "--debug",
            "--locked",
            "--no-default-features",
            "--version",
            VERSION,
        ]);
        install
            .arg("--root")
            .arg(&tools)
            .arg("--target-dir")
            .arg(tools.join("build"));
        shell::run(&mut install)?;
        let _ = std::fs::remove_dir_all(tools.join("build"));
    }
    let arguments = ["check", "bans", "licenses", "sources"];
    shell::run(Command::new(program).args(arguments).current_dir(root()))
}
