//! Every cell of the table, as a test of its own: `behaviour::language::engine`.
//!
//! With `CONFORMANCE_BARE=1` the guests run without inpod, in an empty network: each expectation that is the pod's must then
//! fail, or it would show nothing.

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use conformance::cells::{Matrix, all};
use conformance::language::{ENGINES, Engine};
use conformance::site::Site;
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let bare = std::env::var_os("CONFORMANCE_BARE").is_some_and(|value| value == "1");
    let arguments = Arguments::from_args();
    // Without inpod one is as good as the other.
    let engines: &[Engine] = if bare { &[Engine::Trap] } else { ENGINES };
    // Made by this thread, which outlives every test, and only where a test runs.
    let matrix = Arc::new(OnceLock::new());
    if !arguments.list {
        let _ = matrix.set(Matrix::new(Site::playground(), bare));
    }
    let trial = |cell: conformance::cells::Cell| {
        let matrix = Arc::clone(&matrix);
        Trial::test(cell.name(), move || {
            let matrix: &Matrix = matrix.get().expect("it is made before the tests");
            matrix.check(&cell).map_err(Into::into)
        })
    };
    let trials = all(engines).into_iter().map(trial).collect();
    let code = libtest_mimic::run(&arguments, trials).exit_code();
    drop(matrix);
    code
}
