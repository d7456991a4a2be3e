//! Which interceptors work in this session: what was asked for, and what this machine allows.

use std::path::PathBuf;

use config::EngineChoice;
use guest::image::Facts;
use guest::marker::Marker;
use guest::protocol::Ready;
use rules::Plan;
use session::Directory;
use trap::{Calls, Engine, PathView};

use crate::error::{CliError, Kind};
use crate::layer;

/// The name of the socket where the layer's calls arrive, in the session's directory.
const CALLS: &str = "calls";

/// What the launch needs of the engine.
pub(crate) struct Interception {
    pub(crate) marker: Marker,
    pub(crate) layer: Option<PathBuf>,
    pub(crate) alone: Option<Calls>,
    /// What a person should know: the layer could not be had, and programs are slower for it.
    pub(crate) warning: Option<String>,
}

/// The engine for this session.
///
/// # Errors
/// When what was asked for by name is not to be had.
pub(crate) fn choose(wanted: EngineChoice, machine: &Machine) -> Result<Engine, CliError> {
    match (wanted, &machine.why_no_trap) {
        (EngineChoice::Layer, _) | (EngineChoice::Auto, Some(_)) => Ok(Engine::Layer),
        (EngineChoice::Auto, None) => Ok(Engine::TrapAndLayer),
        (EngineChoice::Trap, None) => Ok(Engine::Trap),
        (EngineChoice::Trap, Some(why)) => Err(CliError {
            kind: Kind::Machine,
            message: format!("`--engine trap` is not to be had here: {why}"),
            causes: Vec::new(),
            hints: vec!["`inpod doctor` says what this machine allows; `--engine layer` serves dynamic programs".to_owned()],
        }),
    }
}

/// What this machine allows, as far as the engine is concerned.
pub(crate) struct Machine {
    pub(crate) why_no_trap: Option<String>,
    /// Other processes' memory can be read.
    pub(crate) memory: bool,
}

/// Puts the layer in its place and opens what it talks to.
///
/// # Errors
/// When the layer would be alone and cannot be had.
pub(crate) fn prepare(
    engine: Engine,
    machine: &Machine,
    plan: &Plan,
    ready: &Ready,
    directory: &Directory,
    paths: &PathView,
) -> Result<Interception, CliError> {
    let internal = |error: std::io::Error| CliError::new(Kind::Machine, &error);
    let marker = Marker::random().map_err(internal)?;
    let none = Interception {
        marker,
        layer: None,
        alone: None,
        warning: None,
    };
    if !engine.layers() {
        return Ok(none);
    }
    let socket = directory.path().join(CALLS);
    let alone = engine == Engine::Layer;
    let facts = Facts {
        marker,
        hostname: &ready.hostname,
        files: &plan.files,
        paths: *paths != PathView::Native,
        asked: &[directory.path().to_owned()],
        unix_sockets: !plan.outgoing.unix.is_empty(),
        socket: alone.then_some(socket.as_path()),
        preload: std::path::Path::new(""),
    };
    let written = directory
        .shared()
        .map_err(internal)
        .and_then(|shared| layer::write(shared, &facts));
    match written {
        Ok(file) => Ok(Interception {
            layer: Some(file),
            alone: if alone {
                Some(Calls::listen(&socket, machine.memory).map_err(internal)?)
            } else {
                None
            },
            ..none
        }),
        Err(error) if alone => Err(error),
        Err(error) => Ok(Interception {
            warning: Some(format!(
                "the preloaded layer is not to be had, so common calls cost microseconds more: {}",
                error.message
            )),
            ..none
        }),
    }
}

/// Finds out, by trying.
pub(crate) fn machine() -> Machine {
    let without = std::env::var("INPOD_WITHOUT").unwrap_or_default();
    let off = |name| without.split(',').any(|off| off == name);
    Machine {
        why_no_trap: off("notification").then(|| "seccomp notification is switched off by INPOD_WITHOUT".to_owned()),
        memory: !off("process_vm"),
    }
}
