//! The workspace's test programs: built once, all with the same features, and run one by one. Naming packages to cargo
//! instead would resolve features anew for each choice, and compile the larger dependencies several times.

use std::cell::RefCell;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::shell::{cargo, say};
use crate::verdict::{Verdict, run};

/// So many failed tests of one program may be those of a busy machine; more are not tried again.
const MOST_TRIED_AGAIN: usize = 2;

/// One test program.
struct Program {
    /// The directory of its package, by whose name it is asked for.
    directory: PathBuf,
    name: String,
    file: PathBuf,
}

/// All test programs.
pub struct Tests {
    programs: Vec<Program>,
    /// The tests that failed and then passed alone.
    flaky: RefCell<Vec<String>>,
}

impl Tests {
    /// Builds them; `with` adds what every cargo call here must have alike.
    ///
    /// # Errors
    /// When cargo fails.
    pub fn build(with: &dyn Fn(Command) -> Command) -> Result<Self, String> {
        let format = "--message-format=json-render-diagnostics";
        let mut command = with(cargo(["test", "--release", "--workspace", "--no-run", format]));
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot run cargo: {error}"))?;
        let lines = child.stdout.take().map(BufReader::new);
        let messages = lines.into_iter().flat_map(BufRead::lines).map_while(Result::ok);
        let programs = messages.filter_map(|line| program(&line)).collect();
        let status = child.wait().map_err(|error| error.to_string())?;
        if status.success() {
            Ok(Self {
                programs,
                flaky: RefCell::default(),
            })
        } else {
            Err(format!("cargo test --no-run failed: {status}"))
        }
    }

    /// The programs of one package, or only the one of that name.
    pub fn of(&self, package: &str, name: Option<&str>) -> Selected<'_> {
        self.select(|program| program.directory.ends_with(package) && name.is_none_or(|name| program.name == name))
    }

    /// All but those of some packages.
    pub fn without(&self, packages: &[&str]) -> Selected<'_> {
        self.select(|program| !packages.iter().any(|package| program.directory.ends_with(package)))
    }

    /// Names the tests that failed and then passed alone, for whoever reads only the end.
    pub fn say_flaky(&self) {
        for test in self.flaky.borrow().iter() {
            say(&format!(
                "FLAKY: {test} failed among others and passed alone: its output is above, and it wants to be understood"
            ));
        }
    }

    fn select(&self, wanted: impl Fn(&Program) -> bool) -> Selected<'_> {
        Selected {
            programs: self.programs.iter().filter(|program| wanted(program)).collect(),
            flaky: &self.flaky,
            arguments: Vec::new(),
            variables: Vec::new(),
        }
    }
}

/// Some of the programs, and how they are run.
pub struct Selected<'a> {
    programs: Vec<&'a Program>,
    flaky: &'a RefCell<Vec<String>>,
    arguments: Vec<&'a str>,
    variables: Vec<(&'a str, String)>,
}

impl<'a> Selected<'a> {
    pub fn arguments(mut self, arguments: &[&'a str]) -> Self {
        self.arguments.extend(arguments);
        self
    }

    pub fn variable(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// Runs them all, whichever fails.
    ///
    /// # Errors
    /// The names of those that fail, or when there are none: a test that is not run must not pass.
    pub fn run(&self) -> Result<(), String> {
        if self.programs.is_empty() {
            return Err("no test program has that name".to_owned());
        }
        let failed: Vec<String> = self
            .programs
            .iter()
            .filter_map(|program| self.one(program).err())
            .collect();
        if failed.is_empty() {
            return Ok(());
        }
        Err(failed.join("\n"))
    }

    fn one(&self, program: &Program) -> Result<(), String> {
        let package = program.directory.file_name().unwrap_or_default().display();
        let name = format!("{package}: {}", program.name);
        say(&format!("  running {name}"));
        let failed = match run(&mut self.command(program))? {
            Verdict::Passed => return Ok(()),
            Verdict::Failed(tests) if tests.len() <= MOST_TRIED_AGAIN => tests,
            Verdict::Failed(tests) => return Err(format!("{name}: {} failed", tests.join(", "))),
        };
        for test in failed {
            say(&format!("  once more, alone: {test}"));
            match run(self.command(program).args(["--exact", &test]))? {
                Verdict::Passed => self.flaky.borrow_mut().push(format!("{name}: {test}")),
                Verdict::Failed(_) => return Err(format!("{name}: {test} failed twice")),
            }
        }
        Ok(())
    }

    fn command(&self, program: &Program) -> Command {
        let mut command = Command::new(&program.file);
        command
            .args(&self.arguments)
            .current_dir(&program.directory)
            // As cargo runs them.
            .env("CARGO_MANIFEST_DIR", &program.directory)
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// The test program that a message of cargo tells of, if it does.
fn program(message: &str) -> Option<Program> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    if message["profile"]["test"] != true {
        return None;
    }
    Some(Program {
        directory: PathBuf::from(message["manifest_path"].as_str()?).parent()?.to_owned(),
        name: message["target"]["name"].as_str()?.to_owned(),
        file: message["executable"].as_str()?.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::program;

    #[test]
    fn test_programs_are_found_among_other_messages() {
        let line = r#"{"reason":"compiler-artifact","manifest_path":"/w/crates/trap/Cargo.toml","target":{"name":"outgoing"},
            "profile":{"test":true},"executable":"/w/target/release/deps/outgoing-1"}"#;
        let found = program(line).unwrap();
        assert_eq!(
            (found.name.as_str(), found.directory.ends_with("trap")),
            ("outgoing", true)
        );
        let library = line.replace("true", "false");
        assert!(program(&library).is_none() && program("{}").is_none() && program("no JSON").is_none());
    }
}
