//! What runs now.

use std::path::PathBuf;

use crate::kubectl::Kubectl;
use crate::paths::Paths;
use crate::process::Process;
use crate::state::State;
use crate::{cgroups, network};

#[derive(Debug)]
pub struct Status {
    /// The node's programs, and whether each is alive.
    pub programs: Vec<(Process, bool)>,
    /// It came up completely, and nothing has ended since.
    pub running: bool,
    /// `kubectl get pods` of all namespaces; empty when the API server does not answer.
    pub pods: String,
    /// What a testbed that does not run has left on the machine: `down` removes it.
    pub leftovers: Vec<String>,
    pub user_kubeconfig: PathBuf,
    pub admin_kubeconfig: PathBuf,
}

/// Needs no root, except for the list of pods.
pub fn status() -> Status {
    let paths = Paths::of_workspace();
    let state = State::load(&paths.state());
    let running = state
        .as_ref()
        .is_some_and(|state| state.complete && state.dead().is_empty());
    let programs = state
        .into_iter()
        .flat_map(|state| state.node.into_iter().chain(state.programs));
    let programs = programs.map(|process| (process.clone(), process.is_alive())).collect();
    let mut leftovers = Vec::new();
    if !running {
        let found = [
            (network::is_joined(), format!("network device {}", network::LINK)),
            (cgroups::exist(), format!("control groups {}", cgroups::ROOT)),
            (paths.run().exists(), paths.run().display().to_string()),
        ];
        leftovers.extend(found.into_iter().filter(|(there, _)| *there).map(|(_, name)| name));
    }
    let admin = Kubectl::new(&paths, paths.admin_kubeconfig());
    let list = ["get", "pods", "--all-namespaces", "-o", "wide", "--request-timeout=5s"];
    let pods = if running {
        admin.run(&list).unwrap_or_default()
    } else {
        String::new()
    };
    let (user_kubeconfig, admin_kubeconfig) = (paths.user_kubeconfig(), paths.admin_kubeconfig());
    Status {
        programs,
        running,
        pods,
        leftovers,
        user_kubeconfig,
        admin_kubeconfig,
    }
}
