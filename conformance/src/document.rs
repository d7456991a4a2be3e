//! docs/conformance.md, made from the table.

use std::fmt::Write as _;

use crate::cells;
use crate::language::{ALL, ENGINES, Engine, Language, VIEWS, View};
use crate::programs::{FAILS, PROGRAMS, fails};
use crate::table::{BEHAVIOURS, Behaviour, EXCEPTIONS, Expectation, GROUPS, TRAPPING, expectation, is_tried_with};

const HEAD: &str = "\
<!-- Made from conformance/src/table by `cargo xtask conformance --write`. -->
# What works in which program

Small programs in many languages each do one thing that programs do, under `inpod exec` at a playground, and print what they
saw; `cargo xtask conformance` checks that it is what the table says. `cargo xtask conformance --bare` runs them without inpod,
where each expectation that is the pod's must fail.

Three marks a cell, for trap and layer together, trap alone, the layer alone:
`+` as the row says, `R` refused by name, `!` otherwise, see the exceptions. `.` is not tried: the language has no such call.
";

const TROUBLE: &str = "
## Trouble

- Supervisor and server stand still most of the time (SIGSTOP and SIGCONT, from outside): the rows above hold all the same, in C, static
  C, static Go, Python, Node and Java, under each engine, and with files copied or mounted aside under the layer alone.
- 200 processes are killed (SIGKILL) in the middle of a call: connect to a listener that accepts nobody, accept on a stolen port, a look-up
  while the name server is silent, open and connect while inpod stands still, and all of these at once by threads of which one ends the
  process. The rest of the tree is served on, and inpod has as many descriptors open as before, with two exceptions: a connect that nobody
  waits for any more, and an association for datagrams of a killed program, stay open until they end by themselves. Where it is the app
  itself that is killed, `inpod exec` ends with 137.
- 1000 goroutines of a static Go program, on files and connections of the pod and of this machine, with GOGC=1 and collections all the time:
  for two minutes every byte is right, no connection is lost, and no descriptors are left over in the program, the supervisor and the server.
  `INPOD_CONFORMANCE_SOAK=1800 cargo xtask conformance soak` takes half an hour; `cargo xtask test --soak` does so too.
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
        let rows = BEHAVIOURS.iter().filter(|behaviour| behaviour.group == *group);
        table(&mut text, title, rows, ALL, View::Namespace);
    }
    for (title, view) in [
        ("The same where files are mounted aside by fusermount3", View::Path),
        ("The same where files are copied on first use", View::Copy),
    ] {
        let tried = BEHAVIOURS
            .iter()
            .filter(|behaviour| TRAPPING.iter().any(|one| is_tried_with(behaviour, *one, view)));
        table(&mut text, title, tried, TRAPPING, view);
    }
    text.push_str("\n## Real programs\n\n| program | what it does | |\n|---|---|---|\n");
    for program in PROGRAMS {
        let mark = |engine: &Engine| match (fails(program, *engine), program.refused, engine) {
            (Some(_), ..) => '!',
            (None, Some(_), Engine::Layer) => 'R',
            _ => '+',
        };
        let marks: String = ENGINES.iter().map(mark).collect();
        let _ = writeln!(text, "| {} | {} | {marks} |", program.name, program.title);
    }
    text.push_str(TROUBLE);
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
        let views = exception.views.iter().map(|view| view.title()).collect();
        let _ = write!(
            text,
            "- {} ({}; {}; {}): {}",
            exception.behaviours.join(", "),
            names(languages, "every language"),
            names(engines, "every engine"),
            names(views, "every view"),
            exception.reason
        );
        if !exception.says.is_empty() {
            let _ = write!(text, " `inpod exec` says so: `{}`.", exception.says);
        }
        text.push('\n');
    }
    for (program, engine, reason) in FAILS {
        let _ = writeln!(text, "- {program} ({}): {reason}", engine.name());
    }
    text.push_str(
        "- The layer alone refuses programs that make their system calls themselves or do not load it: it cannot see what \
         they do. `inpod exec` says which, and that seccomp notification would serve them.\n",
    );
    let _ = writeln!(
        text,
        "\n{} cells, and {} of real programs.",
        cells::all(ENGINES, VIEWS).len(),
        PROGRAMS.len() * ENGINES.len()
    );
    text
}

fn table<'a>(
    text: &mut String,
    title: &str,
    rows: impl Iterator<Item = &'a Behaviour>,
    languages: &[Language],
    view: View,
) {
    let _ = write!(text, "\n## {title}\n\n| behaviour |");
    for language in languages {
        let _ = write!(text, " {} |", language.name());
    }
    let _ = write!(text, "\n|---|{}\n", "---|".repeat(languages.len()));
    for behaviour in rows {
        let _ = write!(text, "| **{}**: {} |", behaviour.name, behaviour.title);
        for language in languages {
            let _ = write!(text, " {} |", marks(behaviour, *language, view));
        }
        text.push('\n');
    }
}

fn marks(behaviour: &Behaviour, language: Language, view: View) -> String {
    if !is_tried_with(behaviour, language, view) {
        return ".".to_owned();
    }
    let mark = |engine| match expectation(behaviour, language, engine, view) {
        Expectation::Prints(_) => '+',
        Expectation::Differs(_) => '!',
        Expectation::Refused => 'R',
    };
    ENGINES.iter().map(|engine| mark(*engine)).collect()
}
