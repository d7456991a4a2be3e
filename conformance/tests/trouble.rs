//! Programs that are killed in the middle of a call: `killed::call::engine`, with `::copy` where files are copied.

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use conformance::language::{ENGINES, VIEWS};
use conformance::programs::{Outcome, Stage};
use conformance::site::Site;
use conformance::trouble::{CALLS, Call, killed, killed_alone, name};
use conformance::world::{Full, World};
use libtest_mimic::{Arguments, Trial};

/// Each test's own port.
const FIRST_PORT: u16 = 23_000;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    // Made by this thread, which outlives every test, and only where a test runs.
    let world = Arc::new(OnceLock::new());
    if !arguments.list {
        let _ = world.set(World::new(Site::playground()));
    }
    let full: Option<Full> = world.get().map(World::full);
    let mut trials = Vec::new();
    let mut port = FIRST_PORT;
    for view in VIEWS {
        for call in CALLS {
            for engine in ENGINES.iter().filter(|engine| call.is_tried_with(*view, **engine)) {
                // The app alone would have to go on with a supervisor that it has stopped itself; its threads end it anyway.
                let alone = matches!(call, Call::Connect | Call::Accept | Call::Resolve);
                for alone in [false, true].into_iter().filter(|only| !only || alone) {
                    let (world, this) = (Arc::clone(&world), port);
                    port += 1;
                    trials.push(Trial::test(name(*call, *engine, *view, alone), move || {
                        let world: &World = world.get().expect("it is made before the tests");
                        let stage = Stage {
                            world,
                            engine: *engine,
                            port: this,
                        };
                        let outcome: Outcome = if alone {
                            killed_alone(&stage, *view, *call)
                        } else {
                            killed(&stage, *view, *call)
                        };
                        outcome.map_err(Into::into)
                    }));
                }
            }
        }
    }
    let code = libtest_mimic::run(&arguments, trials).exit_code();
    drop(full);
    drop(world);
    code
}
