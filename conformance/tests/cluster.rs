//! The same table in a pod of the real cluster, through the API server and as the user with the documented rights: one
//! guest a language, by the engine that `--engine auto` stands for. Ignored unless asked for (`--include-ignored`), as all
//! tests that need the testbed.

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use conformance::cells::{Matrix, all};
use conformance::language::{Engine, Language, View};
use conformance::site::Site;
use libtest_mimic::{Arguments, Trial};

const LANGUAGES: &[Language] = &[
    Language::C,
    Language::CStatic,
    Language::GoStatic,
    Language::Rust,
    Language::Python,
    Language::Node,
    Language::Java,
    Language::Bash,
    Language::Busybox,
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    // Made by this thread, which outlives every test, and only where a test runs.
    let matrix = Arc::new(OnceLock::new());
    if !arguments.list && (arguments.include_ignored || arguments.ignored) {
        let _ = matrix.set(Matrix::new(Site::pod(), false));
    }
    let cells = all(&[Engine::TrapAndLayer], &[View::Namespace])
        .into_iter()
        .filter(|cell| LANGUAGES.contains(&cell.language));
    let trial = |cell: conformance::cells::Cell| {
        let matrix = Arc::clone(&matrix);
        let trial = Trial::test(cell.name(), move || {
            let matrix: &Matrix = matrix.get().expect("it is made before the tests");
            matrix.check(&cell).map_err(Into::into)
        });
        trial.with_ignored_flag(true)
    };
    let code = libtest_mimic::run(&arguments, cells.map(trial).collect()).exit_code();
    // The pod goes with it.
    drop(matrix);
    code
}
