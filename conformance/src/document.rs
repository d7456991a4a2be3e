//! docs/conformance.md, made from the table.

use std::fmt::Write as _;

use crate::cells;
use crate::language::{ALL, ENGINES, Language};
use crate::programs::PROGRAMS;
use crate::table::{BEHAVIOURS, Behaviour, EXCEPTIONS, Expectation, GROUPS, expectation};

const HEAD: &str = "\
<!-- Made from conformance/src/table by `cargo xtask conformance --write`. -->
# What works in which program

Small programs in many languages each do one thing that programs do, under `inpod exec` at a playground, and print what they
saw; `cargo xtask conformance` checks that it is what the table says. `cargo xtask conformance --bare` runs them without inpod,
where each expectation that is the pod's must fail.

Three marks a cell, for trap and layer together, trap alone, the layer alone:
`+` as the row says, `R` refused by name, `!` otherwise, see the exceptions. `.` is not tried: the language has no such call.
";

/// The whole file.
#[must_use]
pub fn markdown() -> String {
    let mut text = HEAD.to_owned();
    text.push_str("\n| column | programs |\n|---|---|\n");
    for language in ALL {
        let _ = writeln!(text, "| {} | {} |", language.name(), language.title());
    }
    for (group, title) in GROUPS {
        let _ = write!(text, "\n## {title}\n\n| behaviour |");
        for language in ALL {
            let _ = write!(text, " {} |", language.name());
        }
        let _ = write!(text, "\n|---|{}\n", "---|".repeat(ALL.len()));
        for behaviour in BEHAVIOURS.iter().filter(|behaviour| behaviour.group == *group) {
            let _ = write!(text, "| **{}**: {} |", behaviour.name, behaviour.title);
            for language in ALL {
                let _ = write!(text, " {} |", marks(behaviour, *language));
            }
            text.push('\n');
        }
    }
    text.push_str("\n## Real programs\n\n| program | what it does | |\n|---|---|---|\n");
    for program in PROGRAMS {
        let marks = if program.refused.is_some() { "++R" } else { "+++" };
        let _ = writeln!(text, "| {} | {} | {marks} |", program.name, program.title);
    }
    text.push_str("\n## Exceptions\n\n");
    for exception in EXCEPTIONS {
        let names = |all: Vec<&str>, every: &str| {
            if all.is_empty() {
                every.to_owned()
            } else {
                all.join(", ")
            }
        };
        let languages = exception.languages.iter().map(|language| language.name()).collect();
        let engines = exception.engines.iter().map(|engine| engine.name()).collect();
        let _ = writeln!(
            text,
            "- {} ({}; {}): {}",
            exception.behaviours.join(", "),
            names(languages, "every language"),
            names(engines, "every engine"),
            exception.reason
        );
    }
    text.push_str(
        "- The layer alone refuses programs that make their system calls themselves or do not load it: it cannot see what \
         they do. `inpod exec` says which, and that seccomp notification would serve them.\n",
    );
    let _ = writeln!(
        text,
        "\n{} cells, and {} of real programs.",
        cells::all(ENGINES).len(),
        PROGRAMS.len() * ENGINES.len()
    );
    text
}

fn marks(behaviour: &Behaviour, language: Language) -> String {
    if !behaviour.languages.contains(&language) {
        return ".".to_owned();
    }
    let mark = |engine| match expectation(behaviour, language, engine) {
        Expectation::Prints(_) => '+',
        Expectation::Differs(_) => '!',
        Expectation::Refused => 'R',
    };
    ENGINES.iter().map(|engine| mark(*engine)).collect()
}
