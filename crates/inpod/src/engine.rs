//! Which interceptors work in this session: what was asked for, and what this machine allows.

use std::path::PathBuf;

use config::EngineChoice;
use guest::image::Facts;
use guest::marker::Marker;
use guest::protocol::Ready;
use rules::Plan;
use session::Directory;
use trap::machine::{Capability, Explanation};
use trap::{Calls, Engine, PathView};

use crate::error::{CliError, Kind};
use crate::layer;
use crate::machine::Machine;

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
    match (wanted, machine.engine()) {
        (EngineChoice::Layer, _) => Ok(Engine::Layer),
        (EngineChoice::Auto, (engine, _)) => Ok(engine),
        (EngineChoice::Trap, (_, None)) => Ok(Engine::Trap),
        (EngineChoice::Trap, (_, Some((missing, Explanation { why, help })))) => Err(CliError {
            kind: Kind::Machine,
            message: format!(
                "the engine `trap` is not to be had here, since it needs {}: {why}",
                missing.name()
            ),
            causes: Vec::new(),
            hints: help
                .into_iter()
                .chain([
                    "the engine `layer` serves dynamic programs; `inpod doctor` says what this machine allows"
                        .to_owned(),
                ])
                .collect(),
        }),
    }
}

/// The engine as a session tells it, with the reason where `auto` could not take the better one.
pub(crate) fn told(engine: Engine, wanted: EngineChoice, machine: &Machine) -> String {
    match (wanted, machine.engine()) {
        (EngineChoice::Auto, (_, Some((missing, _)))) => {
            format!("engine: {engine}, because trap needs {}", missing.name())
        }
        _ => format!("engine: {engine}"),
    }
}

/// What would help a program that the layer alone cannot enter.
pub(crate) fn way_to_trap(machine: &Machine) -> String {
    match machine.engine() {
        (_, None) => "this machine allows the engine `trap`: leave out the setting `engine`".to_owned(),
        (_, Some((missing, Explanation { why, help }))) => {
            let to_do = help.map(|help| format!("{help}; ")).unwrap_or_default();
            format!("{to_do}the engine `trap` needs {}, and {why}", missing.name())
        }
    }
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
    let view = paths.place();
    let facts = Facts {
        view: view.as_deref(),
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
                Some(Calls::listen(&socket, machine.trap.has(Capability::ProcessMemory).is_ok()).map_err(internal)?)
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
