//! `cargo xtask bench`: what a session costs, side by side with the direct path, in one run.

mod cold_start;
mod distance;
mod files;
mod goals;
mod idle;
mod incoming;
mod load;
mod local;
mod run;
mod traffic;

use std::path::PathBuf;

use clap::Args;

use crate::shell::{root, say, step};
use goals::{Table, Verdict};

/// What to measure, and how strictly.
#[derive(Args)]
pub struct Options {
    /// Fails for a goal that is missed too, not only for a regression.
    #[arg(long)]
    strict: bool,
    /// Fewer rounds and 10 s of idleness instead of 60: for a look, not for the record.
    #[arg(long)]
    quick: bool,
    /// Only these parts: start, traffic, incoming, distance, local, load, idle, files.
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<Part>,
    /// Measures this executable instead of target/dist/inpod.
    #[arg(long, value_name = "FILE")]
    inpod: Option<PathBuf>,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq)]
enum Part {
    Start,
    Traffic,
    Incoming,
    Distance,
    Local,
    Load,
    Idle,
    Files,
}

/// One part: measures and fills its rows.
type Measure = fn(&Bench, &mut Table) -> Result<(), String>;

/// What every part needs.
struct Bench {
    inpod: PathBuf,
    guest: PathBuf,
    bare: PathBuf,
    /// What a cluster is needed for; the files' part does without.
    testbed: Option<testbed::Testbed>,
    quick: bool,
}

impl Bench {
    fn rounds(&self, full: usize) -> usize {
        if self.quick { full.div_ceil(3) } else { full }
    }

    fn testbed(&self) -> Result<&testbed::Testbed, String> {
        self.testbed.as_ref().ok_or_else(|| "the testbed is not up".to_owned())
    }

    /// The pod whose services are measured against.
    fn echo(&self) -> Result<testbed::Pod, String> {
        let admin = self.testbed()?.admin();
        admin
            .pod_of_deployment("default", "echo")
            .map_err(|error| error.to_string())
    }
}

/// # Errors
/// When something cannot be measured, a guarded value has regressed, or with `--strict` a goal is missed.
pub fn run(options: &Options) -> Result<(), String> {
    let bench = step("build", || prepare(options))?;
    let mut table = Table::default();
    let parts: [(&str, Part, Measure); 8] = [
        ("local calls", Part::Local, local::measure),
        ("load", Part::Load, load::measure),
        ("outgoing traffic", Part::Traffic, traffic::measure),
        ("incoming traffic", Part::Incoming, incoming::measure),
        ("the pod's files", Part::Files, files::measure),
        ("40 ms away", Part::Distance, distance::measure),
        ("start", Part::Start, cold_start::measure),
        ("idle", Part::Idle, idle::measure),
    ];
    let mut failures = Vec::new();
    for (name, part, measure) in parts {
        if options.only.is_empty() || options.only.contains(&part) {
            // What could be measured is told in any case.
            failures.extend(step(name, || measure(&bench, &mut table)).err());
        }
    }
    let text = table.markdown();
    print(&text);
    let file = root().join("target/bench/last.md");
    std::fs::create_dir_all(root().join("target/bench"))
        .and_then(|()| std::fs::write(&file, &text))
        .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    say(&format!("the table is in {}", file.display()));
    if !failures.is_empty() {
        return Err(failures.join("\n"));
    }
    let wrong = |verdict| table.names(verdict).join(", ");
    let (regressed, missed) = (wrong(Verdict::Regressed), wrong(Verdict::Missed));
    match (regressed.as_str(), missed.as_str()) {
        ("", "") => Ok(()),
        ("", missed) if options.strict => Err(format!("goals are missed: {missed}")),
        ("", missed) => {
            say(&format!("goals are missed (an error with --strict): {missed}"));
            Ok(())
        }
        (regressed, _) => Err(format!("slower than it was, beyond noise: {regressed}")),
    }
}

fn prepare(options: &Options) -> Result<Bench, String> {
    let dist = root().join("target/dist/inpod");
    let inpod = match &options.inpod {
        Some(inpod) => std::fs::canonicalize(inpod).map_err(|error| format!("{}: {error}", inpod.display()))?,
        None if dist.exists() => dist,
        None => crate::dist::run()?,
    };
    crate::shell::run(&mut crate::build::programs(&["bench-guest", "bench-bare"]))?;
    let testbed = match options.only.as_slice() {
        [Part::Files] => None,
        _ => Some(testbed::Testbed::require().map_err(|error| error.to_string())?),
    };
    let release = root().join("target/release");
    Ok(Bench {
        inpod,
        guest: release.join("bench-guest"),
        bare: release.join("bench-bare"),
        testbed,
        quick: options.quick,
    })
}

#[allow(clippy::print_stdout, reason = "the table is what was asked for")]
fn print(text: &str) {
    println!("{text}");
}
