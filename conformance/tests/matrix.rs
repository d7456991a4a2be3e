//! Every cell of the table, as a test of its own: `behaviour::language::engine`.
//!
//! With `CONFORMANCE_BARE=1` the guests run without inpod, in an empty network: each expectation that is the pod's must then
//! fail, or it would show nothing.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock};

use conformance::cells::{Matrix, all};
use conformance::language::{ENGINES, Engine, Language, VIEWS, View};
use conformance::site::Site;
use conformance::soak::{self, Soak};
use libtest_mimic::{Arguments, Trial};

/// A supervisor that stands still most of the time: the same comes of it.
fn slow(matrix: &Arc<OnceLock<Matrix>>) -> Vec<Trial> {
    let mut trials = Vec::new();
    let languages: &'static [Language] = &[
        Language::C,
        Language::CStatic,
        Language::GoStatic,
        Language::Python,
        Language::Node,
        Language::Java,
    ];
    for view in VIEWS {
        for engine in ENGINES {
            // A descriptor that is put into a process by a supervisor which is stopped at that moment is lost in the kernel
            // (seccomp_notify_addfd, interrupted after SECCOMP_ADDFD_FLAG_SEND): open then says 0. See ARCHITECTURE.md.
            if *view != View::Namespace && *engine != Engine::Layer {
                continue;
            }
            let served = languages
                .iter()
                .filter(|language| *engine != Engine::Layer || language.can_be_preloaded());
            for language in served {
                let matrix = Arc::clone(matrix);
                let (language_name, engine_name) = (language.name(), engine.name());
                let name = format!("slow-supervisor::{language_name}::{engine_name}{}", view.suffix());
                trials.push(Trial::test(name, move || {
                    let matrix: &Matrix = matrix.get().expect("it is made before the tests");
                    matrix.check_slowly(*language, *engine, *view).map_err(Into::into)
                }));
            }
        }
    }
    trials
}

/// By the names that are given, as libtest-mimic goes by them.
fn is_asked_for(arguments: &Arguments, name: &str) -> bool {
    let is = |filter: &String| {
        if arguments.exact {
            name == filter
        } else {
            name.contains(filter)
        }
    };
    arguments.filter.as_ref().is_none_or(is) && !arguments.skip.iter().any(is)
}

fn main() -> ExitCode {
    let bare = std::env::var_os("CONFORMANCE_BARE").is_some_and(|value| value == "1");
    let arguments = Arguments::from_args();
    // Without inpod one is as good as the other.
    let engines: &[Engine] = if bare { &[Engine::Trap] } else { ENGINES };
    let views: &[View] = if bare { &[View::Namespace] } else { VIEWS };
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
    let mut trials: Vec<Trial> = all(engines, views).into_iter().map(trial).collect();
    let mut soaks = Vec::new();
    if !bare {
        trials.extend(slow(&matrix));
        for engine in soak::ENGINES {
            let name = format!("soak::go-static::{}", engine.name());
            let under_way = Arc::new(Mutex::new(None));
            // It runs beside the others, from the first to the last of them.
            if let Some(matrix) = matrix.get()
                && is_asked_for(&arguments, &name)
            {
                *under_way.lock().expect("nobody has it yet") = Some(Soak::start(&matrix.world, *engine));
            }
            soaks.push(Trial::test(name, move || {
                let soak = under_way.lock().expect("one test has it").take();
                soak.expect("it was started before the tests").end().map_err(Into::into)
            }));
        }
    }
    trials.extend(soaks);
    let code = libtest_mimic::run(&arguments, trials).exit_code();
    drop(matrix);
    code
}
