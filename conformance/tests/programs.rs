//! Real programs under each engine: `program::engine`.

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use conformance::language::{ENGINES, Engine};
use conformance::programs::{PROGRAMS, Stage, fails, refused, services};
use conformance::site::Site;
use conformance::world::World;
use libtest_mimic::{Arguments, Trial};

/// Each test's own port.
const FIRST_PORT: u16 = 22_000;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    // Made by this thread, which outlives every test, and only where a test runs.
    let world = Arc::new(OnceLock::new());
    if !arguments.list {
        let mut made = World::new(Site::playground());
        services(&mut made);
        let _ = world.set(made);
    }
    let mut trials = Vec::new();
    for (number, (engine, program)) in ENGINES
        .iter()
        .flat_map(|engine| PROGRAMS.iter().map(move |one| (*engine, one)))
        .enumerate()
    {
        let world = Arc::clone(&world);
        trials.push(Trial::test(format!("{}::{}", program.name, engine.name()), move || {
            let world: &World = world.get().expect("it is made before the tests");
            let port = FIRST_PORT + u16::try_from(number).expect("few programs");
            let stage = Stage { world, engine, port };
            let outcome = if fails(program, engine).is_some() {
                match (program.check)(&stage) {
                    Err(_) => Ok(()),
                    Ok(()) => Err("it works, against the table: remove it from FAILS".to_owned()),
                }
            } else if engine == Engine::Layer && program.refused.is_some() {
                refused(program, &stage)
            } else {
                (program.check)(&stage)
            };
            outcome.map_err(Into::into)
        }));
    }
    let code = libtest_mimic::run(&arguments, trials).exit_code();
    drop(world);
    code
}
